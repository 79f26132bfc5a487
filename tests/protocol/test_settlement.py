"""The ``PAYMENT-RESPONSE`` header."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from x402.http.utils import decode_payment_response_header

from tests.protocol.builders import PAYER
from tests.protocol.golden import assert_golden
from x402_django.constants import Code
from x402_django.protocol.settlement import encode_settlement

TRANSACTION = "0x" + "12" * 32
SETTLED: dict[str, Any] = {
    "success": True,
    "network": "eip155:84532",
    "transaction": TRANSACTION,
    "payer": PAYER,
    "amount": 10_000,
}
FAILED: dict[str, Any] = {
    "success": False,
    "network": "eip155:84532",
    "transaction": "",
    "payer": PAYER,
    "error_reason": Code.INSUFFICIENT_FUNDS,
}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("outcome", "fields"), [("settled", SETTLED), ("failed", FAILED)])
def test_golden(version: int, outcome: str, fields: dict[str, Any]) -> None:
    name, value = encode_settlement(version=version, **fields)
    document = json.loads(base64.b64decode(value, validate=True))
    assert_golden(
        f"server_settlement_{outcome}_v{version}",
        {"name": name, "value": value, "document": document},
    )


def test_v2_is_read_by_the_sdk() -> None:
    name, value = encode_settlement(version=2, extensions={"note": "é"}, **SETTLED)
    response = decode_payment_response_header(value)
    assert name == "PAYMENT-RESPONSE"
    assert response.success is True
    assert response.network == "eip155:84532"
    assert response.transaction == TRANSACTION
    assert response.payer == PAYER
    assert response.amount == "10000"
    assert response.extensions == {"note": "é"}
    assert response.error_reason is None


def test_v1_is_read_by_the_sdk_and_names_the_network_its_way() -> None:
    name, value = encode_settlement(version=1, extensions={"note": "é"}, **SETTLED)
    response = decode_payment_response_header(value)
    assert name == "X-PAYMENT-RESPONSE"
    assert (response.success, response.network) == (True, "base-sepolia")
    assert (response.amount, response.extensions) == (None, None)


def test_failure() -> None:
    response = decode_payment_response_header(encode_settlement(version=2, **FAILED)[1])
    assert response.success is False
    assert response.error_reason == "insufficient_funds"
    assert response.transaction == ""


def test_unknown_payer_and_network_without_v1_name() -> None:
    fields = SETTLED | {"payer": None, "network": "eip155:31337"}
    document = json.loads(base64.b64decode(encode_settlement(version=1, **fields)[1]))
    assert document == {"success": True, "transaction": TRANSACTION, "network": "eip155:31337"}
