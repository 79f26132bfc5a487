"""``manage.py x402_settle``: one run of what the Celery task ``settle_deferred`` does."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from x402_django.payments.deferred import settle_deferred


class Command(BaseCommand):
    help = "Settle payments that were delivered under the flow 'deferred', oldest first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--limit", type=int, default=5000, help="payments to settle at most (default 5000)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(str(settle_deferred(limit=options["limit"])))
