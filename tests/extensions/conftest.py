"""A buyer who names purchases."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from x402_django.testing.payer import Payer, decode, encode

NAME = "pay_7d5d747be160e280504c099d984bcfe0"


class NamingBuyer:
    """Signs payments and sends them under identifiers of its choosing."""

    def __init__(self, payer: Payer) -> None:
        self.payer = payer
        self.client = Client(raise_request_exception=False)

    def challenge(self, path: str) -> dict[str, Any]:
        return decode(self.client.get(path)["PAYMENT-REQUIRED"])

    def sign(self, path: str) -> dict[str, Any]:
        """A new signed payload for ``path``."""
        return self.payer.payload(self.challenge(path)["accepts"][0])

    def send(self, path: str, payload: dict[str, Any], name: Any = NAME, **headers: str) -> Any:
        """Present ``payload`` under ``name``, as the official clients write it."""
        if name is not None:
            info = {"required": False, "id": name}
            payload = {**payload, "extensions": {"payment-identifier": {"info": info}}}
        return self.client.get(path, headers={"PAYMENT-SIGNATURE": encode(payload), **headers})

    def state(self, name: str = NAME, payer: str | None = None) -> Any:
        """What the site says of a purchase, by its name."""
        return self.client.get(f"/x402/identifiers/{payer or self.payer.address}/{name}/")


@pytest.fixture
def naming(payer: Payer) -> NamingBuyer:
    return NamingBuyer(payer)
