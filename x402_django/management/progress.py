"""A bar for people who wait; nothing where nobody watches."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")

_WIDTH: Final = 30
#: Seconds between two drawings.
_PAUSE: Final = 0.1


class Progress:
    """``[#####.........]  35 %  what 12 of 34`` on one line of ``stream``, if it is a terminal.

    Inside a ``with`` block; the line is gone afterwards.
    """

    def __init__(self, stream: Any, what: str, total: int) -> None:
        self._stream = stream
        self._what = what
        self._total = total
        self._shown = total > 0 and bool(stream.isatty())
        self._length = 0
        self._drawn_at = 0.0

    def at(self, done: int) -> None:
        """So much of the total is done."""
        now = time.monotonic()
        if not self._shown or (now - self._drawn_at < _PAUSE and done < self._total):
            return
        self._drawn_at = now
        done = min(done, self._total)
        full = _WIDTH * done // self._total
        share = 100 * done // self._total
        bar = "#" * full + "." * (_WIDTH - full)
        self._draw(f"[{bar}] {share:3} %  {self._what} {done} of {self._total}")

    def between(self, write: Callable[[T], None]) -> Callable[[T], None]:
        """``write``, made to clear the line before it writes."""

        def cleared(value: T) -> None:
            self.clear()
            write(value)

        return cleared

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()

    def _draw(self, line: str) -> None:
        self._write("\r" + line.ljust(self._length))
        self._length = len(line)

    def clear(self) -> None:
        """Take the line away, as at the end of the block."""
        if self._length:
            self._write("\r" + " " * self._length + "\r")
            self._length = 0

    def _write(self, text: str) -> None:
        # Django's wrapper would colour it as an error.
        stream = getattr(self._stream, "_out", self._stream)
        stream.write(text)
        stream.flush()
