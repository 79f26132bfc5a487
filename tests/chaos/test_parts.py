"""The instruments of the chaos run do what they say; the run itself is in tests/scale."""

from __future__ import annotations

import json
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
    environment = {"PATH": os.environ["PATH"], "CHAOS_DIR": str(directory), "CHAOS_EVERY": "1e-9"}
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
    (tmp_path / faults.CALM).unlink()
    (tmp_path / faults.STATE).write_text(json.dumps({"deaths": {}, "last": time.time()}))
    assert python(code, tmp_path, CHAOS_EVERY="60").returncode == 0


def test_without_a_directory_points_are_nothing(monkeypatch):
    monkeypatch.delenv("CHAOS_DIR", raising=False)
    for _ in range(100):
        faults.point("here")


def test_the_points_are_those_of_the_shops_code(tmp_path):
    """Whoever renames one of these functions has to tell chaos.faults."""
    code = """
import django
django.setup()
from chaos import faults
from x402_django.chain import broadcast
from x402_django.payments import machine
from x402_django.facilitators.local import LocalFacilitator
for function in (broadcast.hand_over, machine.move, LocalFacilitator.settle):
    assert function.__wrapped__, function
"""
    done = python(
        code,
        tmp_path,
        DJANGO_SETTINGS_MODULE="chaos.settings",
        CHAOS_QUEUE="none",
        DEMO_VAR_DIR=str(tmp_path),
        SECRET_KEY="x",
    )
    assert (done.returncode, done.stderr) == (0, "")
