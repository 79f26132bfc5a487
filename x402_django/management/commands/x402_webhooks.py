"""``manage.py x402_webhooks``: one run of what the Celery task ``send_webhooks`` begins."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from x402_django.webhooks import delivery


class Command(BaseCommand):
    help = "Write the webhook messages of what happened, and send those that are due."

    def handle(self, *args: Any, **options: Any) -> None:
        swept = delivery.sweep()
        arrived = sum(delivery.deliver(one) for one in swept.due)
        self.stdout.write(f"{swept}, arrived: {arrived}")
