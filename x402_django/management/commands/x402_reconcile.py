"""``manage.py x402_reconcile``: the ledger against the chain, for a period, to the unit."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from datetime import datetime, time
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseTrouble
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from x402_django.conf import x402
from x402_django.exceptions import ConfigurationError, RpcUnavailable
from x402_django.management.progress import Progress
from x402_django.management.reconciliation import AsJson, AsText, Presentation
from x402_django.models import Receipt
from x402_django.protocol.networks import is_evm

if TYPE_CHECKING:
    from x402_django.payments.period import Period


class Command(BaseCommand):
    """Exits with 0 if the books are in order, 1 if not, 2 if that could not be found out."""

    help = (
        "Compare the ledger with the chain: every transfer to our addresses must have a receipt, "
        "and every receipt a transfer. Exit status: 0 in order, 1 not in order, 2 not known."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--network", help="one network (CAIP-2) instead of all")
        parser.add_argument(
            "--since",
            type=moment,
            metavar="DATE",
            help="from this date or time on (default: the ledger's first payment)",
        )
        parser.add_argument(
            "--until",
            type=moment,
            metavar="DATE",
            help="before this date or time (default: the newest block)",
        )
        parser.add_argument("--from-block", type=block, metavar="N", help="the first block")
        parser.add_argument("--to-block", type=block, metavar="N", help="the last block")
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        """Reconcile each network, then exit as the class says."""
        from x402_django.payments.reconciliation import reconcile  # loads web3

        shown: Presentation = (AsJson if options["json"] else AsText)(self.stdout)
        try:
            for network in self._networks(options):
                period = self._period(network, options)
                shown.begin(period)
                progress = Progress(self.stderr, f"{network} blocks", period.blocks)
                with progress:
                    report = reconcile(
                        period, found=progress.between(shown.finding), progress=progress.at
                    )
                shown.end(report)
        except (RpcUnavailable, ConfigurationError) as error:
            shown.break_off(str(error))
            raise CommandError(str(error), returncode=2) from error
        except DatabaseTrouble as error:
            why = f"The ledger could not be read ({type(error).__name__})."
            shown.break_off(why)
            raise CommandError(why, returncode=2) from error
        shown.finish()
        if not shown.in_order:
            sys.exit(1)

    def _networks(self, options: dict[str, Any]) -> list[str]:
        blocks = options["from_block"] is not None or options["to_block"] is not None
        if blocks and (options["since"] or options["until"]):
            raise CommandError("Give a period in time or in blocks, not both.", returncode=2)
        if options["network"]:
            if options["network"] not in x402.networks:
                raise CommandError(
                    f"X402['NETWORKS'] has no entry for {options['network']!r}.", returncode=2
                )
            if not is_evm(options["network"]):
                raise CommandError(_not_read(options["network"]), returncode=2)
            return [options["network"]]
        readable = {name for name, network in x402.networks.items() if network.has_rpc}
        booked = set(Receipt.objects.order_by().values_list("network", flat=True).distinct())
        for network in sorted(booked):
            if not is_evm(network):
                self.stderr.write(_not_read(network))
        networks = sorted(name for name in readable | booked if is_evm(name))
        if blocks and len(networks) > 1:
            raise CommandError("Blocks are those of one network: add --network.", returncode=2)
        return networks

    def _period(self, network: str, options: dict[str, Any]) -> Period:
        from x402_django.payments.period import period_by_blocks, period_by_time

        first, last = options["from_block"], options["to_block"]
        if first is not None or last is not None:
            return period_by_blocks(network, first, last)
        return period_by_time(network, options["since"], options["until"])


def _not_read(network: str) -> str:
    count = Receipt.objects.filter(network=network).count()
    return (
        f"{network} is not read by this site: its {count} receipts rest on the facilitator's word "
        "and are not compared."
    )


def moment(text: str) -> datetime:
    """A date (its first moment) or a time, in the site's time zone unless it names another."""
    try:
        found = parse_datetime(text) if len(text) > 10 else None
        day = parse_date(text) if found is None else None
    except ValueError:
        found = day = None
    if day is not None:
        found = datetime.combine(day, time.min)
    if found is None:
        raise ArgumentTypeError(f"{text!r} is not a date such as 2026-03-31")
    return timezone.make_aware(found) if timezone.is_naive(found) else found


def block(text: str) -> int:
    """A block number."""
    if not (text.isascii() and text.isdecimal()):
        raise ArgumentTypeError(f"{text!r} is not a block number")
    return int(text)
