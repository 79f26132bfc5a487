"""Many requests at once with one payment: one run, one settlement."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from tests.shop.runs import runs
from x402_django.models import Payment, Receipt
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.http.views")]


async def test_twelve_async_requests_with_one_payment():
    client = AsyncClient()
    headers = Payer().headers_for(await client.get("/slow-async/"))

    responses = await asyncio.gather(
        *(client.get("/slow-async/", headers=headers) for _ in range(12))
    )

    told = Counter(response.status_code for response in responses)
    assert set(told) <= {200, 409}
    assert told[200] >= 1
    assert {r.content for r in responses if r.status_code == 200} == {b"slow run 1"}
    assert runs["slow_async"] == 1
    assert InstantFacilitator.calls == {"verify": 1, "settle": 1}
    assert await sync_to_async(Payment.objects.count)() == 1
    assert await sync_to_async(Receipt.objects.count)() == 1


async def test_eight_payers_at_once_get_eight_answers():
    client = AsyncClient()
    challenge = await client.get("/slow-async/")
    headers = [Payer().headers_for(challenge) for _ in range(8)]

    responses = await asyncio.gather(*(client.get("/slow-async/", headers=h) for h in headers))

    assert [r.status_code for r in responses] == [200] * 8
    assert runs["slow_async"] == 8
    assert InstantFacilitator.calls == {"verify": 8, "settle": 8}


async def test_an_async_stream_is_delivered_once():
    client = AsyncClient()
    headers = Payer().headers_for(await client.get("/stream-async/"))
    response = await client.get("/stream-async/", headers=headers)
    content = b"".join([chunk async for chunk in response])

    assert content == b"one two three"
    payment = await sync_to_async(Payment.objects.get)()
    assert payment.delivered_at is not None
    assert (await client.get("/stream-async/", headers=headers)).status_code == 402
    assert runs["stream_async"] == 1
