"""Sign-in by wallet from the buyer's side: the header that answers a challenge.

The text is put together by EIP-4361 from the wire's own fields, independently of the code that
verifies it; for tests and for agents in Python.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from x402_django.constants import SIGN_IN_HEADER

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount


def sign_in_headers(
    declared: Mapping[str, Any],
    account: LocalAccount,
    *,
    address: str | None = None,
    **overrides: Any,
) -> dict[str, str]:
    """The request headers that answer a challenge.

    Args:
        declared: what the 402 has under ``extensions["sign-in-with-x"]``.
        account: whose key signs.
        address: who signs in, where that is a contract wallet the account owns.
        overrides: change fields before they are signed, by their names on the wire.
    """
    from eth_account.messages import encode_defunct

    payload = {
        **declared["info"],
        "address": address or account.address,
        "chainId": declared["supportedChains"][0]["chainId"],
        "type": "eip191",
        **overrides,
    }
    signed = account.sign_message(encode_defunct(text=sign_in_text(payload)))
    payload["signature"] = "0x" + bytes(signed.signature).hex()
    return {SIGN_IN_HEADER: base64.b64encode(json.dumps(payload).encode()).decode()}


def sign_in_text(payload: Mapping[str, Any]) -> str:
    """What a wallet signs for the fields of ``payload`` (EIP-4361)."""
    optional = (
        ("Expiration Time", "expirationTime"),
        ("Not Before", "notBefore"),
        ("Request ID", "requestId"),
    )
    lines = [
        f"{payload['domain']} wants you to sign in with your Ethereum account:",
        payload["address"],
        "",
        *([payload["statement"]] if payload.get("statement") else []),
        "",
        f"URI: {payload['uri']}",
        f"Version: {payload['version']}",
        f"Chain ID: {payload['chainId'].rpartition(':')[2]}",
        f"Nonce: {payload['nonce']}",
        f"Issued At: {payload['issuedAt']}",
        *(f"{label}: {payload[name]}" for label, name in optional if payload.get(name)),
    ]
    if payload.get("resources"):
        lines += ["Resources:", *(f"- {one}" for one in payload["resources"])]
    return "\n".join(lines)
