"""``manage.py x402_receipts``: one run of what the Celery task ``number_receipts`` does."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from x402_django.receipts.numbers import number_receipts


class Command(BaseCommand):
    help = "Give receipts of sales and refunds their numbers."

    def handle(self, *args: Any, **options: Any) -> None:
        done = 0
        while some := number_receipts():
            done += some
        self.stdout.write(f"numbered: {done}")
