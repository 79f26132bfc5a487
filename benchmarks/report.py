"""Tables of plain text, and what was wanted beside what was got."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from benchmarks.measure import Side, ratio


@dataclass(slots=True)
class Report:
    """Collects the verdicts while the tables are printed."""

    verdicts: list[tuple[str, str, str]] = field(default_factory=list)

    def heading(self, text: str) -> None:
        print(f"\n{text}\n{'─' * len(text)}")

    def line(self, text: str) -> None:
        print(f"  {text}")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print with the first column to the left, numbers to the right."""
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
        for row in (header, *rows):
            cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            print("  " + "   ".join((row[0].ljust(widths[0]), *cells)).rstrip())

    def sides(self, sides: Sequence[Side], ours: Side) -> None:
        """The table of a comparison, in milliseconds; the ratio is ours over that row."""
        header = ("milliseconds", "min", "median", "max", "p50", "p95", "ours/this")
        rows = []
        for side in sides:
            times = (
                min(side.medians),
                side.median,
                max(side.medians),
                side.percentile(50),
                side.percentile(95),
            )
            against = "" if side is ours else f"{ratio(ours, side):.2f}"
            rows.append((side.name, *(f"{time:.3f}" for time in times), against))
        self.table(header, rows)

    def wanted(self, what: str, got: str, met: bool) -> None:
        answer = "yes" if met else "NO"
        self.verdicts.append((what, got, answer))
        self.line(f"wanted: {what}, got: {got}, {answer}")

    def not_measured(self, what: str, why: str) -> None:
        self.verdicts.append((what, f"not measured: {why}", "-"))
        self.line(f"{what}: not measured: {why}")

    def summary(self) -> None:
        self.heading("Summary")
        self.table(("wanted", "got", ""), self.verdicts)


def machine_line() -> str:
    """Where the numbers come from."""
    names = ("Django", "x402", "Flask", "psycopg", "web3")
    versions = ", ".join(f"{name} {_version(name)}" for name in names)
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, "
        f"Python {platform.python_version()}, {versions}"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
