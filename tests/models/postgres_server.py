"""A PostgreSQL server of our own, to pull the plug of."""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Commits that do not wait for the disk get there by themselves after this long, in seconds.
LONGEST_TRAIL = 10
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "wal_writer_delay": f"{LONGEST_TRAIL}s",
    "autovacuum": "off",
    "bgwriter_lru_maxpages": "0",
    "checkpoint_timeout": "1h",
}


class Server:
    """One cluster in a directory of its own. ``crash`` is what a power cut is to it."""

    def __init__(self, binaries: Path, directory: Path) -> None:
        self._binaries = binaries
        self._data = directory / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"postgres://postgres@127.0.0.1:{self._port}/postgres"
        self._run("initdb", "-U", "postgres", "-A", "trust", "--no-sync", "-D", str(self._data))
        with (self._data / "postgresql.auto.conf").open("a") as file:
            for name, value in {
                **_SETTINGS,
                "port": str(self._port),
                "unix_socket_directories": str(directory),
            }.items():
                file.write(f"{name} = '{value}'\n")

    def start(self) -> None:
        log = str(self._data.parent / "log")
        self._run("pg_ctl", "start", "-w", "-t", "60", "-D", str(self._data), "-l", log)

    def crash(self) -> None:
        """End every process without a checkpoint: memory is lost, the disk is as it is."""
        self._run("pg_ctl", "stop", "-m", "immediate", "-w", "-D", str(self._data))

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        if os.geteuid() == 0:  # the server refuses to be root
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(
            command,
            check=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )


def binaries() -> Path | None:
    """Where the newest server's programs are; None if none is installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    installed = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    return Path(installed[-1]).parent if installed else None


@contextmanager
def running_server(programs: Path) -> Iterator[Server]:
    """A new server, gone at the end of the block."""
    directory = Path(tempfile.mkdtemp(prefix="x402-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres")
        server = Server(programs, directory)
        server.start()
        try:
            yield server
        finally:
            server.crash()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
