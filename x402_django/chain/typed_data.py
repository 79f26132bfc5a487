"""EIP-712 messages as the SDK hands them to a signer, and who signed them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eth_utils.crypto import keccak

from x402_django.chain.rpc import checksum


def typed_data_digest(
    domain: Any, types: Mapping[str, Any], primary_type: str, message: Mapping[str, Any]
) -> bytes:
    """The digest of an EIP-712 message, given as the SDK gives it to a signer."""
    from eth_account.messages import encode_typed_data

    if not isinstance(domain, Mapping):
        domain = {
            "name": domain.name,
            "version": domain.version,
            "chainId": domain.chain_id,
            "verifyingContract": domain.verifying_contract,
        }
    fields = {
        name: [
            field if isinstance(field, Mapping) else {"name": field.name, "type": field.type}
            for field in members
        ]
        for name, members in types.items()
        if name != "EIP712Domain"
    }
    signable = encode_typed_data(dict(domain), fields, dict(message))
    return keccak(b"\x19" + signable.version + signable.header + signable.body)


def recovers_to(digest: bytes, signature: bytes, address: str) -> bool:
    """Whether ``address`` is that of the key that signed; no for malformed signatures."""
    from x402_django.exceptions import PaymentRefused
    from x402_django.protocol.signatures import recover_signer

    try:
        return recover_signer(digest, signature) == checksum(address)
    except PaymentRefused:
        return False
