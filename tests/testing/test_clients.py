"""Test clients that pay: Django's, its asynchronous one, and DRF's."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from tests.shop.runs import runs
from x402_django.models import Payment
from x402_django.testing.payer import (
    AsyncPayingClient,
    Payer,
    PayingClient,
    PayingMixin,
    settlement_of,
)

pytestmark = pytest.mark.django_db(transaction=True)


class PayingAPIClient(PayingMixin, APIClient):
    pass


def test_what_is_asked_is_paid() -> None:
    client = PayingClient()
    response = client.get("/weather/")
    assert response.json() == {"weather": "sunny", "payer": client.payer.address, "run": 1}
    assert Payment.objects.get().payer == client.payer.address
    assert settlement_of(response)["success"] is True


@pytest.mark.parametrize("version", [1, 2])
def test_in_either_version(version: int) -> None:
    assert PayingClient(version=version).get("/weather/").status_code == 200
    assert Payment.objects.get().x402_version == version


def test_with_a_body_that_is_sent_twice() -> None:
    response = PayingClient().post("/order/", "two loaves", content_type="text/plain")
    assert response.status_code == 201
    assert response.json() == {"ordered": "two loaves", "run": 1}


def test_head_is_paid_like_get() -> None:
    assert PayingClient().head("/weather/").status_code == 200
    assert Payment.objects.get().amount == 10_000


def test_free_pages_cost_nothing() -> None:
    assert PayingClient().get("/free/").content == b"free"
    assert not Payment.objects.exists()


def test_each_request_is_a_new_payment() -> None:
    client = PayingClient()
    client.get("/weather/")
    client.get("/weather/")
    assert runs["weather"] == 2
    assert Payment.objects.count() == 2


def test_a_payment_that_the_caller_sends_is_not_replaced() -> None:
    client = PayingClient()
    client.get("/weather/")
    used = client.last_headers
    response = client.get("/order/", headers=used)
    assert response.status_code == 402
    assert Payment.objects.count() == 1


def test_other_headers_go_with_both_requests() -> None:
    page = {"accept": "text/html", "user-agent": "Mozilla/5.0"}
    assert PayingClient().get("/weather/", headers=page).status_code == 200


def test_not_automatic() -> None:
    client = PayingClient(automatic=False)
    assert client.get("/weather/").status_code == 402
    assert client.pay("GET", "/weather/").status_code == 200
    assert Payment.objects.count() == 1


def test_somebody_else_pays() -> None:
    payer = Payer()
    assert PayingClient(payer=payer).get("/weather/").json()["payer"] == payer.address


async def test_asynchronously() -> None:
    client = AsyncPayingClient()
    response = await client.get("/async-weather/")
    assert response.json() == {"weather": "windy", "payer": client.payer.address}
    again = await client.pay("GET", "/async-weather/")
    assert again.status_code == 200
    assert await Payment.objects.acount() == 2


@pytest.mark.urls("tests.rest_framework.urls")
def test_of_drf() -> None:
    client = PayingAPIClient()
    response = client.get("/raising/", {"colour": "blue"})
    assert response.data == {"payer": client.payer.address}
    assert Payment.objects.get().amount == 40_000
