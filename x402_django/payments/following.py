"""Reading the ledger's append-only rows in the order of their keys, and missing none.

Keys are given before rows are committed, so a row may appear below ones that were read already. A
reader therefore keeps its cursor ``OVERLAP`` behind the newest row, and sees rows twice.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

#: No transaction of the ledger stays open that long.
OVERLAP: Final = timedelta(minutes=5)


def last_before(model: Any, moment: str, at: datetime) -> int:
    """The newest key older than ``at``: read backwards from the newest, so a few rows."""
    rows = model.objects.filter(**{f"{moment}__lt": at}).order_by("-pk")
    return rows.values_list("pk", flat=True).first() or 0
