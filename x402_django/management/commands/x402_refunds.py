"""``manage.py x402_refunds``: one run of what the Celery task ``send_refunds`` does."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from x402_django.payments.refunds.sending import send_refunds


class Command(BaseCommand):
    help = "Send approved refunds, and follow those that are on their way."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--limit", type=int, default=200, help="refunds of each kind at most (default 200)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(str(send_refunds(limit=options["limit"])))
