"""Threat 12 and 14: a payment that is not exactly for what we asked."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account

from tests.protocol.builders import (
    EURC,
    PAY_TO,
    PAYER,
    PAYER_KEY,
    URL,
    authorization,
    make_offer,
    make_signed,
    v1_headers,
    v2_headers,
)
from x402_django.constants import Code
from x402_django.exceptions import PaymentRefused
from x402_django.protocol.offers import check_validity, match_offer
from x402_django.protocol.signatures import typed_data_digest
from x402_django.protocol.types import Offer, PresentedPayment, SignedPayment
from x402_django.protocol.wire import read_payment_header

OTHER = "0x000000000000000000000000000000000000dEaD"


def presented(headers: dict[str, str]) -> PresentedPayment:
    payment = read_payment_header(headers)
    assert payment is not None
    return payment


def match(headers: dict[str, str], *offers: Offer) -> SignedPayment:
    return match_offer(presented(headers), offers or [make_offer()], resource_url=URL)


def refusal(headers: dict[str, str], *offers: Offer) -> str:
    with pytest.raises(PaymentRefused) as caught:
        match(headers, *offers)
    return caught.value.code


def v2_paying(**changes: Any) -> dict[str, str]:
    payload = {"authorization": authorization(**changes), "signature": "0x0f"}
    return v2_headers(payload=payload)


def v1_paying(**changes: Any) -> dict[str, str]:
    payload = {"authorization": authorization(**changes), "signature": "0x0f"}
    return v1_headers(payload=payload)


@pytest.mark.parametrize("headers", [v2_headers(), v1_headers()])
def test_match_binds_the_payment_to_our_offer(headers: dict[str, str]) -> None:
    offer = make_offer(method_id=7)
    version = 2 if "PAYMENT-SIGNATURE" in headers else 1
    signed = match(headers, make_offer(network="eip155:8453"), offer)
    assert signed == make_signed(offer, version=version)
    assert signed.offer is offer


def test_the_clients_resource_url_does_not_count() -> None:
    signed = match_offer(
        presented(v2_headers(resource={"url": "https://evil.example/"})),
        [make_offer()],
        resource_url=URL,
    )
    assert signed.resource_url == URL


@pytest.mark.parametrize(
    "change",
    [
        {"amount": "9999"},
        {"asset": OTHER},
        {"asset": "USDC"},
        {"payTo": OTHER},
        {"maxTimeoutSeconds": 301},
        {"extra": {"name": "USD Coin", "version": "2"}},
        {"extra": {"name": "USDC", "version": "1"}},
        {"extra": {"name": "USDC", "version": 2}},
        {"extra": {}},
        {"extra": None},
    ],
)
def test_v2_accepted_must_be_our_offer(change: dict[str, Any]) -> None:
    accepted = make_offer().as_v2() | change
    assert refusal(v2_headers(accepted=accepted)) == Code.INVALID_REQUIREMENTS


def test_v2_accepted_may_say_more() -> None:
    """The SDK's own server compares our ``extra`` as a subset; clients may add to it."""
    accepted = make_offer().as_v2()
    accepted["extra"] = accepted["extra"] | {"assetTransferMethod": "eip3009"}
    accepted["outputSchema"] = None
    assert match(v2_headers(accepted=accepted)).offer == make_offer()


def test_v2_letter_case_of_addresses_does_not_matter() -> None:
    accepted = make_offer().as_v2()
    accepted |= {"asset": accepted["asset"].lower(), "payTo": accepted["payTo"].lower()}
    assert match(v2_headers(accepted=accepted)).offer == make_offer()


@pytest.mark.parametrize("paying", [v1_paying, v2_paying])
def test_what_is_signed_must_be_what_is_asked(paying: Any) -> None:
    assert refusal(paying(to=OTHER)) == Code.INVALID_RECIPIENT
    assert refusal(paying(value="9999")) == Code.INVALID_VALUE
    assert refusal(paying(value="10001")) == Code.INVALID_VALUE
    assert refusal(paying(value="0")) == Code.INVALID_VALUE


def test_networks_and_schemes_not_offered() -> None:
    elsewhere = make_offer(network="eip155:8453")
    assert refusal(v2_headers(), elsewhere) == Code.INVALID_NETWORK
    assert refusal(v1_headers(), elsewhere) == Code.INVALID_NETWORK
    other_scheme = make_offer(scheme="deferred")
    assert refusal(v2_headers(), other_scheme) == Code.UNSUPPORTED_SCHEME
    assert refusal(v1_headers(), other_scheme) == Code.UNSUPPORTED_SCHEME


def test_several_tokens_on_one_network() -> None:
    usdc = make_offer()
    eurc = make_offer(asset=EURC, asset_name="EURC", symbol="EURC", amount=9_000)
    assert match(v2_headers(), eurc, usdc).offer is usdc
    assert match(v1_headers(), eurc, usdc).offer is usdc
    in_euros = v2_headers(
        accepted=eurc.as_v2(),
        payload={"authorization": authorization(value="9000"), "signature": "0x0f"},
    )
    assert match(in_euros, usdc, eurc).offer is eurc
    # Accepting the one and signing the amount of the other is neither.
    assert refusal(v2_headers(accepted=eurc.as_v2()), usdc, eurc) == Code.INVALID_VALUE


def test_v1_ambiguous_tokens_are_told_apart_by_the_signature() -> None:
    usdc = make_offer()
    eurc = make_offer(asset=EURC, asset_name="EURC", symbol="EURC")
    digest = typed_data_digest(make_signed(eurc))
    signature = Account.unsafe_sign_hash(digest, PAYER_KEY).signature
    headers = v1_headers(
        payload={"authorization": authorization(), "signature": "0x" + bytes(signature).hex()}
    )
    assert match(headers, usdc, eurc).offer is eurc
    assert match(headers, eurc, usdc).offer is eurc
    # A contract wallet's signature says nothing here: the first fits.
    assert match(v1_paying(), usdc, eurc).offer is usdc


@pytest.mark.parametrize("now", [1_700_000_000, 1_700_000_100, 1_700_000_870])
def test_valid_now_and_long_enough(now: int) -> None:
    check_validity(make_signed(), now=now, minimum=30)


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (1_699_999_999, Code.INVALID_VALID_AFTER),
        (1_700_000_871, Code.INVALID_VALID_BEFORE),
        (1_700_000_900, Code.INVALID_VALID_BEFORE),
        (1_800_000_000, Code.INVALID_VALID_BEFORE),
    ],
)
def test_not_yet_valid_expired_or_about_to(now: int, code: str) -> None:
    with pytest.raises(PaymentRefused) as caught:
        check_validity(make_signed(), now=now, minimum=30)
    assert caught.value.code == code


def test_a_payment_may_live_for_ever() -> None:
    check_validity(make_signed(valid_before=2**256 - 1), now=1_700_000_000, minimum=30)


def test_the_ledger_key() -> None:
    signed = match(v2_headers())
    assert signed.key == ("eip155:84532", make_offer().asset, PAYER, signed.nonce)
    assert signed.payload_dict()["authorization"] == authorization()
    assert signed.payload_dict()["authorization"]["to"] == PAY_TO
