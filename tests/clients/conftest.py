"""One live site per test module, for as long as the module's tests run; the TypeScript clients."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.live import Site, live_site, postgres_database
from tests.conftest import missing_service

NODE = Path(__file__).parent / "node"
INSTALL_SECONDS = 300


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


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the runner scripts, with the clients installed beside them."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        missing_service("Node.js with npm", "install Node.js 20 or newer")
    kept = os.environ.get("X402_NODE_CLIENTS")
    directory = Path(kept) if kept else tmp_path_factory.mktemp("node")
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:  # xdist's workers share what is kept
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install(npm, directory)
    return directory


def _install(npm: str | None, directory: Path) -> None:
    shutil.copytree(
        NODE, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules")
    )
    lock = (NODE / "package-lock.json").read_text()
    installed = directory / "installed-lock.json"
    if not (installed.exists() and installed.read_text() == lock):
        done = subprocess.run(
            [str(npm), "ci"],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if done.returncode:
            missing_service("The npm registry", done.stderr[-500:])
        installed.write_text(lock)
