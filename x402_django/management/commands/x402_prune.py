"""``manage.py x402_prune``: forget what need not be kept. Receipts are never touched."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from x402_django.management.progress import Progress
from x402_django.payments.pruning import count, least_age, prune


class Command(BaseCommand):
    help = (
        "Empty stored responses past their time, delete payments that were never charged, and, if "
        "asked to, empty what came with charged ones beside the receipt's facts, and webhook "
        "messages that nobody waits for."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--uncharged-after",
            type=int,
            default=30,
            metavar="DAYS",
            help="delete rejected, released, failed and expired payments this old (default 30)",
        )
        parser.add_argument(
            "--personal-after",
            type=int,
            metavar="DAYS",
            help="empty signatures and extensions of charged payments this old (default: never)",
        )
        parser.add_argument(
            "--webhooks-after",
            type=int,
            metavar="DAYS",
            help="empty webhook messages this old that nobody waits for (default: never)",
        )
        parser.add_argument("--dry-run", action="store_true", help="count, and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prune, and say what was done."""
        uncharged = timedelta(days=options["uncharged_after"])
        days = options["personal_after"]
        personal = None if days is None else timedelta(days=days)
        if uncharged < least_age():
            raise CommandError(
                f"Uncharged payments are kept for {least_age().days} days at least: who failed "
                "lately pays before the view (FAILED_PAYER_MEMORY)."
            )
        if personal is not None and days < 1:
            raise CommandError("--personal-after is at least 1 day.")
        days = options["webhooks_after"]
        webhooks = None if days is None else timedelta(days=days)
        if webhooks is not None and days < 1:
            raise CommandError("--webhooks-after is at least 1 day.")
        found = count(uncharged=uncharged, personal=personal, webhooks=webhooks)
        if options["dry_run"]:
            self.stdout.write(f"Would do: {found}")
            return
        progress = Progress(self.stderr, "rows", found.uncharged + found.personal + found.webhooks)
        with progress:
            done = prune(
                uncharged=uncharged, personal=personal, webhooks=webhooks, progress=progress.at
            )
        self.stdout.write(str(done))
