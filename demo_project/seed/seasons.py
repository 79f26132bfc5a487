"""When people and agents buy: two years that grow, with weekdays, hours and bursts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from math import cos, pi
from random import Random
from typing import Final

DAYS: Final = 730
#: Seconds before now that belong to the payments which are still under way.
QUIET: Final = 1200
_DAY: Final = 86_400
#: Monday to Sunday.
_WEEK: Final = (1.0, 1.05, 1.05, 1.0, 0.95, 0.7, 0.6)
#: By hour, UTC: least at four in the morning.
_HOURS: Final = tuple(accumulate(1.2 - cos((hour - 4) * pi / 12) for hour in range(24)))
#: A burst is as long as this exponent of Pareto makes it, and no longer than the bound.
_BURST_SHAPE: Final = 1.2
_LONGEST_BURST: Final = 100


def bursts(rows: int, now: datetime, rng: Random) -> Iterator[tuple[float, int]]:
    """``(start, payments)`` in the order of their start, seconds since the epoch; ``rows`` in all.

    An agent that buys, buys several times in a row.
    """
    end = now.astimezone(UTC) - timedelta(seconds=QUIET)
    first = end - timedelta(days=DAYS)
    busy = list(accumulate(_busy(first + timedelta(days=day), day, rng) for day in range(DAYS)))
    done = 0
    for day in range(DAYS):
        due = round(rows * busy[day] / busy[-1])
        sizes = list(_sizes(due - done, rows - done, rng))
        done += sum(sizes)
        starts = sorted(_moments(first + timedelta(days=day), len(sizes), rng))
        yield from zip(starts, sizes, strict=True)


def _busy(date: datetime, day: int, rng: Random) -> float:
    """How much is bought that day: four times as much at the end as at the beginning."""
    return (1 + 3 * day / DAYS) * _WEEK[date.weekday()] * rng.uniform(0.85, 1.15)


def _sizes(due: int, most: int, rng: Random) -> Iterator[int]:
    """Bursts of ``due`` payments together, the last of which may go beyond that, to ``most``."""
    done = 0
    while done < due:
        size = min(most - done, _LONGEST_BURST, int(rng.paretovariate(_BURST_SHAPE)))
        done += size
        yield size


def _moments(start: datetime, count: int, rng: Random) -> Iterator[float]:
    """``count`` moments of the day that begins at ``start``, more of them at busy hours."""
    begins = start.timestamp()
    midnight = begins - begins % _DAY
    for hour in rng.choices(range(24), cum_weights=_HOURS, k=count):
        moment = midnight + 3600 * (hour + rng.random())
        yield moment if moment >= begins else moment + _DAY
