"""Which days have changed, and the periodic run that counts them.

Every transition of a payment is an append-only event, so new events name the days to count: their
own, and that of the payment's receipt. They are read in the order of their keys
(``payments.following``); what gas has cost is known when a transaction was seen mined, and a refund
when it has its receipt. The days are marked first and the cursor moves after that, and a day is
counted in one transaction with taking its mark away. So whatever is killed where, and however many
run at once, a day whose rows are not those of the ledger is marked, or what will mark it lies after
the cursor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from time import monotonic
from typing import Final

from django.db import router, transaction
from django.db.models import Max, Min

from x402_django import clock
from x402_django.desk import challenges
from x402_django.desk.counting import count_day
from x402_django.desk.days import day_at, days_between, zone_name
from x402_django.models import (
    ChainTransaction,
    CountedDay,
    DeskCursor,
    PaymentEvent,
    Receipt,
    RefundReceipt,
)
from x402_django.models.desk import day_of
from x402_django.payments.following import OVERLAP, last_before
from x402_django.payments.periodic import recorded

#: Rows that are looked at in one statement.
CHUNK: Final = 20_000
#: Seconds after which a run leaves the rest, the oldest days, to the next one.
BUDGET: Final = 20.0


@dataclass(slots=True)
class Counted:
    """How many days a run has counted, and how many are still to be counted."""

    days: int = 0
    left: int = 0

    def __str__(self) -> str:
        return f"days counted: {self.days}, to be counted: {self.left}"


@recorded("count_days")
def count_days(
    *, budget: float | None = BUDGET, progress: Callable[[int], None] = lambda days: None
) -> Counted:
    """Count what has changed since the last time, the newest days first.

    ``budget`` is in seconds; None: until nothing is left. ``progress`` gets the days done so far.
    """
    challenges.flush()
    mark_changed()
    began = monotonic()
    done = Counted()
    for day in _stale():
        done.days += count_day(day)
        progress(done.days)
        if budget is not None and monotonic() - began > budget:
            break
    done.left = CountedDay.objects.filter(is_stale=True).count()
    return done


def rebuild() -> int:
    """Have every day counted anew by the runs that follow; how many there are.

    What was counted is shown until then.
    """
    since = clock.now() - OVERLAP
    place = {
        "event": last_before(PaymentEvent, "at", since),
        "since": since,
        "time_zone": zone_name(),
    }
    with transaction.atomic(using=router.db_for_write(DeskCursor)):
        DeskCursor.objects.update_or_create(single=1, defaults=place)
        # Also those that there were: days may have been cut elsewhere.
        days = {*_days_of_ledger(), *CountedDay.objects.values_list("day", flat=True)}
        CountedDay.mark(days)
    return len(days)


def mark_changed() -> None:
    """Mark the days that rows concern which were written since the last time."""
    cursor = DeskCursor.objects.filter(time_zone=zone_name()).first()
    if cursor is None:
        rebuild()  # the first run, or days are cut elsewhere now
        return
    since = clock.now() - OVERLAP
    behind = last_before(PaymentEvent, "at", since)
    newest = PaymentEvent.objects.aggregate(pk=Max("pk"))["pk"] or 0
    for start in range(cursor.event, newest, CHUNK):
        CountedDay.mark(_days_of_events(start, start + CHUNK))
    CountedDay.mark(_days_of_gas(cursor.since) | _days_of_refunds(cursor.since))
    # Unless another run has moved it meanwhile, which has seen the same.
    DeskCursor.objects.filter(event=cursor.event, since=cursor.since).update(
        event=behind, since=since
    )


def _days_of_events(after: int, until: int) -> set[date]:
    rows = PaymentEvent.objects.filter(pk__gt=after, pk__lte=until).order_by()
    pairs = rows.values_list(day_of("at"), day_of("payment__receipt__issued_at")).distinct()
    return {day for pair in pairs for day in pair if day is not None}


def _days_of_gas(since: datetime) -> set[date]:
    rows = ChainTransaction.objects.filter(mined_at__gte=since).order_by()
    return set(rows.values_list(day_of("created_at"), flat=True).distinct())


def _days_of_refunds(since: datetime) -> set[date]:
    rows = RefundReceipt.objects.filter(issued_at__gte=since).order_by()
    return set(rows.values_list(day_of("issued_at"), flat=True).distinct())


def _days_of_ledger() -> list[date]:
    moments: list[datetime] = []
    for model, moment in (
        (Receipt, "issued_at"),
        (RefundReceipt, "issued_at"),
        (PaymentEvent, "at"),
        (ChainTransaction, "created_at"),
    ):
        ends = model._default_manager.aggregate(first=Min(moment), last=Max(moment))
        moments += [end for end in ends.values() if end is not None]
    return days_between(day_at(min(moments)), day_at(max(moments))) if moments else []


def _stale() -> list[date]:
    rows = CountedDay.objects.filter(is_stale=True).order_by("-day")
    return list(rows.values_list("day", flat=True))
