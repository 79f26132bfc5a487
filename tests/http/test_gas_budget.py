"""The gas budget as buyers meet it: 503 before anything is sent, and before the view works."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.chain.support import NETWORK, SETTLER, direct, x402_settings
from tests.http.payer_views import meanwhile
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django import clock
from x402_django.models import ChainTransaction, Payment, Receipt
from x402_django.testing.chain import dev_chain, new_payer, reset_dev_chains
from x402_django.testing.payer import Payer, PayingClient

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.http.payer_views"),
]


@pytest.fixture
def chain(settings: Any) -> Iterator[Any]:
    reset_dev_chains()
    meanwhile.clear()
    settings.X402 = {**x402_settings(), "SETTLEMENT_TIMEOUT": 20}
    yield dev_chain(NETWORK)
    reset_dev_chains()


def limit(settings: Any, **options: int) -> None:
    settings.X402 = {**x402_settings(options), "SETTLEMENT_TIMEOUT": 20}


def client(chain: Any) -> PayingClient:
    return PayingClient(payer=Payer(new_payer(chain, 1)), automatic=False)


def asked_to_wait(chain: Any, buyer: PayingClient, path: str, *, ran: int) -> None:
    earned, sent = chain.dollars(PAY_TO), ChainTransaction.objects.count()
    receipts = Receipt.objects.count()
    response = buyer.pay("GET", path)
    assert (response.status_code, "Retry-After" in response) == (503, True)
    assert buyer.payer.address.encode() not in response.content
    assert Payment.objects.latest("pk").state == "released"
    assert runs[buyer.payer.address] == ran
    assert (chain.dollars(PAY_TO), ChainTransaction.objects.count()) == (earned, sent)
    assert (direct().eth.get_transaction_count(SETTLER.address), Receipt.objects.count()) == (
        sent,
        receipts,
    )


def test_a_payer_who_has_used_up_an_hours_gas(chain: Any, settings: Any) -> None:
    greedy, other = client(chain), client(chain)
    assert greedy.pay("GET", "/now/").status_code == 200
    limit(settings, GAS_PER_PAYER=ChainTransaction.objects.get().gas_used)

    asked_to_wait(chain, greedy, "/now/?2", ran=1)

    assert other.pay("GET", "/now/").status_code == 200
    with clock.shifted(timedelta(hours=1, seconds=1)):
        response = greedy.get("/now/?2", headers=greedy.last_headers)
        assert response.status_code == 402  # that authorization has expired meanwhile
    limit(settings, GAS_PER_PAYER=ChainTransaction.objects.latest("pk").gas_used * 10)
    assert greedy.get("/now/?2", headers=greedy.last_headers).status_code == 200
    assert chain.dollars(greedy.payer.address) == 1_000_000 - 2 * 10_000
    assert runs[greedy.payer.address] == 2


def test_all_payers_together_have_used_up_an_hours_gas(chain: Any, settings: Any) -> None:
    first, second = client(chain), client(chain)
    assert first.pay("GET", "/now/").status_code == 200
    limit(settings, GAS_PER_HOUR=ChainTransaction.objects.get().gas_used)
    asked_to_wait(chain, second, "/now/", ran=0)


def test_what_is_used_up_while_the_view_runs_is_not_sent_either(chain: Any, settings: Any) -> None:
    first, second = client(chain), client(chain)
    limit(settings, GAS_PER_HOUR=1)
    meanwhile.append(lambda: first.pay("GET", "/now/"))
    response = second.pay("GET", "/now/")
    assert response.status_code == 503
    assert runs == {first.payer.address: 1, second.payer.address: 1}
    states = dict(Payment.objects.values_list("payer", "state"))
    assert states == {first.payer.address: "settled", second.payer.address: "released"}
    assert (ChainTransaction.objects.count(), chain.dollars(PAY_TO)) == (1, 10_000)
