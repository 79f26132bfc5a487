"""The whole path on real parts: HTTP, signatures, our wallet, an EVM."""

from __future__ import annotations

import pytest

from tests.chain.support import NETWORK, x402_settings
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django.models import ChainTransaction, Payment, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.testing.chain import dev_chain, new_payer, reset_dev_chains
from x402_django.testing.payer import Payer, PayingClient, settlement_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def chain(settings):
    reset_dev_chains()
    settings.X402 = {**x402_settings(CONFIRMATIONS=3), "CONFIRMATION_INTERVAL": 0}
    yield dev_chain(NETWORK)
    reset_dev_chains()


def test_buying_moves_exactly_the_price_and_becomes_final(chain):
    buyer = PayingClient(payer=Payer(new_payer(chain, 1)))
    before = chain.dollars(PAY_TO)

    response = buyer.pay("GET", "/weather/")

    assert response.status_code == 200
    payment = Payment.objects.get()
    assert chain.dollars(PAY_TO) - before == 10_000 == Receipt.objects.get().amount
    assert chain.dollars(buyer.payer.address) == 990_000
    assert settlement_of(response)["transaction"] == payment.transaction
    sent = ChainTransaction.objects.get()
    assert (sent.status, sent.hash, sent.payments.get()) == ("mined", payment.transaction, payment)

    confirm_pending_payments()
    payment.refresh_from_db()
    assert payment.state == "settled"
    chain.mine(2)
    confirm_pending_payments()
    payment.refresh_from_db()
    assert payment.state == "final"
    assert runs["weather"] == 1


def test_broken_view_charges_nothing(chain):
    buyer = PayingClient(
        payer=Payer(new_payer(chain, 1)), automatic=False, raise_request_exception=False
    )
    response = buyer.pay("GET", "/broken/")
    assert response.status_code == 500
    assert chain.dollars(buyer.payer.address) == 1_000_000
    assert Payment.objects.get().state == "released"
    assert not Receipt.objects.exists()
