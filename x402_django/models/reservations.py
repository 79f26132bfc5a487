"""What payers have authorized and not yet been charged, under the scheme ``upto`` (threat 7).

A payment reserves its maximum from the moment its view may run (``verified``, committed) until it
is settled for less, waived or let go. The check against the payer's funds and that commit are
one write, as in ``exposure``: on SQLite one UPDATE under the only write lock there is, on
PostgreSQL after an advisory lock on the payer that is held until the commit.

The funds were read at a block before that. What has been settled in later blocks they still
contain, so it counts as reserved too: no moment is without one or the other.
"""

from __future__ import annotations

import zlib
from datetime import datetime
from typing import TYPE_CHECKING, Final

from x402_django.models.exposure import VENDORS
from x402_django.models.statements import Guard

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from x402_django.models.ledger import Payment

#: First key of the advisory locks, next to those of ``exposure``.
_LOCK: Final = 0x78343034

_RESERVED: Final = """
    COALESCE((SELECT {sum}(o.amount) FROM {table} o
     WHERE o.scheme = 'upto' AND o.payer = %s AND o.asset = %s AND o.network = %s
     AND (o.state IN ('verified', 'settling', 'reversed')
          OR (o.state IN ('settled', 'final')
              AND (o.block_number > %s
                   OR (o.block_number IS NULL AND o.settled_at >= %s))))), {zero}) <= %s
"""


def reservation_guard(
    payment: Payment,
    *,
    connection: BaseDatabaseWrapper,
    funds: int,
    block_number: int,
    read_at: datetime,
) -> Guard | None:
    """The condition under which the maximum of ``payment`` may be reserved; None if it never may.

    ``funds`` is what the payer could spend as of ``block_number``, in atomic units, and
    ``read_at`` when that was asked. Raises NotImplementedError on a database that this does not
    hold on.
    """
    if connection.vendor not in VENDORS:
        raise NotImplementedError(connection.vendor)
    left = funds - payment.amount
    if left < 0:
        return None
    amount = payment._meta.get_field("amount")
    is_postgresql = connection.vendor == "postgresql"
    condition = _RESERVED.format(
        table=connection.ops.quote_name(payment._meta.db_table),
        sum="SUM" if is_postgresql else "X402_PADDED_SUM",
        zero="0" if is_postgresql else "''",
    )
    parameters = (
        *(payment.payer, payment.asset, payment.network, block_number),
        payment._meta.get_field("settled_at").get_db_prep_value(read_at, connection),
        amount.get_db_prep_value(left, connection),
    )
    lock = zlib.crc32(payment.payer.encode()) - 2**31
    prelude = (
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; "
        f"SELECT pg_advisory_xact_lock({_LOCK}, {lock})"
    )
    return Guard(condition, parameters, prelude if is_postgresql else "")
