"""Answers too large to store, taken by real servers' rules: whole, in part, or not at all."""

from __future__ import annotations

import pytest
from django.test import AsyncClient

from tests.shop.runs import runs
from x402_django.models import Payment
from x402_django.testing.instant import InstantFacilitator

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_large_answer_is_delivered_when_the_server_took_all_of_it(buyer):
    response = buyer.pay("GET", "/large/")
    assert Payment.objects.get().delivered_at is None
    slices = list(response)
    assert [len(part) for part in slices] == [65536, 100_000 - 65536]
    assert response["Content-Length"] == "100000"
    assert Payment.objects.get().delivered_at is not None


def test_a_large_answer_dropped_half_way_is_owed_and_not_charged_again(buyer):
    response = buyer.pay("GET", "/large/")
    parts = iter(response)
    next(parts)
    parts.close()  # the client has gone; servers close what they were sending
    response.close()
    payment = Payment.objects.get()
    assert (payment.state, payment.delivered_at) == ("settled", None)

    again = buyer.get("/large/", headers=buyer.last_headers)
    assert b"".join(again) == b"x" * 100_000
    assert Payment.objects.get().delivered_at is not None
    assert (runs["large"], InstantFacilitator.calls["settle"]) == (2, 1)
    assert buyer.get("/large/", headers=buyer.last_headers).status_code == 402


async def test_under_asgi_it_leaves_in_slices_too(payer):
    client = AsyncClient()
    headers = payer.headers_for(await client.get("/large/"))
    response = await client.get("/large/", headers=headers)
    parts = [part async for part in response]
    assert [len(part) for part in parts] == [65536, 100_000 - 65536]
    assert (await Payment.objects.aget()).delivered_at is not None


async def test_under_asgi_a_dropped_answer_is_owed(payer):
    client = AsyncClient()
    headers = payer.headers_for(await client.get("/large/"))
    response = await client.get("/large/", headers=headers)
    parts = aiter(response)
    await anext(parts)
    await response._iterator.aclose()
    assert (await Payment.objects.aget()).delivered_at is None
    again = await client.get("/large/", headers=headers)
    assert again.status_code == 200
