"""The benchmark site: Django with temporary databases, with and without the gate."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import databases
from benchmarks.settings import BARE_MIDDLEWARE
from benchmarks.wsgi import Application


@dataclass(frozen=True, slots=True)
class Site:
    """``gated`` has our middleware, ``bare`` is the same without it."""

    gated: Application
    bare: Application
    no_postgres: str


@contextmanager
def benchmark_site() -> Iterator[Site]:
    """Set Django up, make the tables, and clean up afterwards. Once per process."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="x402-bench-"))
        postgres, no_postgres = stack.enter_context(databases.postgres_database())
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        import django

        django.setup()
        databases.configure(str(Path(directory) / "ledger.sqlite3"), postgres)
        stack.callback(databases.close_all)
        _migrate()
        gated, bare = _applications()
        yield Site(gated, bare, no_postgres)


def _migrate() -> None:
    from django.core.management import call_command

    for name in databases.configured():
        with databases.using(name):
            call_command("migrate", verbosity=0)


def _applications() -> tuple[Application, Application]:
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import override_settings

    gated = WSGIHandler()
    with override_settings(MIDDLEWARE=BARE_MIDDLEWARE):
        bare = WSGIHandler()
    return gated, bare
