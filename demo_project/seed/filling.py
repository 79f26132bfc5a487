"""Many rows into the database, all or none.

On PostgreSQL rows are copied into tables without indexes and foreign keys, which are made again
from their own definitions afterwards: the database checks every row then, and millions of rows
take minutes. All of it is one transaction. SQLite takes the rows as they come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from django.core.management.color import no_style
from django.db import connection, models

from x402_django.models import Uint256Field

Rows = Mapping[Any, Iterable[tuple[Any, ...]]]

#: What the server may use to sort an index.
_MEMORY: Final = "512MB"


def fill(
    tables: Mapping[Any, Sequence[str]],
    batches: Iterable[Rows],
    *,
    rebuild: bool,
    index_made: Callable[[int, int], None],
) -> dict[str, float]:
    """Insert every batch, by model in the order of ``tables`` (model to attribute names).

    Inside a transaction of the caller. Columns that are not named get their defaults. With
    ``rebuild``, indexes are dropped and made again; ``index_made`` hears how many of how many.
    Returns the seconds of each step.
    """
    started = time.monotonic()
    times: dict[str, float] = {}
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL maintenance_work_mem = '{_MEMORY}'")
            cursor.execute("SET LOCAL TIME ZONE 'UTC'")
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        with _without_indexes(tables, index_made) if rebuild else _as_they_are() as built:
            _insert(_Copy(tables), batches)
            times["rows"] = time.monotonic() - started
        times["indexes"] = built[0] if built else 0.0
    else:
        _insert(_Statements(tables), batches)
        times["rows"] = time.monotonic() - started
    with connection.cursor() as cursor:
        for sql in connection.ops.sequence_reset_sql(no_style(), list(tables)):
            cursor.execute(sql)
    return times


def tidy(tables: Iterable[type[models.Model]]) -> float:
    """Let the database look at what it has got; returns the seconds. Outside of transactions."""
    started = time.monotonic()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for model in tables:
                cursor.execute(f"VACUUM (ANALYZE) {_name(model)}")
    return time.monotonic() - started


def _insert(target: _Target, batches: Iterable[Rows]) -> None:
    for batch in batches:
        for model, rows in batch.items():
            target.write(model, rows)


class _Target:
    """Columns of each table: those that are given, and constants for the others."""

    def __init__(self, tables: Mapping[Any, Sequence[str]]) -> None:
        self._columns: dict[Any, list[models.Field[Any, Any]]] = {}
        self._constants: dict[Any, tuple[Any, ...]] = {}
        for model, names in tables.items():
            given = [model._meta.get_field(name) for name in names]
            others = [
                field
                for field in model._meta.concrete_fields
                if field not in given and not field.primary_key and not field.null
            ]
            self._columns[model] = given + others
            self._constants[model] = tuple(
                field.get_db_prep_save(field.get_default(), connection) for field in others
            )

    def write(self, model: Any, rows: Iterable[tuple[Any, ...]]) -> None:
        """Insert ``rows``, which have the values that were named."""
        raise NotImplementedError

    def names(self, model: Any) -> str:
        """The columns of an INSERT or COPY."""
        quote = connection.ops.quote_name
        return ", ".join(quote(str(field.column)) for field in self._columns[model])


class _Copy(_Target):
    def write(self, model: Any, rows: Iterable[tuple[Any, ...]]) -> None:
        constants = self._constants[model]
        sql = f"COPY {_name(model)} ({self.names(model)}) FROM STDIN"
        with connection.cursor() as cursor, cursor.copy(sql) as copy:
            for row in rows:
                copy.write_row(row + constants)


class _Statements(_Target):
    def write(self, model: Any, rows: Iterable[tuple[Any, ...]]) -> None:
        fields, constants = self._columns[model], self._constants[model]
        wide = [at for at, field in enumerate(fields) if isinstance(field, Uint256Field)]
        sql = (
            f"INSERT INTO {_name(model)} ({self.names(model)}) "
            f"VALUES ({', '.join(['%s'] * len(fields))})"
        )
        with connection.cursor() as cursor:
            cursor.executemany(sql, [_padded(row + constants, fields, wide) for row in rows])


def _padded(row: tuple[Any, ...], fields: list[Any], wide: list[int]) -> list[Any]:
    values = list(row)
    for at in wide:
        values[at] = fields[at].get_db_prep_save(values[at] and int(values[at]), connection)
    return values


@contextmanager
def _as_they_are() -> Iterator[list[float]]:
    yield []


@contextmanager
def _without_indexes(
    tables: Iterable[Any], index_made: Callable[[int, int], None]
) -> Iterator[list[float]]:
    """Drop the indexes and foreign keys of ``tables``, and make them again as they were."""
    names = [_name(model) for model in tables]
    took: list[float] = []
    with connection.cursor() as cursor:
        cursor.execute(_CONSTRAINTS, [names])
        constraints = cursor.fetchall()
        cursor.execute(_INDEXES, [names])
        indexes = cursor.fetchall()
        # Foreign keys come first in this list: they rest on unique constraints.
        for table, name, _definition in constraints:
            cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {_quoted(name)}")
        for name, _definition in indexes:
            cursor.execute(f"DROP INDEX {name}")
        yield took
        started = time.monotonic()
        remake = [definition for _name, definition in indexes]
        remake += [
            f"ALTER TABLE {table} ADD CONSTRAINT {_quoted(name)} {definition}"
            for table, name, definition in reversed(constraints)
        ]
        for number, sql in enumerate(remake):
            index_made(number, len(remake))
            cursor.execute(sql)
        index_made(len(remake), len(remake))
    took.append(time.monotonic() - started)


_CONSTRAINTS: Final = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = ANY(%s::regclass[]) AND contype IN ('f', 'u')
    ORDER BY contype, conrelid, conname
"""
_INDEXES: Final = """
    SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i
    WHERE i.indrelid = ANY(%s::regclass[]) AND NOT i.indisprimary AND NOT EXISTS (
        SELECT 1 FROM pg_constraint c
        WHERE c.conindid = i.indexrelid AND c.contype IN ('u', 'p', 'x')
    )
    ORDER BY i.indrelid, i.indexrelid
"""


def _name(model: Any) -> str:
    return _quoted(model._meta.db_table)


def _quoted(name: str) -> str:
    return str(connection.ops.quote_name(name))
