"""XLSX, by openpyxl (the extra ``xlsx``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final

from x402_django.exceptions import ConfigurationError
from x402_django.reporting.records import Record

#: Rows of a sheet, its heading among them; the format's own limit.
_MOST_ROWS: Final = 1_048_576
#: Numbers of more digits would be rounded by every spreadsheet.
_EXACT_DIGITS: Final = 15
_IN_MEMORY: Final = 1024 * 1024


def as_workbook(records: Iterator[Record], columns: Sequence[str]) -> IO[bytes]:
    """A file, at its beginning, of one sheet; of further ones where a sheet is full.

    Text is text, whatever it begins with: no cell is a formula. Raises ConfigurationError where
    openpyxl is not installed.
    """
    try:
        from openpyxl import Workbook
    except ImportError:
        raise ConfigurationError(
            "XLSX needs openpyxl: pip install 'x402-django[xlsx]'. CSV does without."
        ) from None
    book = Workbook(write_only=True)
    sheet: Any = None
    rows = _MOST_ROWS
    for record in records:
        if rows == _MOST_ROWS:
            sheet, rows = _new_sheet(book, columns), 1
        sheet.append([_cell(sheet, record[name]) for name in columns])
        rows += 1
    if sheet is None:
        _new_sheet(book, columns)
    file = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  (the caller's to close)
    book.save(file)
    file.seek(0)
    return file


def _new_sheet(book: Any, columns: Sequence[str]) -> Any:
    sheet = book.create_sheet()
    sheet.freeze_panes = "A2"
    sheet.append(list(columns))
    return sheet


def _cell(sheet: Any, value: Any) -> Any:
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    if isinstance(value, int | Decimal) and len(Decimal(value).as_tuple().digits) <= _EXACT_DIGITS:
        return value
    if value is None:
        return None
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    cell = WriteOnlyCell(sheet, value=ILLEGAL_CHARACTERS_RE.sub("", text))
    cell.data_type = "s"  # never "f", which openpyxl makes of what begins with "="
    return cell
