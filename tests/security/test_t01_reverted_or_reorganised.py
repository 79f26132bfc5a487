"""T1: content granted, then the transfer reverts or is reorganised away."""

from __future__ import annotations

import logging

import pytest

from tests.chain.support import direct
from tests.security.conftest import earned
from tests.shop import views
from tests.shop.runs import runs
from x402_django.models import Payment, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.testing.chain import send_transaction, token_contract

pytestmark = pytest.mark.django_db(transaction=True)


def test_t01_content_is_withheld_when_the_transfer_fails(chain, rich, monkeypatch):
    """The payer empties the wallet while the view runs."""
    account = rich.payer.account
    chain.fund(account.address, 10**18)
    real = views.JsonResponse

    def emptied(*args, **kwargs):
        token = token_contract(direct())
        data = token.encode_abi("transfer", ["0x000000000000000000000000000000000000dEaD", 10**6])
        send_transaction(direct(), account, {"to": token.address, "data": data})
        return real(*args, **kwargs)

    monkeypatch.setattr(views, "JsonResponse", emptied)
    response = rich.pay("GET", "/weather/")

    assert response.status_code == 402
    assert b"sunny" not in response.content
    assert earned(chain) == 0
    assert (Payment.objects.get().state, Receipt.objects.count()) == ("failed", 0)


def test_t01_a_reorganisation_is_noticed_and_undone(chain, rich, caplog, settings):
    network = settings.X402["NETWORKS"]["eip155:1337"]
    settings.X402 = {
        **settings.X402,
        "NETWORKS": {"eip155:1337": {**network, "CONFIRMATIONS": 10}},
    }
    assert rich.pay("GET", "/weather/").status_code == 200
    assert earned(chain) == 10_000
    chain.reorg(1)
    chain.drop_pending()
    chain.mine()
    assert earned(chain) == 0

    with caplog.at_level(logging.WARNING, logger="x402_django"):
        confirm_pending_payments()
    assert "was reorganised away; it is sent again." in caplog.text
    assert earned(chain) == 10_000
    for _ in range(3):
        confirm_pending_payments()

    assert Payment.objects.get().state == "settled"
    assert (earned(chain), Receipt.objects.count(), runs["weather"]) == (10_000, 1, 1)
