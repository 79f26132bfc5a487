"""Callers of the facilitator service, in process."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from django.test import Client

from tests.chain import support
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS
from x402_django.testing.chain import dev_chain, new_payer
from x402_django.testing.payer import Payer

NETWORK = support.NETWORK
V1_NAME = "dev"
PRICE = 10_000
#: A seller that has nothing to do with this site.
SELLER = "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"


def x402_settings(options: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        **support.x402_settings(options, V1_NAME=V1_NAME),
        "SERVICE_FACILITATOR": "default",
        "SETTLEMENT_TIMEOUT": 5,
        **changes,
    }


def requirements(version: int = 2, **changes: Any) -> dict[str, Any]:
    """What a seller asks for: a cent, to itself."""
    common = {
        "scheme": "exact",
        "asset": TOKEN_ADDRESS,
        "payTo": SELLER,
        "maxTimeoutSeconds": 300,
        "extra": {"name": "Test Dollar", "version": "1"},
    }
    if version == 1:
        described = {"description": "Weather", "mimeType": "application/json"}
        resource = "https://api.example/weather"
        own = {"network": V1_NAME, "maxAmountRequired": str(PRICE), "resource": resource}
        return {**common, **described, **own, **changes}
    return {**common, "network": NETWORK, "amount": str(PRICE), **changes}


def ask(
    payer: Payer | None = None,
    *,
    version: int = 2,
    resource: str = "https://api.example/weather",
    asked: Mapping[str, Any] | None = None,
    **authorization: Any,
) -> dict[str, Any]:
    """The body of a call, for a payment that ``payer`` signs now."""
    payer = payer or Payer(new_payer(dev_chain(NETWORK), dollars=1))
    asked = dict(asked or requirements(version))
    # Signed on the chain that v1's name stands for here.
    signable = {**asked, "network": NETWORK}
    payload = payer.payload(signable, **authorization)
    if version == 1:
        payload = {
            "x402Version": 1,
            "scheme": asked["scheme"],
            "network": asked["network"],
            "payload": payload["payload"],
        }
    else:
        payload |= {"accepted": asked, "resource": {"url": resource}}
    return {"x402Version": version, "paymentPayload": payload, "paymentRequirements": asked}


class Caller:
    """A seller's server with an API key."""

    def __init__(self, secret: str | None) -> None:
        self._client = Client(raise_request_exception=False)
        self._headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}

    def post(self, endpoint: str, body: Any) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._client.post(
            f"/facilitator/{endpoint}",
            data,
            content_type="application/json",
            headers=self._headers,
        )

    def verify(self, body: Any) -> Any:
        return self.post("verify", body)

    def settle(self, body: Any) -> Any:
        return self.post("settle", body)


def balance(address: str) -> int:
    """Of test dollars, in units."""
    return int(dev_chain(NETWORK).dollars(address))


def wait_until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
