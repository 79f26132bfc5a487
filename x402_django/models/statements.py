"""The ledger's writes on the path of every paid request, as few and as ready-made as can be.

A paid request writes three times: it claims, begins to settle, has settled. Through the ORM that
is twelve round trips to the database, and the building of SQL costs more than all else a paid
request does in Python. Here the SQL is built once, and on PostgreSQL each write is one statement,
which is a transaction of its own: all of it happens or nothing, and it is committed when it
returns. Like ``bulk_create``, none of it sends signals.

Committed is on disk, with two exceptions on PostgreSQL, each of which says so: a claim that is
``trailing``, and a move whose guard is ``contended``. They are visible at once and in the log
before whatever is committed later, so the next commit that waits for the disk takes them along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from django.db import connections, models, transaction

from x402_django.models import in_flight

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from x402_django.models.in_flight import Bounds
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
    AND {state} IN ('settling', 'settled', 'final', 'reversed') AND {delivered_at} IS NULL
    AND {refunding_at} IS NULL
    AND ({state} <> 'settling' OR {outcome_unknown_at} IS NOT NULL OR {state_changed_at} < %s)
"""


#: Who let a settlement fail lately pays before the view (threat 9).
_FLOW = """CASE WHEN EXISTS (
    SELECT 1 FROM {payment}
    WHERE {payer} = %s AND {state} IN ('failed', 'expired') AND {state_changed_at} > %s
    AND {kind} = 'sale'
) THEN 'upfront' ELSE %s END"""


#: True, and has the transaction not wait for the disk: what comes after the commit does.
_TRAILING = "AND set_config('synchronous_commit', 'off', true) = 'off' "
#: A commit of its own that is on disk only when all before it is.
_FLUSH = "SELECT pg_logical_emit_message(true, 'x402', '')"

#: No settlement has failed since then.
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Guard:
    """A further condition of a ``move``, checked in the same statement.

    ``condition`` is SQL with placeholders for ``parameters``; ``prelude`` is SQL that is executed
    before it in the same transaction, such as taking a lock. ``contended`` says that many wait for
    that lock: it is then given up before the disk is waited for, and ``move`` returns after both.
    """

    condition: str
    parameters: tuple[Any, ...] = ()
    prelude: str = ""
    contended: bool = False


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
    bounds: Bounds,
    trailing: bool,
) -> bool:
    """Insert ``payment`` unless its authorization exists or the payer is owed its request.

    Nor if ``bounds`` are reached. Its flow becomes ``upfront`` if a settlement of the payer failed
    after ``failed_since``. For PostgreSQL and SQLite. ``trailing`` does not wait for PostgreSQL's
    disk. True when the row was inserted (``pk`` and ``flow`` are then set).
    """
    model = type(payment)
    moment = model._meta.get_field("state_changed_at").get_db_prep_value
    parameters: list[Any] = []
    for field, value in zip(_insertable(model), _insert_values(payment, connection), strict=True):
        if field.name == "flow":
            parameters += [payment.payer, moment(failed_since or _NEVER, connection)]
        parameters.append(value)
    parameters += [payment.payer, payment.request_fingerprint, moment(settling_before, connection)]
    parameters += bounds.parameters(payment.payer)
    sql = _claim_sql(connection.alias, connection.vendor, model, trailing, bounds.kinds)
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
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
    beside: Callable[[], bool] | None = None,
) -> bool:
    """Write ``values`` to the row of ``payment`` and insert ``rows``, all or nothing, durably.

    Only if the row is still in the state and attempt that ``payment`` has, and ``guard`` holds;
    otherwise nothing is written and False is returned. ``values`` are by field name; ``rows`` are
    unsaved, inserted in their order, and get no primary keys. ``beside`` is called in the same
    transaction, after that; if it returns False, nothing is written.

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
            *(payment.pk, payment.public_id, payment.state, payment.attempt),
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
    if guard is not None and guard.prelude:
        return _move_guarded(connection, guard, statements[0], parameters[0])
    alone = len(statements) == 1 and beside is None
    block = durable_statement if alone else partial(transaction.atomic, durable=True)
    try:
        with block(alias), connection.cursor() as cursor:
            cursor.execute(statements[0], parameters[0])
            if cursor.rowcount != 1:
                return False
            for sql, group in zip(statements[1:], parameters[1:], strict=True):
                cursor.execute(sql, group)
            if beside is not None and not beside():
                raise _UndoneError
    except _UndoneError:
        return False
    return True


class _UndoneError(Exception):
    """What was to be written beside a move could not be."""


def _move_guarded(
    connection: BaseDatabaseWrapper, guard: Guard, sql: str, parameters: list[Any]
) -> bool:
    """A guard's prelude and the statement it guards, in one round trip where the client allows it.

    Several statements that are sent together are one transaction (PostgreSQL's protocol, "Multiple
    Statements in a Simple Query"). Each has a snapshot of its own, so the last one sees all that
    was committed while its lock was waited for.
    """
    from django.db.backends.postgresql.psycopg_any import is_psycopg3  # needs psycopg

    prelude = guard.prelude
    if guard.contended:
        prelude = f"{prelude}; SET LOCAL synchronous_commit = off"
    at_once = connection.settings_dict["OPTIONS"].get("server_side_binding") is not True
    block = durable_statement if at_once else partial(transaction.atomic, durable=True)
    with block(connection.alias), connection.cursor() as cursor:
        if at_once:
            cursor.execute(f"{prelude}; {sql}", parameters)
            while is_psycopg3 and cursor.nextset():
                pass  # to the last of the results, which psycopg 2 gives right away
        else:
            cursor.execute(prelude)
            cursor.execute(sql, parameters)
        moved: bool = cursor.rowcount == 1
    if moved and guard.contended:
        flush(connection.alias)
    return moved


def flush(alias: str) -> None:
    """Return when all that this and other connections have committed is on disk.

    Commits are, but for those that the module names; on databases without such it does nothing.
    """
    if connections[alias].vendor != "postgresql":
        return
    with durable_statement(alias), connections[alias].cursor() as cursor:
        cursor.execute(_FLUSH)


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
def _claim_sql(
    alias: str,
    vendor: str,
    model: type[models.Model],
    trailing: bool,
    bounds: tuple[bool, bool],
) -> str:
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
        f"{in_flight.condition(bounds, payment=table, **names)}"
        f"{_TRAILING if trailing and vendor == 'postgresql' else ''}"
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
        # Not by an index: the row is found by its key, and this says that it is the same row.
        f"WHERE {quote('id')} = %s AND COALESCE({quote('public_id')}, '') = %s "
        f"AND {quote('state')} = %s AND {quote('attempt')} = %s"
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
