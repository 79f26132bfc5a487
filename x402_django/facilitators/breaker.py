"""Remembers, in this process, which facilitators have just failed.

A breaker decides whom to ask *first*, never whether a payment is good or where it is: that is in
the ledger. It may forget everything at any moment, and every process has its own.

    closed ──▶ open           after a number of failures in a row
    open ──▶ half-open        after the cool-down: one caller may try
    half-open ──▶ closed      the trial was answered
    half-open ──▶ open        it was not
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

logger = logging.getLogger("x402_django.facilitators")

#: The cool-down is stretched by up to this share, so that processes do not all try at once.
JITTER: Final = 0.25


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitBreaker:
    """The breaker of one facilitator. May be used by any number of threads.

    Args:
        name: the facilitator's alias, for the log.
        failures: how many in a row open it.
        cool_down: seconds it stays open at least; also how long a trial is waited for.
        monotonic: seconds on a clock that is never set back.
        jitter: a random number in [0, 1).
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int = 5,
        cool_down: float = 30.0,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._most = failures
        self._cool_down = cool_down
        self._monotonic = monotonic
        self._jitter = jitter
        self._lock = threading.Lock()
        self._state = BreakerState.CLOSED
        self._in_a_row = 0
        #: Open: when a trial is allowed. Half-open: when the trial is taken for lost.
        self._until = 0.0

    @property
    def state(self) -> BreakerState:
        """As of the last call; an open one becomes half-open when somebody asks ``admits``."""
        return self._state

    def admits(self) -> bool:
        """Whether the caller should ask now. Half-open, it says yes to one caller at a time."""
        with self._lock:
            if self._state is BreakerState.CLOSED:
                return True
            if self._monotonic() < self._until:
                return False
            self._until = self._monotonic() + self._cool_down
            self._become(BreakerState.HALF_OPEN, logging.INFO, "one request is let through")
            return True

    def succeeded(self) -> None:
        """It gave a proper answer, whatever the answer was."""
        with self._lock:
            self._in_a_row = 0
            if self._state is not BreakerState.CLOSED:
                self._become(BreakerState.CLOSED, logging.INFO, "it answers again")

    def failed(self) -> None:
        """It could not be reached, or gave no proper answer."""
        with self._lock:
            self._in_a_row += 1
            if self._state is BreakerState.CLOSED and self._in_a_row < self._most:
                return
            if self._state is BreakerState.OPEN:
                return  # asked all the same, because the others were open too
            pause = self._cool_down * (1 + JITTER * self._jitter())
            self._until = self._monotonic() + pause
            self._become(
                BreakerState.OPEN,
                logging.WARNING,
                f"{self._in_a_row} failures in a row; asked last for {pause:.0f} seconds",
            )

    def _become(self, state: BreakerState, level: int, why: str) -> None:
        if state is not self._state:
            logger.log(level, "Facilitator %s: breaker %s (%s)", self.name, state.value, why)
        self._state = state
