"""Timing several sides in turns, and what to make of the numbers."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

from benchmarks.wsgi import Application, call

#: The environs of so many requests of one side, made before its clock runs.
Requests = Callable[[int], Iterable[dict[str, Any]]]


@dataclass(slots=True)
class Side:
    """One of the things that are compared: an application and the requests it gets.

    ``status`` is what it must answer; ``around`` is entered for each of its turns. Times are
    milliseconds.
    """

    name: str
    app: Application
    requests: Requests
    status: int
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    rounds: list[list[float]] = field(default_factory=list)

    def take_turn(self, calls: int) -> list[float]:
        """Milliseconds of each of ``calls`` requests."""
        environs = list(self.requests(calls))
        times = []
        with self.around():
            gc.collect()
            for environ in environs:
                started = perf_counter_ns()
                answer = call(self.app, environ)
                times.append((perf_counter_ns() - started) / 1e6)
                if answer.status != self.status:
                    raise RuntimeError(f"{self.name}: {answer.status} {answer.body[:200]!r}")
        return times

    @property
    def medians(self) -> list[float]:
        """The median of each round."""
        return [statistics.median(times) for times in self.rounds]

    @property
    def median(self) -> float:
        """The median of the rounds' medians."""
        return statistics.median(self.medians)

    def percentile(self, percent: int) -> float:
        """Over all requests of all rounds."""
        every = sorted(time for times in self.rounds for time in times)
        return every[min(len(every) - 1, len(every) * percent // 100)]


def run_in_turns(sides: Sequence[Side], *, rounds: int, calls: int) -> None:
    """Measure all ``sides``, A B C, C B A, …, after a warm-up."""
    for side in sides:
        side.take_turn(max(20, calls // 4))
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            side.rounds.append(side.take_turn(calls))


def ratio(ours: Side, theirs: Side) -> float:
    """``ours``/``theirs``: the median of the ratios within each round."""
    pairs = zip(ours.medians, theirs.medians, strict=True)
    return statistics.median(a / b for a, b in pairs)


def added(side: Side, base: Side, percent: int) -> float:
    """Milliseconds that ``side`` has more than ``base`` at a percentile of each."""
    return side.percentile(percent) - base.percentile(percent)
