"""Payments made by unmodified official clients are understood.

Python: made here by the installed SDK. TypeScript: recordings in ``golden/client_*.json`` of the
npm packages ``@x402/core`` with ``@x402/evm`` (v2) and ``x402`` (v1), paying the challenge in
``golden/server_challenge_*.json`` with the test key.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from eth_account import Account
from x402 import x402ClientSync
from x402.http import x402HTTPClientSync
from x402.mechanisms.evm.exact.register import register_exact_evm_client

from tests.protocol.builders import PAY_TO, PAYER, PAYER_KEY, URL, make_offer
from tests.protocol.golden import load
from x402_django.protocol.challenge import Challenge
from x402_django.protocol.offers import match_offer
from x402_django.protocol.signatures import check_eoa_signature
from x402_django.protocol.types import SignedPayment
from x402_django.protocol.wire import read_payment_header

OFFER = make_offer()
CHALLENGE = Challenge(URL, "Today’s weather", "application/json", (OFFER,))


@pytest.fixture(scope="module")
def client() -> x402HTTPClientSync:
    payer = x402ClientSync()
    register_exact_evm_client(payer, Account.from_key(PAYER_KEY))
    return x402HTTPClientSync(payer)


def pay(client: x402HTTPClientSync, headers: dict[str, str], body: Any) -> dict[str, str]:
    """The request headers with which the SDK answers a 402."""
    paid, _ = client.handle_402_response(headers, json.dumps(body).encode(), URL)
    return paid


def understood(headers: dict[str, str]) -> SignedPayment:
    presented = read_payment_header(headers)
    assert presented is not None
    return match_offer(presented, [OFFER], resource_url=URL)


def test_python_v2(client: x402HTTPClientSync) -> None:
    headers = pay(client, {"PAYMENT-REQUIRED": CHALLENGE.header_value()}, CHALLENGE.v1_body())
    assert headers.keys() == {"PAYMENT-SIGNATURE"}
    signed = understood(headers)
    assert (signed.version, signed.payer, signed.valid_after) == (2, PAYER, 0)
    assert check_eoa_signature(signed)
    presented = read_payment_header(headers)
    assert presented is not None
    assert presented.resource_url == URL


def test_python_v1(client: x402HTTPClientSync) -> None:
    headers = pay(client, {}, CHALLENGE.v1_body())
    assert headers.keys() == {"X-PAYMENT"}
    signed = understood(headers)
    assert (signed.version, signed.payer) == (1, PAYER)
    assert signed.valid_before - signed.valid_after == 600 + OFFER.max_timeout_seconds
    assert check_eoa_signature(signed)


@pytest.mark.parametrize("recording", ["client_typescript_v2", "client_typescript_v1"])
def test_typescript(recording: str) -> None:
    golden = load(recording)
    signed = understood({golden["name"]: golden["value"]})
    expected = golden["document"]["payload"]["authorization"]
    assert signed.version == golden["document"]["x402Version"]
    assert signed.payer == expected["from"] == PAYER
    assert signed.offer.pay_to == expected["to"] == PAY_TO
    assert signed.offer.amount == int(expected["value"]) == 10_000
    assert signed.valid_after == int(expected["validAfter"])
    assert signed.valid_before == int(expected["validBefore"])
    assert signed.nonce == expected["nonce"]
    assert check_eoa_signature(signed)
