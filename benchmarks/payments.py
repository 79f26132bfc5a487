"""Signed payments, made before the clock runs."""

from __future__ import annotations

import base64
import json
from functools import cache
from itertools import cycle, islice
from typing import Any

from benchmarks.wsgi import Answer
from x402_django.constants import PAYMENT_REQUIRED_HEADER, PAYMENT_SIGNATURE_HEADER
from x402_django.protocol.types import Offer, SignedPayment
from x402_django.testing.payer import Payer, decode, encode


@cache
def payers() -> tuple[Payer, ...]:
    """A few payers with keys of their own."""
    return tuple(Payer() for _ in range(20))


def offer_of(challenge: Answer) -> dict[str, Any]:
    """The first offer of a 402 of either server."""
    headers = {name.upper(): value for name, value in challenge.headers.items()}
    offer: dict[str, Any] = decode(headers[PAYMENT_REQUIRED_HEADER])["accepts"][0]
    return offer


def signed_headers(
    offer: dict[str, Any], count: int, buyers: tuple[Payer, ...] = ()
) -> list[dict[str, str]]:
    """``count`` different payments for ``offer``, as request headers."""
    return [
        {PAYMENT_SIGNATURE_HEADER: encode(payer.payload(offer))}
        for payer in islice(cycle(buyers or payers()), count)
    ]


def transaction_in(answer: Answer) -> str:
    """The transaction that a paid response names."""
    headers = {name.upper(): value for name, value in answer.headers.items()}
    settlement = json.loads(base64.b64decode(headers["PAYMENT-RESPONSE"]))
    return str(settlement["transaction"])


@cache
def sample_payment() -> SignedPayment:
    """Some payment, for calling a facilitator that does not look at it."""
    offer = Offer(
        scheme="exact",
        network="eip155:84532",
        asset="0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        amount=10_000,
        pay_to="0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        max_timeout_seconds=300,
        asset_name="USDC",
        asset_version="2",
        decimals=6,
        symbol="USDC",
        facilitator="default",
    )
    return SignedPayment(
        offer=offer,
        payer=payers()[0].address,
        valid_after=0,
        valid_before=2**40,
        nonce="0x" + "22" * 32,
        signature=bytes(65),
        resource_url="https://shop.example/paid/weather",
        version=2,
    )
