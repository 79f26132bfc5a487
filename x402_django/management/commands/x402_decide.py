"""``manage.py x402_decide``: what became of a payment on a network that the site cannot read."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from x402_django.exceptions import InvalidTransition, SettlementUnknown
from x402_django.models import Payment
from x402_django.payments.deciding import decide


class Command(BaseCommand):
    help = (
        "Say what became of a payment on a network that this site cannot read (Solana, or one "
        "without RPC_URLS), whose facilitator never told. Look at the payee's account in a block "
        "explorer first: what you say is booked."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("payment", help="the payment's public id")
        outcome = parser.add_mutually_exclusive_group(required=True)
        outcome.add_argument("--paid", metavar="TRANSACTION", help="the transaction that paid it")
        outcome.add_argument("--unpaid", action="store_true", help="nothing came")

    def handle(self, *args: Any, **options: Any) -> None:
        """Book it, or say why not."""
        payment = Payment.objects.filter(public_id=options["payment"]).first()
        if payment is None:
            raise CommandError(f"There is no payment {options['payment']!r}.")
        try:
            decide(payment, transaction=options["paid"], who=getpass.getuser())
        except InvalidTransition as why:
            raise CommandError(str(why)) from why
        except SettlementUnknown as why:
            raise CommandError("That transaction backs another payment already.") from why
        self.stdout.write(f"{payment.public_id} is {payment.get_state_display()}.")
