"""One call for many threads: who finds no call in flight makes one for all that wait.

Nobody waits for company: a thread that is alone calls at once, and what arrives during a call
goes into the next. So calls carry as much as the traffic, and none is later for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False, slots=True)
class _Ticket(Generic[Item, Result]):
    item: Item
    results: list[Result] = field(default_factory=list)
    called: threading.Event = field(default_factory=threading.Event)


class Combiner(Generic[Item, Result]):
    """Turns ``work``, which answers for many items at once, into a function of one.

    Args:
        work: the results of items, in their order. What it raises hits the thread that runs it
            and no other: the rest are called for again. So let it return what concerns all.
        most: items for one call.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Result]], *, most: int) -> None:
        self._work = work
        self._most = most
        self._lock = threading.Lock()
        self._waiting: list[_Ticket[Item, Result]] = []
        self._in_flight = False

    def __call__(self, item: Item) -> Result:
        """The result of ``item``."""
        ticket = _Ticket[Item, Result](item)
        with self._lock:
            self._waiting.append(ticket)
            waits = self._in_flight
            self._in_flight = True
        if waits:
            ticket.called.wait()
        if not ticket.results:  # called to lead
            self._lead()
        return ticket.results[0]

    def _lead(self) -> None:
        """One call for those who wait, this thread first; then the next of them leads."""
        with self._lock:
            taken, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        answered = taken[:1]  # without an answer, if this breaks off
        try:
            results = self._work([ticket.item for ticket in taken])
            for ticket, result in zip(taken, results, strict=True):
                ticket.results.append(result)
            answered = taken
        finally:
            with self._lock:
                self._waiting[:0] = taken[len(answered) :]
                following = self._waiting[:1]
                self._in_flight = bool(following)
            for ticket in (*answered, *following):
                ticket.called.set()
