"""The table "What the client gets", row by row, through HTTP."""

from __future__ import annotations

import pytest

from tests.shop.runs import runs
from x402_django.models import Payment, Receipt
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import decode, settlement_of

pytestmark = pytest.mark.django_db


def test_unpaid_request_gets_a_challenge_both_versions_read(client):
    response = client.get("/weather/")

    assert response.status_code == 402
    v2 = decode(response["PAYMENT-REQUIRED"])
    assert v2["x402Version"] == 2
    assert v2["resource"] == {
        "url": "https://shop.example/weather/",
        "description": "Today's weather",
        "mimeType": "application/json",
    }
    assert v2["accepts"] == [
        {
            "scheme": "exact",
            "network": "eip155:84532",
            "amount": "10000",
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
            "payTo": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
            "maxTimeoutSeconds": 300,
            "extra": {"name": "USDC", "version": "2"},
        }
    ]
    v1 = response.json()
    assert v1["x402Version"] == 1
    assert v1["accepts"][0]["network"] == "base-sepolia"
    assert v1["accepts"][0]["maxAmountRequired"] == "10000"
    assert response["Cache-Control"] == "no-store"
    assert runs["weather"] == 0
    assert Payment.objects.count() == 0


@pytest.mark.parametrize("version", [1, 2])
def test_paid_request_gets_the_content_and_a_receipt(buyer, version):
    buyer.x402_version = version
    response = buyer.pay("GET", "/weather/")

    assert response.status_code == 200
    assert response.json() == {"weather": "sunny", "payer": buyer.payer.address, "run": 1}
    payment = Payment.objects.get()
    assert payment.state == "settled"
    assert payment.amount == 10_000
    assert payment.delivered_at is not None
    receipt = Receipt.objects.get()
    assert (receipt.amount, receipt.payer, receipt.transaction) == (
        10_000,
        buyer.payer.address,
        payment.transaction,
    )
    name = "PAYMENT-RESPONSE" if version == 2 else "X-PAYMENT-RESPONSE"
    assert decode(response[name])["transaction"] == payment.transaction
    assert response["Cache-Control"] == "private"
    assert list(payment.events.values_list("from_state", "to_state")) == [
        ("claimed", "verified"),
        ("verified", "settling"),
        ("settling", "settled"),
    ]
    assert InstantFacilitator.calls == {"verify": 1, "settle": 1}


def test_async_view_is_paid(buyer):
    assert buyer.pay("GET", "/async-weather/").json()["weather"] == "windy"
    assert runs["async_weather"] == 1


def test_replay_on_the_same_request_gets_the_stored_answer(buyer):
    first = buyer.pay("GET", "/weather/")
    again = buyer.get("/weather/", headers=buyer.last_headers)

    assert again.status_code == 200
    assert again.content == first.content
    assert settlement_of(again) == settlement_of(first)
    assert runs["weather"] == 1
    assert InstantFacilitator.calls["settle"] == 1


def test_view_that_asks_from_inside(buyer):
    assert buyer.get("/asking/").status_code == 402
    response = buyer.pay("GET", "/asking/")
    assert (response.status_code, response.content) == (200, b"answered")


def test_hidden_decorator_is_still_paid(buyer):
    assert buyer.get("/hidden/").status_code == 402
    assert buyer.pay("GET", "/hidden/").content == b"hidden"
    assert runs["hidden"] == 1
