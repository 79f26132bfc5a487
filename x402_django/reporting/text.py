"""CSV and JSON Lines, a record at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

from x402_django.reporting.records import Record

#: What spreadsheets take for the beginning of a formula (OWASP, "CSV Injection"), full-width forms
#: included; descriptions and URLs are not ours alone to choose.
_FORMULA_BEGINS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class _Line:
    """What ``csv.writer`` writes to; gives the line back."""

    def write(self, text: str) -> str:
        return text


def as_csv(records: Iterator[Record], columns: Sequence[str]) -> Iterator[str]:
    """RFC 4180, with a line of column names. Text that looks like a formula gets an apostrophe."""
    writer = csv.writer(_Line())
    yield writer.writerow(columns)
    for record in records:
        yield writer.writerow([_cell(record[name]) for name in columns])


def as_json_lines(records: Iterator[Record], columns: Sequence[str]) -> Iterator[str]:
    """A JSON object a line. Numbers are texts: JSON's would be read as floats, and rounded."""
    for record in records:
        line = {name: _exact(record[name]) for name in columns}
        yield json.dumps(line, ensure_ascii=False) + "\n"


def defused(text: str) -> str:
    """``text``, which no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA_BEGINS) else text


def _cell(value: Any) -> str:
    return defused(value) if isinstance(value, str) else _exact(value) or ""


def _exact(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
