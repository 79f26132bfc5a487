"""Each event of a payment is announced exactly once, however it is settled and whatever the chain
does afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from tests.chain.support import NETWORK, direct, x402_settings
from tests.http.payer_views import meanwhile
from tests.payments.hearing import History, hearing
from x402_django.chain.multicall import MULTICALL3
from x402_django.models import ChainTransaction, Payment, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.deferred import settle_deferred
from x402_django.testing.chain import (
    dev_chain,
    new_payer,
    reset_dev_chains,
    send_transaction,
    token_contract,
)
from x402_django.testing.payer import Payer, PayingClient

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.http.payer_views"),
]


@pytest.fixture
def chain(settings: Any) -> Iterator[Any]:
    reset_dev_chains()
    meanwhile.clear()
    settings.X402 = {
        **x402_settings(CONFIRMATIONS=5),
        "CONFIRMATION_INTERVAL": 0,
        "SETTLEMENT_TIMEOUT": 20,
        "DEFERRED_MIN_SETTLED": 0,
    }
    yield dev_chain(NETWORK)
    reset_dev_chains()


@pytest.fixture
def history() -> Iterator[History]:
    history = History()
    with hearing(history):
        yield history


def clients(chain: Any, count: int) -> list[PayingClient]:
    return [PayingClient(payer=Payer(new_payer(chain, 1))) for _ in range(count)]


def every(*names: str) -> dict[int, list[str]]:
    """The same history for each payment in the ledger."""
    return {pk: list(names) for pk in Payment.objects.values_list("pk", flat=True)}


def confirm_twice_at_once() -> None:
    """Two workers, and a third a moment later."""
    barrier = threading.Barrier(2)

    def work(_: int) -> None:
        try:
            barrier.wait(10)
            confirm_pending_payments()
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    confirm_pending_payments()


def deferred(chain: Any, count: int = 4) -> None:
    """So many payments, delivered and settled together in one transaction."""
    for client in clients(chain, count):
        assert client.pay("GET", "/later/").status_code == 200
    assert settle_deferred().settled == count
    assert ChainTransaction.objects.get(to=MULTICALL3).payments_count == count


def test_at_once_in_groups(chain: Any, history: History) -> None:
    buyers = clients(chain, 6)
    barrier = threading.Barrier(len(buyers))

    def shop(buyer: PayingClient) -> int:
        try:
            barrier.wait(20)
            return buyer.pay("GET", "/now/").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(len(buyers)) as pool:
        assert list(pool.map(shop, buyers)) == [200] * 6
    assert history.take() == every("verified", "settled", "delivered")
    for buyer in buyers:
        assert buyer.get("/now/", headers=buyer.last_headers).status_code == 200
    confirm_twice_at_once()
    assert history.take() == {}

    chain.mine(5)
    confirm_twice_at_once()
    assert history.take() == every("confirmed")
    confirm_twice_at_once()
    assert history.take() == {}


def test_deferred(chain: Any, history: History) -> None:
    deferred(chain)
    assert history.take() == every("verified", "delivered", "settled")
    chain.mine(5)
    confirm_twice_at_once()
    assert history.take() == every("confirmed")


def test_deferred_and_never_paid(chain: Any, history: History) -> None:
    poor, rich = (PayingClient(payer=Payer(new_payer(chain, 1, wei=10**18))) for _ in range(2))
    for client in (poor, rich):
        assert client.pay("GET", "/later/").status_code == 200
    token = token_contract(direct())
    call = token.encode_abi("transfer", [rich.payer.address, 1_000_000])
    send_transaction(direct(), poor.payer.account, {"to": token.address, "data": call, "value": 0})
    settle_deferred()
    settle_deferred()
    failed, paid = (Payment.objects.get(payer=one.payer.address) for one in (poor, rich))
    assert history.take() == {
        failed.pk: ["verified", "delivered", "failed"],
        paid.pk: ["verified", "delivered", "settled"],
    }


def test_a_group_that_moves_to_another_block(chain: Any, history: History) -> None:
    deferred(chain)
    confirm_pending_payments()
    history.take()
    chain.reorg(1, keep_transactions=True)
    confirm_twice_at_once()
    assert history.take() == {}
    chain.mine(5)
    confirm_twice_at_once()
    assert history.take() == every("confirmed")
    assert Receipt.objects.count() == 4


def test_a_group_that_is_reorganised_away_and_settles_again(chain: Any, history: History) -> None:
    """Each rider is reversed once and settled once more; one confirmation, one receipt each."""
    deferred(chain)
    confirm_pending_payments()
    history.take()
    chain.set_automine(False)
    chain.reorg(1)
    chain.drop_pending()
    chain.mine(2)

    confirm_twice_at_once()
    assert history.take() == every("reversed")

    chain.set_automine(True)
    chain.mine()
    for _ in range(3):
        confirm_pending_payments()
    assert history.take() == every("settled")
    chain.mine(5)
    confirm_twice_at_once()
    assert history.take() == every("confirmed")
    assert (Receipt.objects.count(), chain.dollars(Payment.objects.first().pay_to)) == (4, 40_000)
