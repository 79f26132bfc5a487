"""Assertions that say in a sentence what is wrong."""

from __future__ import annotations

import pytest
from django.http import HttpResponse

from x402_django.models import PaymentMethod, PriceRule
from x402_django.testing.assertions import (
    assert_not_charged,
    assert_paid,
    assert_requires_payment,
)
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer, PayingClient

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


def test_payment_is_required(client) -> None:
    (offer,) = assert_requires_payment(client.get("/weather/"), "$0.01")
    assert offer["amount"] == "10000"
    assert_requires_payment(client.get("/weather/"))


def test_the_price_is_another(client) -> None:
    with pytest.raises(AssertionError, match=r"to be 0\.02 USD; 0\.01 USDC on Base Sepolia is ask"):
        assert_requires_payment(client.get("/weather/"), "$0.02")


def test_the_page_is_free(client) -> None:
    with pytest.raises(AssertionError, match=r"the answer was 200, and free\."):
        assert_requires_payment(client.get("/free/"), "$0.01")


def test_the_page_is_not_there(client) -> None:
    with pytest.raises(AssertionError, match=r"the answer was 404\."):
        assert_requires_payment(client.get("/nowhere/"))


def test_a_402_without_a_challenge() -> None:
    with pytest.raises(AssertionError, match="no client could pay it"):
        assert_requires_payment(HttpResponse(status=402))


def test_tokens_have_decimals_of_their_own(client) -> None:
    method = PaymentMethod.objects.create(
        name="Fine dollars",
        network="eip155:84532",
        asset=TOKEN,
        asset_symbol="FINE",
        asset_name="Fine Dollar",
        asset_version="1",
        asset_decimals=18,
        pay_to=TOKEN,
    )
    PriceRule.objects.create(name="Report", key="report", price_usd="0.5").payment_methods.add(
        method
    )
    (offer,) = assert_requires_payment(client.get("/report/"), "$0.50")
    assert offer["amount"] == str(5 * 10**17)


def test_paid() -> None:
    client = PayingClient()
    payment = assert_paid(client.get("/weather/"), "$0.01", by=client.payer)
    assert payment.resource_url == "https://shop.example/weather/"


def test_paid_another_price() -> None:
    with pytest.raises(AssertionError, match=r"to be 0\.02 USD; 0\.01 USDC was paid"):
        assert_paid(PayingClient().get("/weather/"), "$0.02")


def test_paid_by_somebody_else() -> None:
    other = Payer()
    with pytest.raises(AssertionError, match=f"{other.address} was to pay"):
        assert_paid(PayingClient().get("/weather/"), by=other)


def test_not_paid(client) -> None:
    with pytest.raises(AssertionError, match="402 was not paid for: payment_required"):
        assert_paid(client.get("/weather/"))


def test_free_is_not_paid(client) -> None:
    with pytest.raises(AssertionError, match="200 was not paid for"):
        assert_paid(client.get("/free/"))


def test_charged() -> None:
    client = PayingClient()
    assert_not_charged(client.payer)
    client.get("/weather/")
    with pytest.raises(
        AssertionError, match=r"0\.01 USDC was taken for https://shop\.example/weather/ \(settled\)"
    ):
        assert_not_charged(client.payer)


def test_a_failing_view_charges_nobody() -> None:
    client = PayingClient(raise_request_exception=False)
    assert client.get("/broken/").status_code == 500
    assert_not_charged(client.payer)
    assert InstantFacilitator.calls == {"verify": 1}
