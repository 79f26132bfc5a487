"""Times from a claim to its settlement, in bins: those of several days can be added up.

A quantile of the sum is known to within its bin, and taken to lie evenly in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

#: Upper ends of the bins, in seconds, included. The last bin has no end.
EDGES: Final = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 20, 30, 60, 300, 1800)
BINS: Final = len(EDGES) + 1


def ends() -> list[timedelta]:
    """``EDGES`` as durations."""
    return [timedelta(seconds=edge) for edge in EDGES]


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Seconds within which ``share`` of all settled; None if none did.

    ``counts`` are those of the bins. Of what is beyond the last edge nothing more is known than
    that: the answer is then that edge.
    """
    total = sum(counts)
    if not total:
        return None
    wanted = share * total
    below = 0
    for number, count in enumerate(counts[: len(EDGES)]):
        if count and below + count >= wanted:
            begin = EDGES[number - 1] if number else 0.0
            return begin + (EDGES[number] - begin) * (wanted - below) / count
        below += count
    return float(EDGES[-1])
