"""The ledger's writes on the path of every paid request, as few and as ready-made as can be.

A paid request writes three times: it claims, begins to settle, has settled. Through the ORM that
is twelve round trips to the database, and the building of SQL costs more than all else a paid
request does in Python. Here the SQL is built once, and on PostgreSQL each write is one statement,
which is a transaction of its own: all of it happens or nothing, and it is committed when it
returns. Like ``bulk_create``, none of it sends signals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from django.db import connections, models, transaction

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from x402_django.models.ledger import Payment

#: What identifies an authorization on its chain, and whose books it is in. Nonces are kept for each
#: payer by the contract that verifies the signature: the token (EIP-3009) or, for all tokens,
#: Permit2.
IDENTITY = ("network", "verifying_contract", "payer", "nonce", "kind")

#: ``PaymentQuerySet.owed_for`` in SQL. The states are written out so that SQLite, too, sees that
#: the partial index of debts applies.
_OWED = """
    SELECT 1 FROM {payment}
    WHERE {payer} = %s AND {request_fingerprint} = %s AND {kind} = 'sale'
    AND {state} IN ('settling', 'settled', 'final') AND {delivered_at} IS NULL
    AND ({state} <> 'settling' OR {outcome_unknown_at} IS NOT NULL OR {state_changed_at} < %s)
