"""A made-up ledger on the dashboard: days counted, and challenges beside what was paid."""

from __future__ import annotations

import time
from random import Random
from typing import Any, Final

from django.db.models import Sum

from x402_django.constants import Code
from x402_django.desk.following import count_days, mark_changed
from x402_django.management.progress import Progress
from x402_django.models import ChallengeCount, CountedDay, DailySales

#: How many are asked for each that pays, at least and at most, depending on what is sold.
_ASKED: Final = (3.0, 14.0)


def fill_dashboard(number: int, stream: Any) -> float:
    """Count every day and make challenges up; the seconds it took.

    The challenges are those of ``number``, whenever it is called; days that have some are left.
    """
    started = time.monotonic()
    mark_changed()
    with Progress(stream, "days", CountedDay.objects.filter(is_stale=True).count()) as days:
        count_days(budget=None, progress=days.at)
    _ask(number)
    return time.monotonic() - started


def _ask(number: int) -> None:
    rng = Random(f"challenges {number}")
    keys = ("day", "merchant_id", "rule_name")
    sold = DailySales.objects.values(*keys).annotate(count=Sum("paid")).order_by(*keys)
    eagerness: dict[str, float] = {}
    rows = []
    for row in sold:
        times = eagerness.setdefault(row["rule_name"], rng.uniform(*_ASKED))
        asked = int(row.pop("count") * times * rng.uniform(0.8, 1.25)) + 1
        rows.append(ChallengeCount(**row, code=Code.PAYMENT_REQUIRED, count=asked))
    ChallengeCount.objects.bulk_create(rows, batch_size=1000, ignore_conflicts=True)
