"""``manage.py x402_release``: one run of what the Celery task ``release_stale_claims`` does."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from x402_django.payments.maintenance import purge_stored_responses, release_stale_claims


class Command(BaseCommand):
    help = "Release the claims of dead processes and empty stored responses past their time."

    def handle(self, *args: Any, **options: Any) -> None:
        released = release_stale_claims()
        purged = purge_stored_responses()
        self.stdout.write(f"released: {released}, stored responses emptied: {purged}")
