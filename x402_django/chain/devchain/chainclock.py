"""The chain's time: what timestamp the next block gets, and which blocks have become due."""

from __future__ import annotations

from collections.abc import Callable

MAX_CATCH_UP_BLOCKS = 16
"""Blocks mined at once for a time in which nobody looked; older ones are skipped."""


class ChainClock:
    """A clock that can be moved, and a period at which blocks fall due. All in seconds.

    ``source`` gives the real time since the epoch; ``period`` 0 means that no block falls due.
    """

    def __init__(self, source: Callable[[], float], period: float) -> None:
        self._source = source
        self._period = period
        self._last_block = source()
        self._next_timestamp: int | None = None
        self.offset = 0.0

    def now(self) -> int:
        """Chain time."""
        return int(self._source() + self.offset)

    def set(self, timestamp: float) -> None:
        """Go on from ``timestamp``."""
        self.offset = timestamp - self._source()

    def fix_next(self, timestamp: int) -> None:
        """Give the next block exactly this timestamp, and go on from there."""
        self.set(timestamp)
        self._next_timestamp = timestamp

    def take_timestamp(self) -> int:
        """The timestamp of a block mined now."""
        fixed, self._next_timestamp = self._next_timestamp, None
        return self.now() if fixed is None else fixed

    def set_period(self, seconds: float) -> None:
        """Let a block fall due every so many seconds from now on."""
        self._period = seconds
        self.block_mined()

    def block_mined(self) -> None:
        """A block has just been mined: the next one falls due a period from now."""
        self._last_block = self._source()

    def restore(self, offset: float) -> None:
        """Go back to an earlier ``offset``; nothing is due."""
        self.offset = offset
        self._next_timestamp = None
        self.block_mined()

    def take_due(self) -> list[int]:
        """Timestamps of the blocks that have fallen due and were not mined, oldest first."""
        if not self._period:
            return []
        due = int((self._source() - self._last_block) / self._period)
        if due <= 0:
            return []
        start = self._last_block
        self._last_block = start + due * self._period
        first = max(due - MAX_CATCH_UP_BLOCKS, 0) + 1
        return [int(start + n * self._period + self.offset) for n in range(first, due + 1)]
