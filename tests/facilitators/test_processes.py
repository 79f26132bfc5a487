"""Several processes settle from one wallet and one database, and some of them are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tests.chain import support
from tests.chain.support import PRICE, sign, store
from tests.settings import PAY_TO
from x402_django.chain.devchain import DevServer
from x402_django.facilitators.base import get_facilitator
from x402_django.models import ChainTransaction, Payment, SettlementWallet
from x402_django.protocol.types import Settlement, SignedPayment
from x402_django.testing.chain import new_payer, running_devchain

pytestmark = pytest.mark.django_db(transaction=True)

BLOCK_TIME = 1


@pytest.fixture
def server(settings: Any) -> Iterator[DevServer]:
    with running_devchain(block_time=BLOCK_TIME) as server:
        settings.X402 = {
            **support.x402_settings(PROVIDER=None, RPC_URLS=[server.url], POLL_INTERVAL=0.1),
            "SETTLEMENT_TIMEOUT": 120,
        }
        yield server


def database_url() -> str:
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    user, host, port = settings["USER"], settings["HOST"], settings["PORT"]
    login = f"{user}:{settings['PASSWORD']}" if settings["PASSWORD"] else user
    return f"postgres://{login}@{host}{f':{port}' if port else ''}/{settings['NAME']}"


def start(x402: dict[str, Any], payments: list[Payment], die: Any = None) -> Any:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.facilitators.settler"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": database_url(),
        },
    )
    orders = {"x402": x402, "payments": [one.pk for one in payments], "die": die}
    process.stdin.write(json.dumps(orders))
    process.stdin.close()
    return process


def results_of(process: Any) -> dict[str, str]:
    output = process.stdout.read()
    process.stdout.close()
    assert process.wait(150) == 0
    return json.loads(output)


def new_payments(server: DevServer, count: int) -> list[Payment]:
    return [store(sign(new_payer(server.chain, 1))) for _ in range(count)]


def everybody_paid_once(server: DevServer, payments: list[Payment]) -> None:
    server.chain.mine()
    assert server.chain.dollars(PAY_TO) == len(payments) * PRICE
    assert {server.chain.dollars(one.payer) for one in payments} == {1_000_000 - PRICE}
    (wallet,) = SettlementWallet.objects.all()
    mined = ChainTransaction.objects.filter(status="mined")
    assert sorted(mined.values_list("nonce", flat=True)) == list(range(wallet.next_nonce))


def test_two_processes_share_the_lane(server: DevServer, settings: Any) -> None:
    payments = new_payments(server, 24)
    processes = [start(settings.X402, part) for part in (payments[:12], payments[12:])]
    found = [results_of(one) for one in processes]
    hashes = {value for results in found for value in results.values()}
    assert hashes == set(ChainTransaction.objects.values_list("hash", flat=True))
    everybody_paid_once(server, payments)
    transactions = ChainTransaction.objects.count()
    print(f"\n24 payments of two processes in {transactions} transactions")
    assert transactions <= 12


def test_two_processes_take_nonces_without_a_gap_or_a_double(server, settings) -> None:
    """Every payment by itself, so that the nonces are all they share."""
    settings.X402 = {
        **support.x402_settings(
            {"GROUP_SIZE": 1}, PROVIDER=None, RPC_URLS=[server.url], POLL_INTERVAL=0.1
        ),
        "SETTLEMENT_TIMEOUT": 120,
    }
    payments = new_payments(server, 20)
    processes = [start(settings.X402, part) for part in (payments[:10], payments[10:])]
    found = {pk: value for one in processes for pk, value in results_of(one).items()}
    rows = ChainTransaction.objects.order_by("nonce")
    assert [row.nonce for row in rows] == list(range(20))
    assert {row.status for row in rows} == {"mined"}
    assert {str(row.payments.get().pk): row.hash for row in rows} == found
    everybody_paid_once(server, payments)


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        ("x402_django.chain.queue", "take_lane"),
        ("x402_django.chain.outbox", "store"),
        ("x402_django.chain.outbox", "broadcast"),
        ("x402_django.chain.queue", "enqueue"),
    ],
    ids=lambda point: point[1],
)
def test_a_process_that_is_killed_stops_nobody(server, settings, point) -> None:
    payments = new_payments(server, 12)
    doomed = start(settings.X402, payments[:6], die=point)
    survivor = start(settings.X402, payments[6:])
    results = results_of(survivor)
    ended = doomed.wait(150)
    doomed.stdout.close()
    assert ended == (9 if point[1] != "enqueue" else ended)
    assert all(value.startswith("0x") for value in results.values()), results

    # Its payments are settled when somebody asks for them again.
    batch = [(SignedPayment.from_row(one), one) for one in payments]
    again = get_facilitator("default").settle_many(batch)
    assert all(isinstance(one, Settlement) for one in again), again
    everybody_paid_once(server, payments)
