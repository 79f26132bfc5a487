"""A quick way to empty the tables after a test that commits.

Django's own truncates on PostgreSQL, which makes every table's files anew, asks the database each
time which tables there are, and lets every app write its content types and permissions again. Here
those two tables keep their rows, which no test changes, and the others lose theirs by DELETE.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest import mock

from django.apps import apps

from x402_django.constants import DEFAULT_MERCHANT

KEPT = {"django_content_type", "auth_permission"}
_FLUSH = "django.core.management.commands.flush"


@contextmanager
def quick_flush() -> Iterator[None]:
    """Have ``flush`` do so while the block runs."""
    with (
        mock.patch(f"{_FLUSH}.sql_flush", _sql_flush),
        mock.patch(f"{_FLUSH}.emit_post_migrate_signal"),
    ):
        yield


@cache
def _tables() -> tuple[str, ...]:
    models = apps.get_models(include_auto_created=True)
    names = {model._meta.db_table for model in models if model._meta.managed}
    return tuple(sorted(names - KEPT))


def _sql_flush(style: Any, connection: Any, **options: Any) -> list[str]:
    # In one transaction, at whose end foreign keys are checked: the order does not matter.
    # ``migrate`` has made the site's own merchant, which stays.
    kept = {"x402_django_merchant": f" WHERE id <> {DEFAULT_MERCHANT}"}
    deletions = [
        f"DELETE FROM {connection.ops.quote_name(name)}{kept.get(name, '')}" for name in _tables()
    ]
    return ["; ".join(deletions)] if connection.vendor == "postgresql" else deletions
