"""The databases of a run: temporary, made and dropped here, and chosen per measurement.

The site has one database, as most sites have (Django looks at every configured one at the start
and end of each request); ``using`` swaps what it is.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

DEFAULT_SERVER = "postgres://postgres@127.0.0.1/postgres"

SQLITE = "SQLite"
POSTGRES = "PostgreSQL"
#: The same database; its commits do not wait for the disk. Only to show what waiting costs.
POSTGRES_NOWAIT = "PostgreSQL, synchronous_commit=off"

_settings: dict[str, dict[str, Any]] = {}
_connections: dict[str, Any] = {}


def configure(sqlite_file: str, postgres_url: str | None) -> None:
    """Say where the databases are. After ``django.setup()``."""
    import dj_database_url
    from django.db import connections

    _settings[SQLITE] = connections.settings["default"]
    _settings[SQLITE]["NAME"] = sqlite_file
    if postgres_url:
        defaults = {**_settings[SQLITE], "OPTIONS": {}}
        _settings[POSTGRES] = {**defaults, **dj_database_url.parse(postgres_url, conn_max_age=None)}
        _settings[POSTGRES_NOWAIT] = {
            **_settings[POSTGRES],
            "OPTIONS": {"options": "-c synchronous_commit=off"},
        }


def configured() -> list[str]:
    """Names of the databases at hand."""
    return list(_settings)


@contextmanager
def another(name: str, url: str) -> Iterator[None]:
    """Have one more PostgreSQL database for ``using`` while the block runs."""
    import dj_database_url

    _settings[name] = {**_settings[POSTGRES], **dj_database_url.parse(url, conn_max_age=None)}
    try:
        yield
    finally:
        del _settings[name]
        connection = _connections.pop(name, None)
        if connection is not None:
            connection.close()


@contextmanager
def using(name: str) -> Iterator[None]:
    """Keep the ledger in the database called ``name`` while the block runs, in all new threads.

    This thread's connections stay open between blocks, as a server's do.
    """
    from django.db import connections
    from django.db.utils import load_backend

    previous, settings = connections["default"], connections.settings["default"]
    if name not in _connections:
        backend = load_backend(_settings[name]["ENGINE"])
        _connections[name] = backend.DatabaseWrapper(_settings[name], "default")
    connections["default"] = _connections[name]
    connections.settings["default"] = _settings[name]
    try:
        yield
    finally:
        connections["default"] = previous
        connections.settings["default"] = settings


def close_all() -> None:
    """Close what ``using`` has opened in this thread."""
    for connection in _connections.values():
        connection.close()


@contextmanager
def postgres_database() -> Iterator[tuple[str | None, str]]:
    """URL of a new, empty PostgreSQL database, dropped afterwards; or None, and why there is none.

    On the server of ``DATABASE_URL``, if that is PostgreSQL, else on one that runs here.
    """
    server = os.environ.get("DATABASE_URL", "")
    if urlsplit(server).scheme not in ("postgres", "postgresql"):
        server = DEFAULT_SERVER
    try:
        import psycopg

        admin = psycopg.connect(server, autocommit=True, connect_timeout=5)
    except ImportError:
        yield None, "psycopg is not installed"
        return
    except psycopg.Error:
        yield None, f"no PostgreSQL at {urlsplit(server).hostname}"
        return
    name = f"x402_bench_{secrets.token_hex(6)}"
    with admin:
        admin.execute(f'CREATE DATABASE "{name}"')
        try:
            yield urlsplit(server)._replace(path=f"/{name}").geturl(), ""
        finally:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
