"""The 402: one answer, read by both generations of clients."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from django.test import override_settings
from django.utils.functional import lazystr
from django.utils.translation import gettext_lazy, override
from x402.http.utils import decode_payment_required_header
from x402.schemas import PaymentRequired as SdkPaymentRequired
from x402.schemas import ResourceInfo
from x402.schemas.v1 import PaymentRequiredV1

from tests.protocol.builders import EURC, URL, make_offer
from tests.protocol.golden import assert_golden
from x402_django.constants import Code
from x402_django.protocol.challenge import Challenge
from x402_django.protocol.sdk import to_sdk_requirements

OFFERS = (
    make_offer(),
    make_offer(network="eip155:8453", asset_name="USD Coin", max_timeout_seconds=60),
    make_offer(asset=EURC, asset_name="EURC", symbol="EURC", amount=9_000),
    make_offer(network="eip155:42161", amount=2**256 - 1),
)


def make_challenge(**changes: Any) -> Challenge:
    values: dict[str, Any] = {
        "resource_url": URL,
        "description": 'Today’s weather — ‘heiß’ <b>& "€" 😀',
        "mime_type": "application/json",
        "offers": OFFERS,
        "error": Code.INVALID_VALUE,
        "message": "The payment is not of the amount asked for.",
    }
    return Challenge(**(values | changes))


def decoded(challenge: Challenge) -> Any:
    return json.loads(base64.b64decode(challenge.header_value(), validate=True))


def test_v2_golden() -> None:
    challenge = make_challenge()
    value = {"document": decoded(challenge), "header": challenge.header_value()}
    assert_golden("server_challenge_v2", value)


def test_v1_golden() -> None:
    assert_golden("server_challenge_v1", make_challenge().v1_body())


@pytest.mark.parametrize("offers", [OFFERS, OFFERS[:1]])
def test_v2_is_what_the_sdk_writes(offers: Any) -> None:
    challenge = make_challenge(offers=offers)
    model = SdkPaymentRequired(
        error=challenge.error,
        resource=ResourceInfo(
            url=URL, description=challenge.description, mime_type=challenge.mime_type
        ),
        accepts=[to_sdk_requirements(offer) for offer in offers],
    )
    assert decode_payment_required_header(challenge.header_value()) == model
    assert decoded(challenge) == model.model_dump(by_alias=True, exclude_none=True)


def test_header_is_ascii_on_one_line() -> None:
    value = make_challenge(description="é\n\0\ud800", mime_type='a"b').header_value()
    assert value.isascii()
    assert value.isprintable()
    assert " " not in value
    assert decoded(make_challenge(mime_type='a"b', error='"}'))["resource"]["mimeType"] == 'a"b'


def test_urls_are_escaped() -> None:
    url = 'https://shop.example/?q="},"accepts":[]&é'
    document = decoded(make_challenge(resource_url=url))
    assert document["resource"]["url"] == url
    assert len(document["accepts"]) == len(OFFERS)


def test_empty_descriptions_are_left_out_of_v2_and_kept_in_v1() -> None:
    challenge = make_challenge(description="", mime_type="", offers=OFFERS[:1])
    assert decoded(challenge)["resource"] == {"url": URL}
    entry = challenge.v1_body()["accepts"][0]
    assert (entry["description"], entry["mimeType"]) == ("", "")


def test_defaults_ask_for_payment() -> None:
    challenge = Challenge(URL, "", "", OFFERS)
    assert decoded(challenge)["error"] == "payment_required"
    assert challenge.v1_body()["error"] == "payment_required"
    assert challenge.v1_body()["message"] == "Payment is required to access this resource."


def test_lazy_descriptions_are_written_in_the_language_of_the_request() -> None:
    challenge = make_challenge(description=gettext_lazy("Monday"), message=lazystr("…"))
    with override("en"):
        english = decoded(challenge)["resource"]["description"]
    with override("de"):
        german = decoded(challenge)["resource"]["description"]
        assert challenge.v1_body()["accepts"][0]["description"] == "Montag"
    assert (english, german) == ("Monday", "Montag")
    assert json.dumps(challenge.v1_body())


def test_the_cache_does_not_mix_up_urls_errors_or_prices() -> None:
    make_challenge().header_value()
    other = make_challenge(resource_url=URL + "2", error=Code.NONCE_USED, offers=OFFERS[2:])
    document = decoded(other)
    assert document["resource"]["url"] == URL + "2"
    assert document["error"] == Code.NONCE_USED
    assert [entry["amount"] for entry in document["accepts"]] == ["9000", str(2**256 - 1)]


def test_v1_is_read_by_the_sdk_and_lists_only_networks_with_a_v1_name() -> None:
    body = json.loads(json.dumps(make_challenge().v1_body()))
    model = PaymentRequiredV1.model_validate(body)
    assert [entry.network for entry in model.accepts] == ["base-sepolia", "base", "base-sepolia"]
    assert [entry.max_amount_required for entry in model.accepts] == ["10000", "10000", "9000"]
    with override_settings(X402={"NETWORKS": {"eip155:42161": {"V1_NAME": "arbitrum"}}}):
        assert make_challenge().v1_body()["accepts"][3]["network"] == "arbitrum"


#: What ``PaymentRequirementsSchema`` of the npm package ``x402`` demands of each entry.
V1_SCHEMA = {
    "scheme": str,
    "network": str,
    "maxAmountRequired": str,
    "resource": str,
    "description": str,
    "mimeType": str,
    "payTo": str,
    "maxTimeoutSeconds": int,
    "asset": str,
    "extra": dict,
}


def test_v1_entries_have_what_the_typescript_schema_demands() -> None:
    for entry in make_challenge().v1_body()["accepts"]:
        assert {key: type(value) for key, value in entry.items()} == V1_SCHEMA
