"""How much a key of the facilitator service may ask for and spend, in fixed windows of time.

The counters are rows, and each step is one conditional UPDATE: any number of processes together
stay within the budget. Gas is taken before anything is sent, as much as a settlement may use at
the most, and what was not used is given back. A process that dies in between gives nothing back:
the key then has less until the hour is over, never more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import IntegrityError, router, transaction
from django.db.models import F, Value
from django.db.models.functions import Greatest

from x402_django import clock
from x402_django.constants import Code
from x402_django.exceptions import BudgetExceeded
from x402_django.models import FacilitatorKey, Payment
from x402_django.models import FacilitatorUsage as Usage

_MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)
#: How long the counters are kept, for people to look at.
KEPT: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class GasReservation:
    """Gas that was taken from a key's budget; ``counter`` is None where there is no limit."""

    counter: int | None
    gas: int

    def settle_up(self, used: int) -> None:
        """Give back what was not used; take what was used beyond it."""
        if self.counter is not None and used != self.gas:
            difference = F("used") + (used - self.gas)
            Usage.objects.filter(pk=self.counter).update(used=Greatest(difference, Value(0)))


def count_request(key: FacilitatorKey) -> None:
    """One more request of ``key``. Raises BudgetExceeded if that is one too many this minute."""
    if key.requests_per_minute is None:
        return
    begins_at = _window(_MINUTE)
    if _take(key, Usage.Measure.REQUESTS, begins_at, 1, key.requests_per_minute) is None:
        raise BudgetExceeded(retry_after=_seconds_left(begins_at + _MINUTE))


def reserve_gas(key: FacilitatorKey, gas: int) -> GasReservation:
    """Take ``gas`` from the budget of ``key``. Raises BudgetExceeded if less is left."""
    if key.gas_per_hour is None:
        return GasReservation(None, 0)
    begins_at = _window(_HOUR)
    counter = _take(key, Usage.Measure.GAS, begins_at, gas, key.gas_per_hour)
    if counter is None:
        raise _out_of_gas(begins_at)
    return GasReservation(counter, gas)


def refuse_without_gas(key: FacilitatorKey, gas: int) -> None:
    """Raise BudgetExceeded if ``reserve_gas`` would now. A look: nothing is taken."""
    if key.gas_per_hour is None:
        return
    begins_at = _window(_HOUR)
    counters = Usage.objects.filter(key=key, measure=Usage.Measure.GAS, begins_at=begins_at)
    used = counters.values_list("used", flat=True).first() or 0
    if used + gas > key.gas_per_hour:
        raise _out_of_gas(begins_at)


def gas_used(payment: Payment) -> int:
    """Gas of all that was sent for ``payment``: its share of each transaction."""
    from x402_django.chain.budget import gas_for

    return gas_for(payment)


def forget_old_counters() -> int:
    """Delete the counters of windows long over; returns how many."""
    return Usage.objects.filter(begins_at__lt=clock.now() - KEPT).delete()[0]


def _take(
    key: FacilitatorKey, measure: str, begins_at: datetime, amount: int, limit: int
) -> int | None:
    """Add ``amount`` to a counter unless that makes more than ``limit``; the counter's key."""
    rows = Usage.objects.using(router.db_for_write(Usage))
    counter = rows.filter(key=key, measure=measure, begins_at=begins_at)

    def add() -> int | None:
        if counter.filter(used__lte=limit - amount).update(used=F("used") + amount):
            return counter.values_list("pk", flat=True).get()
        return None

    taken = add()
    if taken is not None or amount > limit or counter.filter(used__gt=limit - amount).exists():
        return taken
    try:
        with transaction.atomic(using=rows.db):
            return rows.create(key=key, measure=measure, begins_at=begins_at, used=amount).pk
    except IntegrityError:  # another request has begun the window
        return add()


def _out_of_gas(begins_at: datetime) -> BudgetExceeded:
    return BudgetExceeded(
        "The gas that this API key may use per hour is used up.",
        code=Code.GAS_BUDGET_EXCEEDED,
        retry_after=_seconds_left(begins_at + _HOUR),
    )


def _window(length: timedelta) -> datetime:
    """When the present window of that length began."""
    seconds = int(length.total_seconds())
    return datetime.fromtimestamp(clock.timestamp() // seconds * seconds, UTC)


def _seconds_left(until: datetime) -> int:
    return max(int((until - clock.now()).total_seconds()) + 1, 1)
