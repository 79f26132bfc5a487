"""The instruments of the chaos run do what they say; the run itself is in tests/scale."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from chaos import faults
from chaos.proxy import DELAY, Proxy, Way
from x402_django.testing.chain import running_devchain

ROOT = Path(__file__).resolve().parents[2]


def ask(url: str, method: str = "eth_blockNumber") -> str:
    question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": []}
    return httpx.post(url, json=question, timeout=5).json()["result"]


def python(code: str, directory: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "CHAOS_DIR": str(directory), "CHAOS_EVERY": "1"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment | more,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_way_to_the_node():
    with running_devchain() as server, Proxy(server.url) as proxy:
        assert ask(proxy.url) == "0x0"
        proxy.way = Way.CUT
        with pytest.raises(httpx.HTTPError):
            ask(proxy.url, "evm_mine")
        assert server.chain.height == 0  # it was not even asked
        proxy.way = Way.LOSSY
        with pytest.raises(httpx.HTTPError):
            ask(proxy.url, "evm_mine")
        assert server.chain.height == 1  # it was asked, and did it
        proxy.way = Way.SLOW
        started = time.monotonic()
        assert ask(proxy.url) == "0x1"
        assert time.monotonic() - started >= 2 * DELAY
        proxy.way = Way.OPEN
        assert ask(proxy.url) == "0x1"
        assert set(proxy.harmed) == {"cut", "lossy", "slow"}


def test_a_process_dies_at_a_point_and_writes_down_where(tmp_path):
    done = python("from chaos import faults\nwhile True: faults.point('here')", tmp_path)
    assert done.returncode == -signal.SIGKILL
    assert faults.deaths(tmp_path) == {"here": 1}


def test_all_points_have_their_turn(tmp_path):
    code = "from chaos import faults\nwhile True: faults.point('a'); faults.point('b')"
    for _ in range(12):
        assert python(code, tmp_path).returncode == -signal.SIGKILL
    deaths = faults.deaths(tmp_path)
    assert sum(deaths.values()) == 12
    assert set(deaths) == {"a", "b"}


def test_nobody_dies_when_it_is_calm_nor_too_soon(tmp_path):
    code = "from chaos import faults\nfor _ in range(200): faults.point('here')"
    (tmp_path / faults.CALM).touch()
    assert python(code, tmp_path).returncode == 0
    assert faults.deaths(tmp_path) == {}
    (tmp_path / faults.CALM).unlink()
    assert python(code, tmp_path, CHAOS_EVERY="500").returncode == 0
    assert faults.deaths(tmp_path) == {"here": 0}
    assert python(code, tmp_path, CHAOS_EVERY="500").returncode == -signal.SIGKILL
    assert faults.deaths(tmp_path) == {"here": 1}


def test_without_a_directory_points_are_nothing(monkeypatch):
    monkeypatch.delenv("CHAOS_DIR", raising=False)
    for _ in range(100):
        faults.point("here")
        assert not faults.mishap()


def in_the_shop(code: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a process of the shop that passes points and does not die."""
    return python(
        f"import django\ndjango.setup()\n{code}",
        directory,
        DJANGO_SETTINGS_MODULE="chaos.settings",
        CHAOS_QUEUE="none",
        CHAOS_EVERY="1e9",
        DEMO_VAR_DIR=str(directory),
        SECRET_KEY="x",
    )


def test_the_points_are_those_of_the_shops_code(tmp_path):
    """Whoever renames one of these functions has to tell chaos.faults."""
    code = """
from importlib import import_module
from chaos.faults import NAMES, STEPS
more = [("x402_django.payments.machine", "move", ""), ("x402_django.chain.outbox", "store", ""),
        ("x402_django.chain.broadcast", "hand_over", "")]
for module, path, _ in (*NAMES, *STEPS, *more):
    found = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    assert found.__wrapped__, path
"""
    done = in_the_shop(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_commit_is_overlooked(tmp_path):
    """Whoever makes it, and whether it has a name or only tables."""
    code = """
from django.core.management import call_command
from django.db import transaction
call_command("migrate", verbosity=0, run_syncdb=True)
from chaos import faults
(faults.Path(faults.os.environ["CHAOS_DIR"]) / faults.STATE).unlink()
from chaos.models import Run
from x402_django import clock
from x402_django.chain import queue
from x402_django.models import SettlementWallet
from x402_django.payments.cursor import Lease
assert queue.take_lane("eip155:1337", "default", "me", seconds=9)
queue.leave_lane("eip155:1337", "default", "me")
lease = Lease.acquire("eip155:1337")
lease.move(7, "0x07")
with transaction.atomic():
    SettlementWallet.objects.create(network="eip155:1337", address="0x1", next_nonce=0)
    SettlementWallet.objects.update(next_nonce=1)
    Run.objects.all().delete()
try:
    with transaction.atomic():
        SettlementWallet.objects.update(next_nonce=2)
        raise ValueError
except ValueError:
    pass
SettlementWallet.objects.get()
SettlementWallet.objects.all().delete()
"""
    done = in_the_shop(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    commits = (
        "lane taken",
        "lane left",
        "scanner's lease",
        "scanner's cursor",
        "new settlementwallet, changed settlementwallet, deleted chaos_run",
        "deleted settlementwallet",
    )
    assert faults.deaths(tmp_path) == {
        f"{when} commit: {what}": 0 for what in commits for when in ("before", "after")
    }
