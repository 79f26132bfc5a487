"""``manage.py x402_desk``: count the days of the dashboard, as the task ``count_days`` does."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from x402_django.desk import following
from x402_django.management.progress import Progress
from x402_django.models import CountedDay


class Command(BaseCommand):
    help = "Count the days of the dashboard on which something has changed, until none is left."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--rebuild", action="store_true", help="count every day anew")

    def handle(self, *args: Any, **options: Any) -> None:
        """Count, and say how many days it were."""
        if options["rebuild"]:
            following.rebuild()
        else:
            following.mark_changed()
        stale = CountedDay.objects.filter(is_stale=True).count()
        with Progress(self.stderr, "days", stale) as progress:
            done = following.count_days(budget=None, progress=progress.at)
        self.stdout.write(str(done))
