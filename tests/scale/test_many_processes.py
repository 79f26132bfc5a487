"""Two web servers and two workers on one ledger, for real: no process knows what another does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing_service

pytestmark = [pytest.mark.slow, pytest.mark.postgres]

ROOT = Path(__file__).resolve().parents[2]
NOT_RUN = 3


def run(*arguments: str, seconds: float) -> dict[str, Any]:
    """The report of ``python -m chaos``."""
    command = [sys.executable, "-m", "chaos", "--json", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    if done.returncode == NOT_RUN:
        missing_service("PostgreSQL, the broker or Anvil", done.stderr.strip().splitlines()[-1])
    assert done.stdout, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert done.returncode == int(bool(report["lost"] or report["doubled"])), report
    return report


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_two_web_servers_and_two_workers_sell_to_many(broker):
    buyers, each = 6, 5
    report = run(
        *("--calm", "--broker", broker, "--buyers", str(buyers), "--purchases", str(each)),
        *("--seconds", "60", "--seed", "7"),
        seconds=300,
    )
    assert (report["lost"], report["doubled"], report["debts"]) == ([], [], [])
    assert report["sites"] == 2
    assert report["purchases"] == report["served"] == buyers * each
    assert report["states"] == {"final": buyers * each}
    assert report["receipts"] == report["payments"] == buyers * each
    assert report["received"] == report["booked"] == report["delivered"]
    # Nobody was asked to pay for what was paid, at either server.
    assert report["answers"]["402"] == buyers * each
    assert "402 paid" not in report["answers"]
    assert report["restarts"] == 0


def test_nobody_is_poorer_for_what_goes_wrong():
    """The short form of ``make chaos``."""
    report = run(
        *("--seconds", "20", "--seed", "1", "--buyers", "6", "--purchases", "12"),
        *("--every", "60"),
        seconds=400,
    )
    assert (report["lost"], report["doubled"]) == ([], [])
    collected = report["delivered"] - report["defaulted"]
    assert report["received"] == report["booked"] == collected + report["owed"]
    # A run in which nothing went wrong would show nothing.
    assert sum(report["killed_themselves"].values()) >= 5
    assert report["served"] >= 5
