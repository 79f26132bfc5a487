"""Offers and payments survive the ledger."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest
from django.test import override_settings

from tests.protocol.builders import PAY_TO, URL, USDC, make_offer, make_signed
from x402_django.models import Payment
from x402_django.protocol.types import Offer, SignedPayment


def test_offer_as_v2_and_back() -> None:
    offer = make_offer(method_id=3, amount=2**256 - 1)
    document = json.loads(json.dumps(offer.as_v2()))
    assert document == {
        "scheme": "exact",
        "network": "eip155:84532",
        "amount": str(2**256 - 1),
        "asset": USDC,
        "payTo": PAY_TO,
        "maxTimeoutSeconds": 300,
        "extra": {"name": "USDC", "version": "2"},
    }
    again = Offer.from_v2(document, decimals=6, symbol="USDC", facilitator="default", method_id=3)
    assert again == offer


def test_offer_as_v1() -> None:
    offer = make_offer()
    assert offer.as_v1(resource=URL, description="Weather", mime_type="text/plain") == {
        "scheme": "exact",
        "network": "base-sepolia",
        "maxAmountRequired": "10000",
        "resource": URL,
        "description": "Weather",
        "mimeType": "text/plain",
        "payTo": PAY_TO,
        "maxTimeoutSeconds": 300,
        "asset": USDC,
        "extra": {"name": "USDC", "version": "2"},
    }


def test_offer_without_v1_name() -> None:
    offer = make_offer(network="eip155:31337")
    assert offer.as_v1(resource=URL, description="", mime_type="") is None
    with override_settings(X402={"NETWORKS": {"eip155:31337": {"V1_NAME": "devchain"}}}):
        document = offer.as_v1(resource=URL, description="", mime_type="")
    assert document is not None
    assert document["network"] == "devchain"


def test_signed_payment_from_its_ledger_row() -> None:
    signed = make_signed(make_offer(method_id=5), version=1)
    row = Payment(
        requirements=json.loads(json.dumps(signed.offer.as_v2())),
        payload=json.loads(json.dumps(signed.payload_dict())),
        asset_decimals=6,
        asset_symbol="USDC",
        facilitator="default",
        method_id=5,
        resource_url=URL,
        x402_version=1,
    )
    assert SignedPayment.from_row(row) == signed


def test_values_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        make_offer().amount = 1  # type: ignore[misc]
