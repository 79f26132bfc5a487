"""The periodic tasks: what they are, how often they run, and whether they do.

Each run writes down when it began and how it ended, so that any process can tell whether workers,
beat and broker are alive, without asking them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, ParamSpec, TypeVar

from x402_django import clock
from x402_django.conf import x402
from x402_django.models import PeriodicRun

P = ParamSpec("P")
T = TypeVar("T")

#: The periodic tasks, and how many CONFIRMATION_INTERVALs lie between two runs of each.
TASKS: Final = {
    "confirm_pending_payments": 1,
    "settle_deferred": 1,
    "claim_channels": 1,
    "release_stale_claims": 6,
    "send_webhooks": 1,
    "send_refunds": 1,
    "number_receipts": 6,
    "send_alerts": 6,
    "count_days": 6,
}
#: Runs that may be missed before somebody should look, and the least time that is.
MISSED: Final = 3
PATIENCE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Condition:
    """How a periodic task does. ``age`` is that of its last complete run; None: there is none."""

    name: str
    age: timedelta | None
    is_overdue: bool
    #: The class of the exception by which its last run broke off; empty if it did not.
    failure: str = ""


def interval(name: str) -> timedelta:
    """The time between two runs of a periodic task."""
    return timedelta(seconds=TASKS[name] * x402.confirmation_interval)


def is_overdue(finished_at: datetime | None, between: timedelta) -> bool:
    """Whether what comes to its end every ``between`` has not done so for too long."""
    patience = max(MISSED * between, PATIENCE)
    return finished_at is None or finished_at < clock.now() - patience


def recorded(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator of what a periodic task does: writes down when it ran."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            with _recording(name):
                return function(*args, **kwargs)

        return run

    return decorate


@contextmanager
def _recording(name: str) -> Iterator[None]:
    PeriodicRun.objects.update_or_create(name=name, defaults={"started_at": clock.now()})
    rows = PeriodicRun.objects.filter(name=name)
    try:
        yield
    except Exception as error:
        rows.update(failed_at=clock.now(), failure=type(error).__name__[:100])
        raise
    rows.update(finished_at=clock.now(), failure="")


def conditions() -> list[Condition]:
    """How each periodic task does; one that never ran is overdue."""
    rows = {row.name: row for row in PeriodicRun.objects.filter(name__in=TASKS)}
    now = clock.now()
    found = []
    for name in TASKS:
        row = rows.get(name)
        finished_at = row.finished_at if row is not None else None
        found.append(
            Condition(
                name=name,
                age=None if finished_at is None else now - finished_at,
                is_overdue=is_overdue(finished_at, interval(name)),
                failure=row.failure if row is not None else "",
            )
        )
    return found
