"""``manage.py x402_channels``: the periodic look at payment channels, once."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from x402_django.payments.claiming import claim_channels


class Command(BaseCommand):
    """The task ``claim_channels``, by hand or from a timer."""

    help = "Claim what is spent of payment channels, and follow claims that are on their way."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--all", action="store_true", help="do not wait for CHANNEL_CLAIM_AFTER"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(str(claim_channels(everything=options["all"])))
