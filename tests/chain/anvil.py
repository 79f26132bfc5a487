"""A real development node for tests marked ``anvil``.

Needs Anvil on the PATH, or its path in the environment variable ``ANVIL``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.conftest import missing_service


@contextmanager
def running_anvil() -> Iterator[str]:
    """The URL of a fresh Anvil of chain 1337 while the block runs."""
    path = os.environ.get("ANVIL") or shutil.which("anvil")
    if path is None:
        missing_service("Anvil", "npm i @foundry-rs/anvil")
    process = subprocess.Popen(
        [str(path), "--port", "0", "--chain-id", "1337"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        listening = (re.match(r"Listening on (\S+)", line) for line in process.stdout)
        yield "http://" + next(match[1] for match in listening if match)
    finally:
        process.kill()
        process.communicate()
