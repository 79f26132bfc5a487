"""A real node for the chain section: Anvil, from the path or from npm."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = "@foundry-rs/anvil@1"
#: Ignored by git; kept from run to run.
CACHE = Path(__file__).resolve().parent.parent / "var" / "bench"
START_TIMEOUT = 20.0


class NoAnvil(Exception):
    """There is no Anvil here, and why."""


def find_anvil() -> str:
    """Path of the program: ``ANVIL``, the path, or npm's package, installed if need be.

    Raises NoAnvil.
    """
    found = os.environ.get("ANVIL") or shutil.which("anvil") or _packaged()
    if found is None:
        _install()
        found = _packaged()
    if found is None:
        raise NoAnvil("the npm package has no Anvil for this machine")
    return found


def _packaged() -> str | None:
    # The package's own command is a Node script that starts this; ended, it would leave it behind.
    programs = sorted(CACHE.glob("node_modules/@foundry-rs/anvil-*/bin/anvil*"))
    return str(programs[0]) if programs else None


def _install() -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NoAnvil("neither anvil nor npm is on the path")
    CACHE.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--prefix", str(CACHE), "--no-audit", "--no-fund", PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NoAnvil(f"npm install {PACKAGE} failed: {done.stderr.strip()[-200:]}")


@contextmanager
def running_anvil(chain_id: int) -> Iterator[str]:
    """URL of a fresh node that mines each transaction at once. Raises NoAnvil."""
    command = [find_anvil(), "--port", "0", "--chain-id", str(chain_id)]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield f"http://{_listening(process, output.fileno())}"
        finally:
            process.kill()
            process.wait()


def _listening(process: subprocess.Popen[bytes], output: int) -> str:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        match = re.search(rb"Listening on (\S+)", os.pread(output, 100_000, 0))
        if match:
            return match[1].decode()
        time.sleep(0.05)
    raise NoAnvil(f"it did not start: {os.pread(output, 300, 0).decode(errors='replace')}")
