"""One shop, every kind of paid view, over WSGI and ASGI, for clients of both versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpResponse
from django.test import AsyncClient, Client

from tests.chain.support import NETWORK, x402_settings
from tests.shop.runs import runs
from x402_django.models import PriceRule
from x402_django.testing.chain import dev_chain, reset_dev_chains
from x402_django.testing.payer import Payer


@dataclass(frozen=True)
class Kind:
    """A way of selling a view."""

    path: str
    view: str
    content: bytes
    amount: int


KINDS = {
    "sync": Kind("/weather/", "weather", b"sunny", 10_000),
    "async": Kind("/async-weather/", "async_weather", b"windy", 10_000),
    "mixin": Kind("/photo/", "photo", b"photo", 20_000),
    "rule": Kind("/articles/a/", "article", b"<h1>a</h1>", 1_000_000),
    "asking": Kind("/asking/", "asking", b"answered", 30_000),
    "hidden": Kind("/hidden/", "hidden", b"hidden", 10_000),
}


class Shopper:
    """A client of one protocol version over one kind of server.

    ``asks`` is how often a view that asks from inside runs before it is paid.
    """

    def __init__(self, transport: str, version: int, payer: Payer) -> None:
        self.transport, self.version, self.payer = transport, version, payer
        self.headers: dict[str, str] = {}
        if transport == "asgi":
            client = AsyncClient(raise_request_exception=False)

            async def send(*args: Any, **kwargs: Any) -> Any:
                return await client.generic(*args, **kwargs)

            self._send: Any = async_to_sync(send)
        else:
            self._send = Client(raise_request_exception=False).generic

    def send(
        self, path: str, headers: Mapping[str, str] | None = None, *, method: str = "GET",
        body: bytes = b"", **extra: Any,
    ) -> HttpResponse:  # fmt: skip
        """One request as it is."""
        return self._send(method, path, body, headers=dict(headers or {}), **extra)

    def sign(self, path: str, *, method: str = "GET", body: bytes = b"", **overrides: Any) -> Any:
        """The headers that pay for a request, from its own challenge."""
        challenge = self.send(path, method=method, body=body)
        assert challenge.status_code == 402, challenge.content
        self.headers = self.payer.headers_for(challenge, version=self.version, **overrides)
        return self.headers

    def pay(self, path: str, *, method: str = "GET", body: bytes = b"") -> HttpResponse:
        """Be asked, sign and send again; view runs are counted from the paid request on."""
        self.sign(path, method=method, body=body)
        runs.clear()
        return self.send(path, self.headers, method=method, body=body)

    @property
    def response_header(self) -> str:
        return "PAYMENT-RESPONSE" if self.version == 2 else "X-PAYMENT-RESPONSE"


@pytest.fixture(params=["wsgi", "asgi"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, db: None) -> Kind:
    if request.param == "rule":
        PriceRule.objects.create(name="articles", price_usd=1, url_names=["shop:article"])
    return KINDS[request.param]


@pytest.fixture
def shopper(transport: str, version: int, payer: Payer, db: None) -> Shopper:
    return Shopper(transport, version, payer)


@pytest.fixture
def chain(settings: Any) -> Iterator[Any]:
    """The site with its own wallet, on an embedded chain of its own."""
    reset_dev_chains()
    settings.X402 = {
        **x402_settings(CONFIRMATIONS=3),
        "CONFIRMATION_INTERVAL": 0,
        "SETTLEMENT_TIMEOUT": 2,
    }
    yield dev_chain(NETWORK)
    reset_dev_chains()
