"""``manage.py x402_alerts``: one run of what the Celery task ``send_alerts`` does."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from x402_django.payments.alerts import send_alerts


class Command(BaseCommand):
    help = "Tell by e-mail what needs somebody, to the recipients in X402['ALERTS']."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(str(send_alerts()))
