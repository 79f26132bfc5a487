"""``manage.py x402_devchain``: what it prints, what it refuses, how it stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from web3 import HTTPProvider, Web3

ROOT = Path(__file__).resolve().parents[2]
ALICE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
STARTER = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=[], SECRET_KEY="x")
django.setup()
from x402_django.management.commands.x402_devchain import Command
import sys
Command().run_from_argv(["manage.py", "x402_devchain", *sys.argv[1:]])
"""


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The command in a process of its own, with the lines it printed until it was ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER, "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith("ready: "):
                break
        yield process, lines
    finally:
        process.kill()
        process.communicate()


def test_serves_until_terminated() -> None:
    with running("--mint", f"{ALICE}=12.50", "--fund", ALICE) as (process, lines):
        text = "\n".join(lines)
        url = lines[-1].removeprefix("ready: ")
        w3 = Web3(HTTPProvider(url))
        assert w3.eth.chain_id == 1337
        assert w3.eth.get_balance(ALICE) == 10_100 * 10**18  # type: ignore[arg-type]
        assert "Chain        eip155:1337" in text
        assert "Test dollar  0x700b6A60ce7EaaEA56F065753d8dcB9653dbAD35" in text
        assert "Multicall3   0xcA11bde05977b3631167028862bE2a173976CA11" in text
        assert "PUBLIC test keys" in text
        assert text.count("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266") == 1
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out, err) == (0, "stopped\n", "")


def test_json_summary() -> None:
    with running("--json", "--chain-id", "31337", "--mint", f"{ALICE}=0.000001") as (
        process,
        lines,
    ):
        summary = json.loads(lines[0])
        assert lines[1] == f"ready: {summary['rpc_url']}"
        assert (summary["chain_id"], summary["network"]) == (31337, "eip155:31337")
        assert summary["token"] == {
            "address": "0x700b6A60ce7EaaEA56F065753d8dcB9653dbAD35",
            "name": "Test Dollar",
            "version": "1",
            "symbol": "TUSD",
            "decimals": 6,
        }
        assert len(summary["accounts"]) == 10
        assert summary["accounts"][1]["address"] == ALICE
        assert summary["accounts"][1]["dollars"] == 1
        assert Web3(HTTPProvider(summary["rpc_url"])).eth.chain_id == 31337
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
        assert process.returncode == 0


def call(*arguments: str) -> None:
    from x402_django.management.commands.x402_devchain import Command

    call_command(Command(), *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0 is not a loopback address"),
        (["--host", "shop.example"], "shop.example is not a loopback address"),
        (["--fund", "0x12"], "not an address: 0x12"),
        (["--mint", ALICE], "not an amount of dollars"),
        (["--mint", f"{ALICE}=lots"], "not an amount of dollars"),
        (["--mint", f"{ALICE}=-1"], "not an amount of dollars"),
        (["--mint", f"{ALICE}=NaN"], "not an amount of dollars"),
        (["--mint", f"{ALICE}=Infinity"], "not an amount of dollars"),
        (["--mint", f"{ALICE}=0.0000001"], "at most 6 decimals"),
        (["--mint", "bob=1"], "not an address: bob"),
    ],
)
def test_refusals(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call(*arguments)


def test_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CommandError, match="cannot listen"):
            call("--port", str(taken.getsockname()[1]))
