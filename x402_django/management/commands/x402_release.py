"""``manage.py x402_release``: one run of what the Celery task ``release_stale_claims`` does."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from x402_django.payments.housekeeping import tidy_up


class Command(BaseCommand):
    help = "Release the claims of dead processes and empty stored responses past their time."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(str(tidy_up()))
