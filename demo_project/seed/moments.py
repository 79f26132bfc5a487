"""Moments as databases read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1)  # its offset is not written: UTC


def stamp(moment: float) -> str:
    """Seconds since the epoch as ``2026-03-01 12:00:00.250000``, UTC."""
    second = int(moment)
    return f"{_second(second)}.{int((moment - second) * 1e6):06}"


@lru_cache(maxsize=4096)
def _second(second: int) -> str:
    return str(_EPOCH + timedelta(seconds=second))


def aware(moment: float) -> datetime:
    """The same for the ORM."""
    return datetime.fromtimestamp(moment, tz=UTC)
