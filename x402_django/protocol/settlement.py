"""The ``PAYMENT-RESPONSE`` header: what became of a payment (x402 v2, ``SettlementResponse``)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from x402_django.constants import PAYMENT_RESPONSE_HEADER, V1_PAYMENT_RESPONSE_HEADER
from x402_django.protocol import networks


def encode_settlement(
    *,
    version: int,
    success: bool,
    network: str,
    transaction: str,
    payer: str | None,
    amount: int | None = None,
    error_reason: str | None = None,
    extensions: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> tuple[str, str]:
    """The header's name and value for a client of x402 ``version``.

    Args:
        version: 1 or 2: the version of the header the payment came in.
        success: whether the payment was settled.
        network: CAIP-2; written with v1's name for v1 (where it has one).
        transaction: 0x-hex hash; empty if nothing was settled.
        payer: checksummed address, if known.
        amount: atomic units settled. v2 only.
        error_reason: a ``Code``, where ``success`` is false.
        extensions: JSON-able. v2 only.
        extra: what the scheme says of the settlement. v2 only.
    """
    response: dict[str, Any] = {"success": success}
    if error_reason is not None:
        response["errorReason"] = error_reason
    if payer is not None:
        response["payer"] = payer
    response["transaction"] = transaction
    if version == 1:
        response["network"] = networks.v1_name(network) or network
        return V1_PAYMENT_RESPONSE_HEADER, _encode(response)
    response["network"] = network
    if amount is not None:
        response["amount"] = str(amount)
    if extra:
        response["extra"] = dict(extra)
    if extensions:
        response["extensions"] = dict(extensions)
    return PAYMENT_RESPONSE_HEADER, _encode(response)


def _encode(response: Mapping[str, Any]) -> str:
    # JSON in ASCII: v1's TypeScript client decodes base64 to latin-1.
    return base64.b64encode(json.dumps(response, separators=(",", ":")).encode("ascii")).decode()
