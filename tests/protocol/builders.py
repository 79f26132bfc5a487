"""Offers and payloads for the tests of this room; the key is a test key known to everybody."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from x402_django.constants import Code
from x402_django.exceptions import MalformedPayment, PaymentRefused
from x402_django.protocol.types import Offer, SignedPayment
from x402_django.protocol.wire import read_payment_header

PAYER_KEY = "0x" + "11" * 32
PAYER = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
PAY_TO = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
EURC = "0x808456652fdb597867f38412077A9182bf77359F"
URL = "https://shop.example/weather/"
NONCE = "0x" + "ab" * 32
SIGNATURE = "0x" + "cd" * 64 + "1b"


def make_offer(**changes: Any) -> Offer:
    """A cent in USDC on Base Sepolia."""
    values: dict[str, Any] = {
        "scheme": "exact",
        "network": "eip155:84532",
        "asset": USDC,
        "amount": 10_000,
        "pay_to": PAY_TO,
        "max_timeout_seconds": 300,
        "asset_name": "USDC",
        "asset_version": "2",
        "decimals": 6,
        "symbol": "USDC",
        "facilitator": "default",
    }
    return Offer(**(values | changes))


def make_signed(offer: Offer | None = None, **changes: Any) -> SignedPayment:
    """A payment bound to ``offer`` with a signature that is only well-formed."""
    values: dict[str, Any] = {
        "offer": offer or make_offer(),
        "payer": PAYER,
        "valid_after": 1_700_000_000,
        "valid_before": 1_700_000_900,
        "nonce": NONCE,
        "signature": bytes.fromhex(SIGNATURE[2:]),
        "resource_url": URL,
        "version": 2,
    }
    return SignedPayment(**(values | changes))


def authorization(**changes: Any) -> dict[str, Any]:
    """The EIP-3009 fields as every official client sends them: all strings."""
    values = {
        "from": PAYER,
        "to": PAY_TO,
        "value": "10000",
        "validAfter": "1700000000",
        "validBefore": "1700000900",
        "nonce": NONCE,
    }
    return values | changes


def v2_payload(**changes: Any) -> dict[str, Any]:
    """A v2 payload; its parts are given by keyword to change them."""
    values = {
        "x402Version": 2,
        "payload": {"authorization": authorization(), "signature": SIGNATURE},
        "resource": {"url": URL, "description": "Weather", "mimeType": "application/json"},
        "accepted": make_offer().as_v2(),
    }
    return values | changes


def v1_payload(**changes: Any) -> dict[str, Any]:
    """A v1 payload; its parts are given by keyword to change them."""
    values = {
        "x402Version": 1,
        "scheme": "exact",
        "network": "base-sepolia",
        "payload": {"signature": SIGNATURE, "authorization": authorization()},
    }
    return values | changes


def encode(document: Any) -> str:
    """JSON and base64, as the TypeScript clients write them; a string is taken as JSON text."""
    text = document if isinstance(document, str) else json.dumps(document, separators=(",", ":"))
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def v2_headers(**changes: Any) -> dict[str, str]:
    """Headers of a request with a v2 payment."""
    return {"PAYMENT-SIGNATURE": encode(v2_payload(**changes))}


def v1_headers(**changes: Any) -> dict[str, str]:
    """Headers of a request with a v1 payment."""
    return {"X-PAYMENT": encode(v1_payload(**changes))}


def assert_malformed(headers: dict[str, str], code: str = Code.INVALID_PAYLOAD) -> None:
    """The headers are answered 400, with this code."""
    with pytest.raises(MalformedPayment) as caught:
        read_payment_header(headers)
    assert caught.value.code == code


def assert_refused(headers: dict[str, str], code: str) -> None:
    """The headers are answered 402, with this code."""
    with pytest.raises(PaymentRefused) as caught:
        read_payment_header(headers)
    assert caught.value.code == code


def with_payload(**changes: Any) -> dict[str, str]:
    """Headers of a v2 payment whose ``payload`` is changed."""
    payload = {"authorization": authorization(), "signature": SIGNATURE} | changes
    return v2_headers(payload=payload)


def with_authorization(**changes: Any) -> dict[str, str]:
    """Headers of a v2 payment whose ``authorization`` is changed."""
    return with_payload(authorization=authorization(**changes))
