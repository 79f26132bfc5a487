"""The flow ``deferred`` on real parts: HTTP, signatures, our wallet, an EVM."""

from __future__ import annotations

import pytest

from tests.chain.support import NETWORK, x402_settings
from tests.settings import PAY_TO
from x402_django.chain.rpc import get_web3
from x402_django.models import Payment, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.deferred import settle_deferred
from x402_django.testing.chain import (
    dev_chain,
    new_payer,
    reset_dev_chains,
    send_transaction,
    token_contract,
)
from x402_django.testing.payer import Payer, PayingClient, settlement_of

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.http.deferred_views"),
]


@pytest.fixture
def chain(settings):
    reset_dev_chains()
    settings.X402 = {
        **x402_settings(CONFIRMATIONS=1),
        "CONFIRMATION_INTERVAL": 0,
        "DEFERRED_MIN_SETTLED": 0,
    }
    yield dev_chain(NETWORK)
    reset_dev_chains()


def test_several_are_delivered_and_then_paid_exactly(chain):
    buyers = [PayingClient(payer=Payer(new_payer(chain, 1))) for _ in range(3)]
    before = chain.dollars(PAY_TO)

    for buyer in buyers:
        response = buyer.pay("GET", "/tick/")
        assert response.status_code == 200
        assert settlement_of(response)["errorReason"] == "settlement_pending"
    assert chain.dollars(PAY_TO) == before

    assert settle_deferred().settled == 3

    assert chain.dollars(PAY_TO) - before == 30_000
    assert [chain.dollars(buyer.payer.address) for buyer in buyers] == [990_000] * 3
    assert Receipt.objects.count() == 3
    confirm_pending_payments()
    assert set(Payment.objects.values_list("state", flat=True)) == {"final"}
    for buyer in buyers:
        again = settlement_of(buyer.get("/tick/", headers=buyer.last_headers))
        assert (again["success"], again["transaction"] != "") == (True, True)


def test_a_payer_who_took_the_money_away_is_in_default(chain):
    account = new_payer(chain, 1, wei=10**18)
    buyer = PayingClient(payer=Payer(account))
    assert buyer.pay("GET", "/tick/").status_code == 200

    w3 = get_web3(NETWORK)
    token = token_contract(w3)
    call = token.encode_abi("transfer", [PAY_TO, 995_000])
    send_transaction(w3, account, {"to": token.address, "data": call, "value": 0})
    before = chain.dollars(PAY_TO)

    assert settle_deferred().failed == 1
    payment = Payment.objects.get()
    assert (payment.state, payment.delivered_at is not None) == ("failed", True)
    assert not Receipt.objects.exists()

    assert buyer.pay("GET", "/tick/").status_code == 402  # 5,000 units are not enough
    chain.mint(account.address, 1_000_000)
    response = buyer.pay("GET", "/tick/")
    assert settlement_of(response)["success"] is True
    assert Payment.objects.first().flow == "upfront"
    assert chain.dollars(PAY_TO) - before == 10_000
    assert Receipt.objects.count() == 1
