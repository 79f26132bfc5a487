"""How an attempt went."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """``error`` is a stable code, empty for a 2xx answer; ``text`` is the receiver's: escape it."""

    status: int | None
    error: str
    milliseconds: int
    text: str = ""
