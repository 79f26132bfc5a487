"""What can be exported, in which formats, and how such a file is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import IO, TYPE_CHECKING, Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from x402_django.reporting.beancount import as_beancount
from x402_django.reporting.records import (
    GAS_COLUMNS,
    RECEIPT_COLUMNS,
    Record,
    Span,
    gas_of,
    receipts_of,
    refunds_of,
)
from x402_django.reporting.text import as_csv, as_json_lines
from x402_django.reporting.workbook import as_workbook

if TYPE_CHECKING:
    from django.db.models import QuerySet

#: Text a piece at a time, or a file.
Content = Iterator[str] | IO[bytes]


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file. Another one is another entry of ``FORMATS``."""

    label: Any
    suffix: str
    content_type: str
    write: Callable[[Iterator[Record], Sequence[str]], Content]


FORMATS = {
    "csv": Format(_("CSV, for spreadsheets"), "csv", "text/csv; charset=utf-8", as_csv),
    "xlsx": Format(
        _("XLSX, for Excel"),
        "xlsx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        as_workbook,
    ),
    "jsonl": Format(
        _("JSON Lines, for programs"), "jsonl", "application/x-ndjson; charset=utf-8", as_json_lines
    ),
    "beancount": Format(
        _("Beancount, double entry"), "beancount", "text/plain; charset=utf-8", as_beancount
    ),
}

#: What can be exported: how it is read, and its columns.
SUBJECTS: dict[str, tuple[Any, Callable[[QuerySet[Any], Span], Iterator[Record]], Sequence[str]]]
SUBJECTS = {
    "receipts": (_("Receipts"), receipts_of, RECEIPT_COLUMNS),
    "refunds": (_("Refunds"), refunds_of, RECEIPT_COLUMNS),
    "gas": (_("Gas"), gas_of, GAS_COLUMNS),
}


def export(subject: str, rows: QuerySet[Any], span: Span, file_format: str) -> Content:
    """``rows`` of ``subject`` in ``span``, as ``FORMATS[file_format]``; read as it is written.

    Raises ConfigurationError where the library that writes the format is not installed.
    """
    _label, read, columns = SUBJECTS[subject]
    return FORMATS[file_format].write(read(rows, span), columns)


def days(first: date, last: date) -> Span:
    """From the beginning of ``first`` to the end of ``last``, in the current time zone."""
    begin, end = (
        timezone.make_aware(datetime.combine(day, time.min))
        for day in (first, last + timedelta(days=1))
    )
    return Span(begin, end)


def file_name(subject: str, first: date, last: date, file_format: str) -> str:
    """``receipts-2026-01-01-2026-01-31.csv``"""
    return f"{subject}-{first}-{last}.{FORMATS[file_format].suffix}"
