"""Which headers carry a payment, and what it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import RequestFactory, override_settings

from tests.protocol.builders import (
    NONCE,
    PAY_TO,
    PAYER,
    SIGNATURE,
    URL,
    assert_malformed,
    assert_refused,
    authorization,
    encode,
    make_offer,
    v1_headers,
    v1_payload,
    v2_headers,
    v2_payload,
    with_authorization,
    with_payload,
)
from x402_django.constants import Code
from x402_django.protocol.transfer_methods import Terms
from x402_django.protocol.types import PresentedPayment
from x402_django.protocol.wire import read_payment_header

TERMS = Terms(
    payer=PAYER,
    to=PAY_TO,
    value=10_000,
    valid_after=1_700_000_000,
    valid_before=1_700_000_900,
    nonce=NONCE,
    signature=bytes.fromhex(SIGNATURE[2:]),
)


class TestWellFormed:
    def test_no_header_is_no_payment(self) -> None:
        assert read_payment_header({}) is None
        assert read_payment_header({"Authorization": "Bearer x"}) is None

    def test_v2(self) -> None:
        assert read_payment_header(v2_headers()) == PresentedPayment(
            version=2,
            scheme="exact",
            network="eip155:84532",
            transfer_method="eip3009",
            accepted=make_offer().as_v2(),
            terms=TERMS,
            resource_url=URL,
            extensions={},
        )

    def test_v1(self) -> None:
        assert read_payment_header(v1_headers()) == PresentedPayment(
            version=1,
            scheme="exact",
            network="eip155:84532",
            transfer_method="eip3009",
            accepted=None,
            terms=TERMS,
            resource_url=None,
            extensions={},
        )

    def test_header_names_are_case_insensitive_in_a_django_request(self) -> None:
        value = v2_headers()["PAYMENT-SIGNATURE"]
        request = RequestFactory().get("/", headers={"payment-signature": value})
        presented = read_payment_header(request.headers)
        assert presented is not None
        assert presented.terms.nonce == NONCE

    def test_optional_parts_may_be_absent_or_null(self) -> None:
        bare = v2_payload()
        del bare["resource"]
        for document in (bare, v2_payload(resource=None, extensions=None)):
            presented = read_payment_header({"PAYMENT-SIGNATURE": encode(document)})
            assert presented is not None
            assert presented.resource_url is None
            assert presented.extensions == {}

    def test_unknown_keys_and_extensions_are_tolerated(self) -> None:
        extensions = {"payment-identifier": {"info": {"id": "pay_é", "weight": 0.5, "n": -3}}}
        presented = read_payment_header(v2_headers(extensions=extensions, client={"name": "x"}))
        assert presented is not None
        assert presented.extensions == extensions

    def test_every_other_spelling_of_a_payload_is_the_same_payment(self) -> None:
        """Threat 5: a header hash could be evaded; the decoded fields cannot."""
        plain = read_payment_header(v2_headers())
        document = v2_payload()
        document["payload"]["authorization"] = authorization(
            **{"from": PAYER.lower(), "to": "0x" + PAY_TO[2:].upper(), "nonce": "0x" + "AB" * 32}
        )
        document["payload"]["signature"] = "0x" + SIGNATURE[2:].upper()
        document["accepted"]["payTo"] = PAY_TO.lower()
        reordered = dict(reversed(document.items()))
        texts = [
            json.dumps(reordered, indent=2),
            json.dumps(reordered, separators=(" , ", " : ")),
            json.dumps(document, sort_keys=True).replace("exact", "\\u0065xact"),
        ]
        for text in texts:
            assert read_payment_header({"PAYMENT-SIGNATURE": encode(text)}) == plain

    @pytest.mark.parametrize("length", [1, 65, 4000])
    def test_signatures_of_any_length(self, length: int) -> None:
        with override_settings(X402={"MAX_HEADER_BYTES": 65536}):
            presented = read_payment_header(with_payload(signature="0x" + "0f" * length))
        assert presented is not None
        assert presented.terms.signature == b"\x0f" * length

    def test_the_whole_range_of_uint256(self) -> None:
        presented = read_payment_header(
            with_authorization(value=str(2**256 - 1), validAfter="0", validBefore=str(2**256 - 1))
        )
        assert presented is not None
        assert (presented.terms.value, presented.terms.valid_after) == (2**256 - 1, 0)

    @override_settings(X402={"NETWORKS": {"eip155:31337": {"V1_NAME": "devchain"}}})
    def test_v1_name_from_settings(self) -> None:
        presented = read_payment_header(v1_headers(network="devchain"))
        assert presented is not None
        assert presented.network == "eip155:31337"


class TestHeaders:
    def test_both_versions_at_once(self) -> None:
        assert_malformed(v2_headers() | v1_headers(), Code.AMBIGUOUS_HEADERS)
        assert_malformed({"PAYMENT-SIGNATURE": "", "X-PAYMENT": ""}, Code.AMBIGUOUS_HEADERS)

    @pytest.mark.parametrize("separator", [",", ", "])
    def test_repeated_header_as_servers_join_it(self, separator: str) -> None:
        value = v2_headers()["PAYMENT-SIGNATURE"]
        joined = {"PAYMENT-SIGNATURE": value + separator + value}
        assert_malformed(joined, Code.AMBIGUOUS_HEADERS)

    def test_size_is_judged_before_decoding(self) -> None:
        assert_malformed({"PAYMENT-SIGNATURE": "?" * 8193}, Code.HEADER_TOO_LARGE)
        assert_malformed({"PAYMENT-SIGNATURE": "?" * 8192}, Code.INVALID_PAYLOAD)
        with override_settings(X402={"MAX_HEADER_BYTES": 64}):
            assert_malformed(v1_headers(), Code.HEADER_TOO_LARGE)

    @pytest.mark.parametrize("name", ["PAYMENT-SIGNATURE", "X-PAYMENT"])
    def test_empty_header(self, name: str) -> None:
        assert_malformed({name: ""})

    @pytest.mark.parametrize("version", [1, 3, 0, -2, "2", 2.0, True, None, [2], 10**70])
    def test_v2_header_carries_version_2(self, version: Any) -> None:
        assert_malformed(v2_headers(x402Version=version), Code.INVALID_VERSION)

    @pytest.mark.parametrize("version", [2, True, "1", 1.0, None])
    def test_v1_header_carries_version_1(self, version: Any) -> None:
        assert_malformed(v1_headers(x402Version=version), Code.INVALID_VERSION)

    def test_version_missing(self) -> None:
        document = v2_payload()
        del document["x402Version"]
        assert_malformed({"PAYMENT-SIGNATURE": encode(document)}, Code.INVALID_VERSION)


class TestRefused:
    """Well-formed, but for something that is not sold here: 402, not 400."""

    def test_other_schemes(self) -> None:
        accepted = make_offer().as_v2() | {"scheme": "upto"}
        assert_refused(v2_headers(accepted=accepted, payload={}), Code.UNSUPPORTED_SCHEME)
        assert_refused(v1_headers(scheme="deferred", payload={}), Code.UNSUPPORTED_SCHEME)

    @pytest.mark.parametrize(
        "network", ["solana:mainnet", "near:mainnet", "eip155:084532", "eip155:x"]
    )
    def test_other_networks(self, network: str) -> None:
        accepted = make_offer().as_v2() | {"network": network}
        headers = v2_headers(accepted=accepted, payload={"transaction": "AQAB"})
        assert_refused(headers, Code.INVALID_NETWORK)

    @pytest.mark.parametrize("network", ["near", "solana-testnet", "eip155:84532", "nowhere"])
    def test_other_v1_networks(self, network: str) -> None:
        headers = v1_headers(network=network, payload={"transaction": "AQAB"})
        assert_refused(headers, Code.INVALID_NETWORK)

    def test_permit2_is_not_known_to_v1(self) -> None:
        payload = {"signature": SIGNATURE, "permit2Authorization": {"from": PAYER}}
        assert_refused(v1_headers(payload=payload), Code.UNSUPPORTED_SCHEME)

    def test_upto_is_paid_by_permit2_only(self) -> None:
        accepted = make_offer().as_v2() | {"scheme": "upto"}
        assert_refused(v2_headers(accepted=accepted), Code.UNSUPPORTED_SCHEME)

    def test_v1_payload_is_not_read_as_v2(self) -> None:
        value = encode(v1_payload())
        assert_malformed({"PAYMENT-SIGNATURE": value}, Code.INVALID_VERSION)
