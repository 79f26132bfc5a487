"""The whole demo, as ``make demo`` runs it: real processes, a real chain, a real worker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from x402_django.chain.devchain.accounts import dev_accounts
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS
from x402_django.testing.chain import dev_chain, new_payer, running_devchain
from x402_django.testing.facilitators import HostileFacilitator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SECONDS = 180
DOLLAR_ROW = r"{} +\${} +0x\w{{4}}…\w{{4}} +0x\w{{4}}…\w{{4}} +[0-9a-f]{{12}} +\d+\.\d\d s"
TABLE = (
    r"GET /free/ +free +—",
    DOLLAR_ROW.format("GET /weather/", r"0\.01"),
    DOLLAR_ROW.format("GET /async/quote/", r"0\.01"),
    DOLLAR_ROW.format("GET /api/forecast/", r"0\.02"),
    DOLLAR_ROW.format("POST /api/forecast/", r"0\.02"),
    DOLLAR_ROW.format(r"GET /llm/\?prompt=A\+signature", r"0\.0062"),
    DOLLAR_ROW.format("GET /vault/", r"0\.02"),
    r"GET /vault/ again +free +—",
    DOLLAR_ROW.format("GET /articles/what-is-x402/", r"0\.05"),
    DOLLAR_ROW.format("GET /articles/pass/", r"0\.1"),
    r"GET /articles/why-a-ledger/ pass +free +—",
    DOLLAR_ROW.format("GET /credits/", r"0\.1"),
    r"GET /api/forecast/ credits +free +—",
    r"GET /broken/ +not charged \(500\)",
)


@contextmanager
def demo(directory: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The demo in a process of its own, on free ports, with its files in ``directory``."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("X402_")
        and name not in ("DATABASE_URL", "CELERY_BROKER_URL", "DJANGO_SETTINGS_MODULE")
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "demo_project.run", *arguments],
        cwd=ROOT,
        env={**clean, "DEMO_VAR_DIR": str(directory), "PORT": "0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)


def left_behind(directory: Path) -> list[str]:
    """The processes that have ``directory`` in their environment."""
    marker = f"DEMO_VAR_DIR={directory}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker in path.read_bytes() + b"\0":
                found.append(path.with_name("cmdline").read_text())
        except OSError:  # it has just ended, or is not ours
            continue
    return found


def test_it_buys_everything_and_stops_twice_in_a_row(tmp_path: Path) -> None:
    for _ in range(2):  # the second finds what the first has left
        with demo(tmp_path, "--once") as process:
            output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, output
        for pattern in TABLE:
            assert re.search(f"^{pattern}", output, re.M), (pattern, output)
        assert "receipts  9, of 0.3362 TUSD in all" in output
        assert "the agent spent 0.3362 TUSD" in output
        assert "the merchant received 0.3362 TUSD" in output
        assert "final     9 payments" in output
        assert left_behind(tmp_path) == []


def test_it_goes_on_serving_until_it_is_interrupted(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        output = ""
        for line in process.stdout or ():
            output += line
            if "Ctrl-C" in line:
                break
        shop = re.search(r"Shop +(http://\S+)", output)
        login = re.search(r"Admin +http://\S+ +merchant / (\S+)", output)
        assert shop, output
        assert login, output
        with httpx.Client(base_url=shop[1], timeout=20) as http:
            index = http.get("/")
            assert index.status_code == 200
            assert "$0.05" in index.text
            assert http.get("/static/demo/shop.css").status_code == 200
            assert http.get("/articles/why-a-ledger/").status_code == 402
            assert http.get("/api/forecast/").status_code == 402
            assert http.get("/async/quote/").status_code == 402
            http.get("/admin/login/")
            entered = http.post(
                "/admin/login/",
                data={
                    "username": "merchant",
                    "password": login[1],
                    "csrfmiddlewaretoken": http.cookies["csrftoken"],
                    "next": "/admin/x402_django/receipt/",
                },
                follow_redirects=True,
            )
            assert entered.url.path == "/admin/x402_django/receipt/"
            assert "9 receipts" in entered.text
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert left_behind(tmp_path) == []


def test_any_node_and_any_facilitator(tmp_path: Path) -> None:
    chain = dev_chain("eip155:13377")
    agent = new_payer(chain, 1)
    payee = dev_accounts()[3].address
    with running_devchain(chain) as node, HostileFacilitator(chain) as facilitator:
        environment = {
            "X402_RPC_URL": node.url,
            "X402_NETWORK": "eip155:13377",
            "X402_ASSET": TOKEN_ADDRESS,
            "X402_PAY_TO": payee,
            "X402_FACILITATOR_URL": facilitator.url,
            "X402_AGENT_KEY": "0x" + bytes(agent.key).hex(),
        }
        with demo(tmp_path, "--once", **environment) as process:
            output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, output
        assert f"{agent.address} (X402_AGENT_KEY) with 1.00 TUSD" in output
        assert len(facilitator.calls_of("settle")) == 9
    # That service settles no ``upto``: the metered page is asked for, and paid, at its maximum.
    assert chain.dollars(payee) == 380_000
    assert chain.dollars(agent.address) == 620_000
    assert left_behind(tmp_path) == []


def test_a_lost_worker_is_reported_and_takes_the_rest_along(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        for line in process.stdout or ():
            if "Ctrl-C" in line:
                break
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        worker = next(
            int(pid) for pid in children if b"celery" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(worker, signal.SIGKILL)
        rest, _ = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "The worker process ended by itself (status -9)." in rest
    time.sleep(0.5)
    assert left_behind(tmp_path) == []
