"""What payers owe the merchant under the flow ``deferred``, and who may owe more.

The rows of the ledger are the sum: nothing is counted twice or forgotten, whatever is killed.
A payment is owed from the moment its response may leave (``verified``, committed) until it is
settled, failed or expired. The check and that commit are one write. On SQLite it is one UPDATE,
which holds the only write lock there is; on PostgreSQL it follows advisory locks that are
held until the commit, on the payer and, where a limit for all is set, on everybody. So no number
of requests at once, on any number of machines, can owe more than the limits together. The lock on
everybody is not held while the disk is waited for: requests at once share that wait.
"""

from __future__ import annotations

import zlib
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from x402_django.models.ledger import Payment, Receipt
from x402_django.models.statements import Guard

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: Databases on which the limits hold under concurrency; elsewhere nothing is deferred.
VENDORS: Final = ("postgresql", "sqlite")

#: First keys of the advisory locks: ours, of all that an application may take in one database.
_PAYER_LOCK: Final = 0x78343032
_TOTAL_LOCK: Final = 0x78343033

#: Prices have eight decimals. PostgreSQL sums them exactly; on SQLite, where they are floats, each
#: is rounded to units of the last decimal, and integers are summed.
_UNITS: Final = 10**8
_PRICE: Final = {
    "postgresql": "o.price_usd",
    "sqlite": f"CAST(ROUND(o.price_usd * {_UNITS}) AS BIGINT)",
}
_OWED_SUM: Final = """
    (SELECT COALESCE(SUM({price}), 0) FROM {table} o
     WHERE o.flow = 'deferred' AND o.state IN ('verified', 'settling', 'reversed'){of_payer})
    + %s <= %s
"""
_NOT_IN_DEFAULT: Final = """
    NOT EXISTS (SELECT 1 FROM {table} o
     WHERE o.payer = %s AND o.state IN ('failed', 'expired') AND o.state_changed_at > %s
     AND o.kind = 'sale')
"""
_HAS_SETTLED: Final = """
    (SELECT COUNT(*) FROM (SELECT 1 FROM {receipts} r WHERE r.payer = %s LIMIT %s) paid) >= %s
"""


def exposure_guard(
    payment: Payment,
    price_usd: Decimal,
    *,
    connection: BaseDatabaseWrapper,
    per_payer: Decimal,
    total: Decimal | None,
    min_settled: int,
    failed_since: datetime,
) -> Guard:
    """The condition under which ``payment`` may be owed on top of what is owed already.

    ``price_usd``, ``per_payer`` and ``total`` are US dollars; ``min_settled`` is the number of
    receipts the payer must have. A payer of whom a settlement failed, or a payment
    expired, after ``failed_since`` is in default and may not.
    """
    table = connection.ops.quote_name(payment._meta.db_table)
    moment = payment._meta.get_field("state_changed_at").get_db_prep_value
    price = _summand(connection, price_usd, ROUND_CEILING)
    owed = partial(_OWED_SUM.format, table=table, price=_PRICE[connection.vendor])
    of_payer = owed(of_payer=" AND o.payer = %s")
    conditions = [_NOT_IN_DEFAULT.format(table=table), of_payer]
    parameters: list[Any] = [
        *(payment.payer, moment(failed_since, connection)),
        *(payment.payer, price, _summand(connection, per_payer, ROUND_FLOOR)),
    ]
    if min_settled:
        receipts = connection.ops.quote_name(Receipt._meta.db_table)
        conditions.append(_HAS_SETTLED.format(receipts=receipts))
        parameters += [payment.payer, min_settled, min_settled]
    locks = [(_PAYER_LOCK, zlib.crc32(payment.payer.encode()) - 2**31)]
    if total is not None:
        conditions.append(owed(of_payer=""))
        parameters += [price, _summand(connection, total, ROUND_FLOOR)]
        locks.append((_TOTAL_LOCK, 0))
    return Guard(
        condition=" AND ".join(conditions),
        parameters=tuple(parameters),
        prelude=_lock_sql(locks) if connection.vendor == "postgresql" else "",
        contended=total is not None,
    )


def _lock_sql(locks: list[tuple[int, int]]) -> str:
    # READ COMMITTED, whatever the site's default is: the sums must be of after the locks. In the
    # order given, payer before all, so that no two wait for each other.
    statements = [f"SELECT pg_advisory_xact_lock({first}, {second})" for first, second in locks]
    return "; ".join(["SET TRANSACTION ISOLATION LEVEL READ COMMITTED", *statements])


def _summand(connection: BaseDatabaseWrapper, dollars: Decimal, rounding: str) -> Decimal | int:
    """``dollars`` as something to compare with a sum of prices."""
    if connection.vendor == "postgresql":
        return dollars
    return int((dollars * _UNITS).to_integral_value(rounding))
