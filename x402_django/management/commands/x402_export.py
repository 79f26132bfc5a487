"""``manage.py x402_export``: receipts, refunds or gas of a period, as a file."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from x402_django.exceptions import ConfigurationError
from x402_django.reporting.exports import FORMATS, SUBJECTS, days, export

if TYPE_CHECKING:
    from x402_django.reporting.exports import Content


def _day(text: str) -> date:
    return date.fromisoformat(text)


class Command(BaseCommand):
    help = (
        "Write the receipts of some days, or the gas that settling cost, as CSV, XLSX, JSON Lines "
        "or Beancount."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--from", dest="first", type=_day, required=True, metavar="YYYY-MM-DD")
        parser.add_argument(
            "--to", dest="last", type=_day, required=True, metavar="YYYY-MM-DD",
            help="the last day that is in it, in the site's time zone",
        )  # fmt: skip
        parser.add_argument("--what", choices=list(SUBJECTS), default="receipts")
        parser.add_argument("--format", choices=list(FORMATS), default="csv")
        parser.add_argument("--merchant", type=int, metavar="ID", help="of this merchant alone")
        parser.add_argument("--output", metavar="FILE", help="default: standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write the file. Exits with 1, and a sentence, for what cannot be written."""
        from x402_django.models import ChainTransaction, Receipt, RefundReceipt

        if options["last"] < options["first"]:
            raise CommandError("--to is before --from.")
        what, merchant = options["what"], options["merchant"]
        if what == "gas" and merchant is not None:
            raise CommandError("Gas is the site's, and no merchant's: leave --merchant out.")
        rows: Any = ChainTransaction.objects.all()
        if what != "gas":
            rows = (RefundReceipt if what == "refunds" else Receipt)._default_manager.all()
            rows = rows if merchant is None else rows.filter(merchant=merchant)
        try:
            content = export(what, rows, days(options["first"], options["last"]), options["format"])
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        with ExitStack() as stack:
            self._write(content, self._file(options["output"], stack))

    def _file(self, name: str | None, stack: ExitStack) -> IO[bytes]:
        if name is None:
            return sys.stdout.buffer
        try:
            return stack.enter_context(Path(name).open("wb"))
        except OSError as error:
            raise CommandError(f"{name} cannot be written: {error.strerror}.") from error

    @staticmethod
    def _write(content: Content, file: IO[bytes]) -> None:
        for piece in content:  # of text, or of a file
            file.write(piece.encode() if isinstance(piece, str) else piece)
