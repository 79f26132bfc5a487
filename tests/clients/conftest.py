"""One live site per test module, for as long as the module's tests run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.live import Site, live_site, postgres_database


@pytest.fixture(scope="module", params=["wsgi", "asgi"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A site served by gunicorn (WSGI), then by uvicorn (ASGI)."""
    directory = tmp_path_factory.mktemp(f"site-{request.param}")
    with live_site(directory, interface=request.param) as site:
        yield site


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Two server processes over one database of each kind."""
    directory: Path = tmp_path_factory.mktemp(f"pair-{request.param}")
    if request.param == "sqlite":
        with live_site(directory, servers=2) as site:
            yield site
    else:
        with (
            postgres_database() as database_url,
            live_site(directory, servers=2, database_url=database_url) as site,
        ):
            yield site
