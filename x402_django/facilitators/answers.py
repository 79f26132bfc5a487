"""How the answers of facilitator services are read.

The specification shows refusals with status 200. Coinbase's service sends them with 400, and
leaves out what a refusal has no use for (``x402VerifyPaymentRejection`` and
``x402SettlePaymentRejection`` in the OpenAPI description of its API). The SDK's client takes any
status but 200 for a breakdown, and a payer without money would be told "try again later". So such
refusals are given the form that the SDK reads.
"""

from __future__ import annotations

import json
from typing import Any, Final

from x402_django.constants import Code

#: Statuses with which a proper refusal is believed. Those that say that the request was not dealt
#: with (401, 403, 404, 429, 5xx) are none, whatever their body says.
REFUSAL_STATUSES: Final = frozenset({400, 402, 409, 422})

#: Reasons of a refused verification that are about the facilitator, not the payment.
OUT_OF_ORDER: Final = frozenset(
    {
        Code.UNEXPECTED_VERIFY_ERROR,
        Code.UNEXPECTED_SETTLE_ERROR,
        "internal_error",
        "invalid_json",  # it could not read what we sent: no word on the payment
        "invalid_exact_evm_failed_to_get_asset_info",
        "invalid_exact_evm_failed_to_get_network_config",
        "missing_parameters",
        "unexpected_error",
    }
)
#: Reasons of a failed settlement that rule out that the authorization was used: it, or the
#: payer's balance, could not pay. "Transaction failed" is not among them: somebody else may have
#: submitted the same authorization a moment before.
DEFINITE: Final = frozenset(
    {
        Code.INSUFFICIENT_FUNDS,
        Code.INVALID_NETWORK,
        Code.INVALID_RECIPIENT,
        Code.INVALID_REQUIREMENTS,
        Code.INVALID_SCHEME,
        Code.INVALID_SIGNATURE,
        Code.INVALID_VALID_AFTER,
        Code.INVALID_VALID_BEFORE,
        Code.INVALID_VALUE,
        Code.UNSUPPORTED_SCHEME,
        Code.INVALID_PAYLOAD,
        Code.INVALID_VERSION,
        "asset_not_deployed_contract",
        "eip6492_factory_not_allowed",
        "invalid_exact_evm_eip3009_not_supported",
        "invalid_exact_evm_payload_authorization_from_address_kyt",
        "invalid_exact_evm_payload_authorization_to_address_kyt",
        "invalid_exact_evm_payload_authorization_typed_data_message",
        "invalid_exact_evm_payload_authorization_value_too_low",
        "invalid_exact_evm_payload_signature_address",
        "invalid_exact_evm_payload_undeployed_smart_wallet",
        "invalid_exact_evm_token_name_mismatch",
        "invalid_exact_evm_token_version_mismatch",
        "invalid_permit2_recipient_mismatch",
        "invalid_permit2_signature",
        "invalid_permit2_spender",
        "missing_eip712_domain",
        "permit2_allowance_required",
        "permit2_amount_mismatch",
        "permit2_deadline_expired",
        "permit2_insufficient_balance",
        "permit2_not_yet_valid",
        "permit2_token_mismatch",
        "smart_wallet_deployment_failed",
        "unsupported_network",
    }
)


#: The same, said of the first attempt alone. It was tried before anything was sent; later it may
#: fail *because* the first attempt has moved the money.
DEFINITE_AT_FIRST: Final = frozenset(
    {"transaction_simulation_failed", "fee_payer_not_managed_by_facilitator"}
)
#: What is wrong with a transaction of Solana was wrong whenever it was looked at.
_SVM_PAYLOAD: Final = "invalid_exact_svm_payload"


def is_definite(code: str) -> bool:
    """Whether a reason rules out that the payment was, or will be, settled."""
    return code in DEFINITE or code.startswith(_SVM_PAYLOAD)


def proper_refusal(path: str, status: int, body: bytes) -> bytes | None:
    """The refusal in ``body`` as the specification would have it, or None if it is none.

    Args:
        path: of the request; its last part tells ``/verify`` from ``/settle``.
        status: of the answer.
        body: of the answer.
    """
    if status not in REFUSAL_STATUSES:
        return None
    try:
        answer = json.loads(body)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    endpoint = path.rstrip("/").rpartition("/")[2]
    refusal = {"verify": _verification, "settle": _settlement}.get(endpoint, _none)(answer)
    return None if refusal is None else json.dumps(refusal).encode()


def _none(answer: dict[str, Any]) -> dict[str, Any] | None:
    return None


def _verification(answer: dict[str, Any]) -> dict[str, Any] | None:
    if answer.get("isValid") is not False or not _is_reason(answer.get("invalidReason")):
        return None
    return answer


def _settlement(answer: dict[str, Any]) -> dict[str, Any] | None:
    if answer.get("success") is not False or not _is_reason(answer.get("errorReason")):
        return None
    blanks = {name: answer.get(name) or "" for name in ("transaction", "network")}
    return {**answer, **blanks}


def _is_reason(reason: object) -> bool:
    return isinstance(reason, str) and reason != ""
