"""What one run of the periodic look at the chain did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Report:
    """What one run did, counted in payments."""

    settled: int = 0
    failed: int = 0
    final: int = 0
    reversed: int = 0
    still_unknown: int = 0
    out_of_reach: int = 0

    def __str__(self) -> str:
        counts = ((name.replace("_", " "), getattr(self, name)) for name in self.__slots__)
        return ", ".join(f"{name}: {count}" for name, count in counts)
