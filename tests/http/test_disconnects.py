"""A client that goes away while its view runs, on an asynchronous server."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from django.test import AsyncClient, AsyncRequestFactory

from tests.shop.runs import runs
from x402_django.models import Payment
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.http.views")]


async def test_a_client_that_goes_away_is_not_charged_and_may_come_back_at_once():
    path = "/slow-async/"
    client = AsyncClient()
    headers = Payer().headers_for(await client.get(path))
    scope = AsyncRequestFactory()._base_scope(path=path)
    scope["method"] = "GET"
    scope["headers"] = [(b"host", b"testserver")] + [
        (name.lower().encode(), value.encode()) for name, value in headers.items()
    ]
    communicator = ApplicationCommunicator(get_asgi_application(), scope)
    await communicator.send_input({"type": "http.request", "body": b""})
    while not runs["slow_async"]:
        await asyncio.sleep(0.01)
    await communicator.send_input({"type": "http.disconnect"})
    await communicator.wait(5)

    payment = await sync_to_async(Payment.objects.get)()
    assert payment.state == "released"
    assert InstantFacilitator.calls["settle"] == 0
    again = await client.get(path, headers=headers)
    assert (again.status_code, again.content) == (200, b"slow run 2")
