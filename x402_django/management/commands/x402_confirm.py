"""``manage.py x402_confirm``: one run of what the Celery task ``confirm_pending_payments`` does."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from x402_django.payments.confirmation import confirm_pending_payments


class Command(BaseCommand):
    help = "Resolve payments with an unknown outcome and confirm settled ones on chain."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--limit", type=int, default=500, help="payments per pass, oldest first (default 500)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        report = confirm_pending_payments(limit=options["limit"])
        self.stdout.write(str(report))
