"""Receipts: that their font can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.checks import CheckMessage, Error, register

from x402_django.checks.raw import TAG, path_of, value


@register(TAG)
def check_receipt_font(**kwargs: Any) -> list[CheckMessage]:
    """E081: ``RECEIPT_FONT`` is no file."""
    font = value("RECEIPT_FONT")
    if font is None or (isinstance(font, str | Path) and Path(font).is_file()):
        return []
    return [
        Error(
            f"{path_of('RECEIPT_FONT')} is not a file: {font!r}.",
            hint="Name a TrueType font, such as DejaVuSans.ttf, or remove the setting.",
            id="x402_django.E081",
        )
    ]
