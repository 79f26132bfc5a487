"""One text for one value: everything else in a payment header is malformed."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from django.test import override_settings

from tests.protocol.builders import (
    NONCE,
    PAYER,
    assert_malformed,
    authorization,
    encode,
    make_offer,
    v2_headers,
    v2_payload,
    with_authorization,
    with_payload,
)
from x402_django.protocol.wire import read_payment_header


class TestBase64:
    def test_padding_is_required(self) -> None:
        value = encode(json.dumps(v2_payload()) + " ")
        assert value.endswith("=")
        assert_malformed({"PAYMENT-SIGNATURE": value.rstrip("=")})

    @pytest.mark.parametrize("spoiler", [" ", "\n", "\t", "\r\n", "=", "-", "_", "é", "\0", "€"])
    def test_foreign_characters(self, spoiler: str) -> None:
        value = v2_headers()["PAYMENT-SIGNATURE"]
        for spoiled in (value + spoiler, spoiler + value, value[:8] + spoiler + value[8:]):
            assert_malformed({"PAYMENT-SIGNATURE": spoiled})

    def test_urlsafe_alphabet(self) -> None:
        text = json.dumps(v2_payload(client="???>>>~~~"))
        value = base64.urlsafe_b64encode(text.encode()).decode()
        assert set(value) & set("-_")
        assert_malformed({"PAYMENT-SIGNATURE": value})

    def test_stray_trailing_bits(self) -> None:
        text = next(
            padded
            for padded in (json.dumps(v2_payload()) + " " * n for n in range(3))
            if encode(padded).endswith("==")
        )
        value = encode(text)
        stray = value[:-3] + chr(ord(value[-3]) + 1) + "=="
        assert base64.b64decode(stray) == base64.b64decode(value)
        assert read_payment_header({"PAYMENT-SIGNATURE": value}) is not None
        assert_malformed({"PAYMENT-SIGNATURE": stray})


class TestJson:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "null",
            "2",
            '"text"',
            "[]",
            "{",
            "{}{}",
            "{'x402Version': 2}",
            '{"x402Version": 2,}',
            "\ufeff{}",
            "[" * 3000,
            '{"a":' * 1000 + "1" + "}" * 1000,
            '{"x402Version": 2, "a": ' + "9" * 5000 + "}",
            '{"x402Version": 2, "a": -1e999}',
            '{"x402Version": 2, "a": NaN}',
            '{"x402Version": 2, "a": -Infinity}',
        ],
    )
    def test_not_a_json_object(self, text: str) -> None:
        assert_malformed({"PAYMENT-SIGNATURE": encode(text)})

    def test_not_utf8(self) -> None:
        for data in (b"\xff\xfe{}", b'{"x402Version":2,"a":"\xed\xa0\x80"}'):
            assert_malformed({"PAYMENT-SIGNATURE": base64.b64encode(data).decode()})

    def test_duplicate_keys_at_any_level(self) -> None:
        text = json.dumps(v2_payload(), separators=(",", ":"))
        for old, new in (
            ('{"x402Version":2', '{"x402Version":2,"x402Version":2'),
            ('"value":"10000"', '"value":"1","value":"10000"'),
            ('"amount":"10000"', '"amount":"10000","\\u0061mount":"10000"'),
        ):
            assert old in text
            assert_malformed({"PAYMENT-SIGNATURE": encode(text.replace(old, new))})

    @pytest.mark.parametrize("escape", ["\\u0000", "\\ud800", "\\udfff", "x\\udc00\\ud800y"])
    def test_characters_that_are_not_text(self, escape: str) -> None:
        text = json.dumps(v2_payload(extensions={"a": [{"key": "spoiled"}]}))
        for spoiled in (text.replace("spoiled", escape), text.replace('"key"', f'"{escape}"')):
            assert_malformed({"PAYMENT-SIGNATURE": encode(spoiled)})

    def test_surrogate_pairs_are_text(self) -> None:
        text = json.dumps(v2_payload(extensions={"a": "spoiled"})).replace(
            "spoiled", "\\ud83d\\ude00"
        )
        presented = read_payment_header({"PAYMENT-SIGNATURE": encode(text)})
        assert presented is not None
        assert presented.extensions == {"a": "😀"}

    def test_nesting_is_capped_and_brackets_in_text_do_not_count(self) -> None:
        nested: Any = "x"
        for _ in range(22):
            nested = [nested]
        assert read_payment_header(v2_headers(extensions={"a": nested})) is not None
        assert_malformed(v2_headers(extensions={"a": [nested]}))
        assert read_payment_header(v2_headers(extensions={"a": '[{\\"' * 100})) is not None


class TestFields:
    @pytest.mark.parametrize("field", ["value", "validAfter", "validBefore"])
    @pytest.mark.parametrize(
        "value",
        [
            10000,
            10000.0,
            True,
            None,
            "",
            "-1",
            "+1",
            "01",
            "00",
            " 1",
            "1 ",
            "1\n",
            "1_000",
            "1e4",
            "1.0",
            "0x10",
            "١٢٣",
            "１",
            "²",
            str(2**256),
            "9" * 79,
            ["1"],
        ],
    )
    def test_numbers_are_canonical_decimal_strings(self, field: str, value: Any) -> None:
        assert_malformed(with_authorization(**{field: value}))

    @pytest.mark.parametrize("field", ["from", "to"])
    @pytest.mark.parametrize(
        "value",
        [
            "",
            "0x",
            PAYER[2:],
            PAYER[:-1],
            PAYER + "0",
            PAYER + "\n",
            "0X" + PAYER[2:],
            "vitalik.eth",
            "0x" + "g" * 40,
            "0x" + "１" * 40,
            5,
            None,
            [PAYER],
        ],
    )
    def test_addresses(self, field: str, value: Any) -> None:
        assert_malformed(with_authorization(**{field: value}))

    @pytest.mark.parametrize(
        "nonce",
        ["", "0x", NONCE[2:], NONCE[:-1], NONCE + "ab", NONCE + "\n", "0x" + "zz" * 32, 7, None],
    )
    def test_nonce(self, nonce: Any) -> None:
        assert_malformed(with_authorization(nonce=nonce))

    @pytest.mark.parametrize(
        "signature",
        ["", "0x", "0x1", "cd" * 65, "0xzz", "0x" + "0f" * 65 + "\n", None, 5, ["0x00"]],
    )
    def test_signature(self, signature: Any) -> None:
        assert_malformed(with_payload(signature=signature))

    def test_signature_length_is_capped(self) -> None:
        with override_settings(X402={"MAX_HEADER_BYTES": 65536}):
            assert_malformed(with_payload(signature="0x" + "0f" * 4097))

    def test_authorization_has_exactly_the_signed_fields(self) -> None:
        assert_malformed(with_authorization(fee="1"))
        for field in authorization():
            fewer = authorization()
            del fewer[field]
            assert_malformed(with_payload(authorization=fewer))

    @pytest.mark.parametrize("part", ["payload", "accepted"])
    @pytest.mark.parametrize("value", [None, [], "x", 1, {}])
    def test_parts_are_objects(self, part: str, value: Any) -> None:
        assert_malformed(v2_headers(**{part: value}))

    @pytest.mark.parametrize("part", ["resource", "extensions"])
    @pytest.mark.parametrize("value", [[], "x", 1, False])
    def test_optional_parts_are_objects(self, part: str, value: Any) -> None:
        assert_malformed(v2_headers(**{part: value}))

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("scheme", None),
            ("scheme", ""),
            ("network", "base-sepolia"),
            ("network", "eip155:84532\n"),
            ("network", 84532),
            ("amount", 10000),
            ("amount", "010000"),
            ("asset", None),
            ("payTo", ""),
            ("maxTimeoutSeconds", "300"),
            ("maxTimeoutSeconds", -1),
            ("maxTimeoutSeconds", True),
            ("maxTimeoutSeconds", 300.0),
            ("extra", []),
        ],
    )
    def test_accepted(self, field: str, value: Any) -> None:
        assert_malformed(v2_headers(accepted=make_offer().as_v2() | {field: value}))

    def test_two_kinds_of_authorization(self) -> None:
        assert_malformed(with_payload(permit2Authorization={}))
