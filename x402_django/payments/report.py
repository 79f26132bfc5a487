"""What one run of a periodic task did."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Counts:
    """Numbers, as a sentence for the log and the command line."""

    def __str__(self) -> str:
        counts = ((one.name.replace("_", " "), getattr(self, one.name)) for one in fields(self))
        return ", ".join(f"{name}: {count}" for name, count in counts)


@dataclass(slots=True)
class Report(Counts):
    """What one run of the look at the chain did, counted in payments."""

    settled: int = 0
    failed: int = 0
    final: int = 0
    reversed: int = 0
    still_unknown: int = 0
    out_of_reach: int = 0
