"""A challenge as the buyer reads it, and the payment that is signed for it."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from x402.extensions.payment_identifier import declare_payment_identifier_extension

from x402_django.exceptions import MalformedPayment
from x402_django.protocol.buying import read_challenge, read_settlement, sign_offer
from x402_django.testing.payer import decode, encode

USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
SELLER = "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"


def accepts(**changes: Any) -> dict[str, Any]:
    return {
        "scheme": "exact",
        "network": "eip155:84532",
        "amount": "10000",
        "asset": USDC,
        "payTo": SELLER,
        "maxTimeoutSeconds": 300,
        "extra": {"name": "USDC", "version": "2"},
        **changes,
    }


def challenge(*offers: dict[str, Any], **more: Any) -> Any:
    document = {
        "x402Version": 2,
        "resource": {"url": "https://api.example/", "description": "Weather"},
        "accepts": list(offers),
        **more,
    }
    return read_challenge({"PAYMENT-REQUIRED": encode(document)}, b"{}")


def test_an_identifier_is_signed_along_where_the_seller_takes_one() -> None:
    declared = {"payment-identifier": declare_payment_identifier_extension()}
    read = challenge(accepts(), extensions=declared)
    account = Account.create()

    signed = sign_offer(read, read.offers[0], account)
    other = sign_offer(read, read.offers[0], account)

    assert signed.identifier is not None
    sent = decode(signed.value)["extensions"]["payment-identifier"]["info"]
    assert sent["id"] == signed.identifier
    assert other.identifier != signed.identifier
    assert other.nonce != signed.nonce


def test_without_the_extension_there_is_none() -> None:
    read = challenge(accepts())
    signed = sign_offer(read, read.offers[0], Account.create())
    assert signed.identifier is None
    assert signed.name == "PAYMENT-SIGNATURE"


def test_the_chosen_offer_is_the_one_that_is_signed() -> None:
    read = challenge(accepts(amount="5"), accepts(amount="7"), accepts(amount="6"))
    signed = sign_offer(read, read.offers[1], Account.create())
    payload = decode(signed.value)
    assert payload["accepted"]["amount"] == "7"
    assert payload["payload"]["authorization"]["value"] == "7"


@pytest.mark.parametrize(
    "changes",
    [
        {"scheme": "upto"},
        {"network": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"},
        {"extra": {"name": "USDC", "version": "2", "assetTransferMethod": "permit2"}},
        {"extra": {}},
        {"payTo": "merchant"},
    ],
)
def test_what_cannot_be_signed_is_shown_and_not_payable(changes: dict[str, Any]) -> None:
    (offer,) = challenge(accepts(**changes)).offers
    assert offer.payable is False
    assert offer.amount == 10_000


@pytest.mark.parametrize("amount", ["-1", "1.5", "１", "1" * 79, ""])
def test_an_amount_that_is_none(amount: str) -> None:
    with pytest.raises(MalformedPayment):
        challenge(accepts(amount=amount))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"x402Version": 9}'])
def test_an_answer_without_a_challenge(body: bytes) -> None:
    with pytest.raises(MalformedPayment):
        read_challenge({}, body)


@pytest.mark.parametrize("value", ["", "!", encode({})[:-1]])
def test_a_settlement_that_cannot_be_read_is_none(value: str) -> None:
    assert read_settlement({"PAYMENT-RESPONSE": value}) is None