"""


#: Who let a settlement fail lately pays before the view (threat 9).
_FLOW = """CASE WHEN EXISTS (
    SELECT 1 FROM {payment}
    WHERE {payer} = %s AND {state} IN ('failed', 'expired') AND {state_changed_at} > %s
    AND {kind} = 'sale'
) THEN 'upfront' ELSE %s END"""


#: No settlement has failed since then.
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Guard:
    """A further condition of a ``move``, checked in the same statement.

    ``condition`` is SQL with placeholders for ``parameters``; ``prelude`` is SQL that is executed
    before it in the same transaction, such as taking a lock.
    """

    condition: str
    parameters: tuple[Any, ...] = ()
    prelude: str = ""


def durable_statement(alias: str) -> AbstractContextManager[Any]:
    """``atomic(durable=True)`` for a block that executes one statement: committed at its end.

    Needs no BEGIN and COMMIT where the connection commits each statement by itself. Raises
    RuntimeError inside another transaction, as ``atomic(durable=True)`` does.
    """
    connection = connections[alias]
    if connection.get_autocommit() and not connection.in_atomic_block:
        return nullcontext()
    return transaction.atomic(using=alias, durable=True)


def insert_unless_owed(
    payment: Payment,
    connection: BaseDatabaseWrapper,
    *,
    settling_before: datetime,
    failed_since: datetime | None,
) -> bool:
    """Insert ``payment`` unless its authorization exists or the payer is owed its request.

    Its flow becomes ``upfront`` if a settlement of the payer failed after ``failed_since``. For
    PostgreSQL and SQLite. True when the row was inserted (``pk`` and ``flow`` are then set).
    """
    model = type(payment)
    moment = model._meta.get_field("state_changed_at").get_db_prep_value
    parameters: list[Any] = []
    for field, value in zip(_insertable(model), _insert_values(payment, connection), strict=True):
        if field.name == "flow":
            parameters += [payment.payer, moment(failed_since or _NEVER, connection)]
        parameters.append(value)
    parameters += [payment.payer, payment.request_fingerprint, moment(settling_before, connection)]
    with connection.cursor() as cursor:
        cursor.execute(_claim_sql(connection.alias, connection.vendor, model), parameters)
        row = cursor.fetchone()
    if row is None:
        return False
    payment.pk, payment.flow = row
    payment._state.adding = False
    payment._state.db = connection.alias
    return True


def move(
    alias: str,
    payment: Payment,
    values: Mapping[str, Any],
    rows: Sequence[models.Model],
    guard: Guard | None = None,
) -> bool:
    """Write ``values`` to the row of ``payment`` and insert ``rows``, all or nothing, durably.

    Only if the row is still in the state and attempt that ``payment`` has, and ``guard`` holds;
    otherwise nothing is written and False is returned. ``values`` are by field name; ``rows`` are
    unsaved, inserted in their order, and get no primary keys.

    Raises IntegrityError (then nothing is written), and RuntimeError inside a transaction.
    """
    connection = connections[alias]
    fields = [payment._meta.get_field(name) for name in values]
    batches = [list(batch) for _, batch in groupby(rows, key=type)]
    parameters = [
        [
            *(
                field.get_db_prep_save(_as_key(value, field), connection)  # type: ignore[union-attr]
                for field, value in zip(fields, values.values(), strict=True)
            ),
            *(payment.pk, payment.state, payment.attempt),
            *(guard.parameters if guard else ()),
        ],
        *([v for row in batch for v in _insert_values(row, connection)] for batch in batches),
    ]
    statements = _move_sql(
        alias,
        connection.vendor,
        type(payment),
        tuple(field.column for field in fields),  # type: ignore[union-attr]
        tuple((type(batch[0]), len(batch)) for batch in batches),
        guard.condition if guard else "",
    )
    if len(statements) == 1:
        parameters = [[value for group in parameters for value in group]]
    prelude = guard.prelude if guard else ""
    if len(statements) == 1 and not prelude:
        block = durable_statement(alias)
    else:
        block = transaction.atomic(using=alias, durable=True)
    with block, connection.cursor() as cursor:
        if prelude:
            cursor.execute(prelude)
        cursor.execute(statements[0], parameters[0])
        if cursor.rowcount != 1:
            return False
        for sql, group in zip(statements[1:], parameters[1:], strict=True):
            cursor.execute(sql, group)
    return True


def _as_key(value: Any, field: Any) -> Any:
    """A related object as its key, as ``QuerySet.update`` takes it."""
    save = getattr(value, "prepare_database_save", None)
    return value if save is None else save(field)


def _insert_values(row: models.Model, connection: BaseDatabaseWrapper) -> list[Any]:
    return [
        field.get_db_prep_save(field.pre_save(row, add=True), connection)
        for field in _insertable(type(row))
    ]


@lru_cache(maxsize=16)
def _insertable(model: type[models.Model]) -> tuple[Any, ...]:
    return tuple(f for f in model._meta.local_concrete_fields if not f.primary_key)


# Values are placeholders below; only names of our own tables and columns are formatted in. The
# caches go by alias and vendor: quoting and dialect are all they depend on.


@lru_cache(maxsize=16)
def _claim_sql(alias: str, vendor: str, model: type[models.Model]) -> str:
    quote = connections[alias].ops.quote_name
    names = {field.name: quote(str(field.column)) for field in model._meta.local_concrete_fields}
    table = quote(model._meta.db_table)
    fields = _insertable(model)
    flow = _FLOW.format(payment=table, **names)
    values = [flow if field.name == "flow" else "%s" for field in fields]
    return (
        f"INSERT INTO {table} ({', '.join(names[field.name] for field in fields)}) "
        f"SELECT {', '.join(values)} "
        f"WHERE NOT EXISTS ({_OWED.format(payment=table, **names)}) "
        f"ON CONFLICT ({', '.join(names[name] for name in IDENTITY)}) DO NOTHING "
        f"RETURNING {names['id']}, {names['flow']}"
    )


@lru_cache(maxsize=256)
def _move_sql(
    alias: str,
    vendor: str,
    model: type[models.Model],
    changed: tuple[str, ...],
    inserted: tuple[tuple[type[models.Model], int], ...],
    condition: str = "",
) -> tuple[str, ...]:
    """An UPDATE and an INSERT for each ``(model, rows)``; on PostgreSQL all as one statement."""
    quote = connections[alias].ops.quote_name
    update = (
        f"UPDATE {quote(model._meta.db_table)} "  # noqa: S608
        f"SET {', '.join(f'{quote(column)} = %s' for column in changed)} "
        f"WHERE {quote('id')} = %s AND {quote('state')} = %s AND {quote('attempt')} = %s"
        f"{f' AND {condition}' if condition else ''}"
    )
    inserts = []
    for table, rows in inserted:
        columns = ", ".join(quote(field.column) for field in _insertable(table))
        placeholders = ", ".join(["%s"] * len(_insertable(table)))
        into = f"INSERT INTO {quote(table._meta.db_table)} ({columns})"
        if vendor == "postgresql":
            inserts += [f"{into} SELECT {placeholders}"] * rows
        else:
            inserts.append(f"{into} VALUES {', '.join([f'({placeholders})'] * rows)}")
    if vendor != "postgresql":
        return (update, *inserts)
    # Each row is inserted if the one before it was, and the first if the UPDATE met its row.
    steps = [f"step0 AS ({update} RETURNING 1)"]
    steps += [
        f"step{number} AS ({insert} FROM step{number - 1} RETURNING 1)"
        for number, insert in enumerate(inserts, start=1)
    ]
    return (f"WITH {', '.join(steps)} SELECT 1 FROM step{len(inserts)}",)  # noqa: S608
