"""The one source of time, so that tests can move it.

Code asks ``clock.now()`` (an aware datetime) or ``clock.timestamp()`` (whole seconds, the unit
of ``validAfter``/``validBefore`` in EIP-3009) and never the standard library directly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.utils import timezone

_source: Callable[[], datetime] = timezone.now


def now() -> datetime:
    """The current time, timezone-aware, in UTC."""
    return _source()


def timestamp() -> int:
    """The current time in whole seconds since the Unix epoch."""
    return int(now().timestamp())


@contextmanager
def shifted(delta: timedelta) -> Iterator[None]:
    """Run the block with the clock moved by ``delta``. For tests; affects the whole process."""
    global _source
    previous = _source
    _source = lambda: previous() + delta  # noqa: E731
    try:
        yield
    finally:
        _source = previous
