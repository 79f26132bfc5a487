"""Who signed a payment, as far as that can be told without asking a network.

The cryptography is loaded when first needed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from x402_django.constants import Code
from x402_django.exceptions import PaymentRefused
from x402_django.protocol.assets import to_checksum_address
from x402_django.protocol.typed_data import keccak

if TYPE_CHECKING:
    from x402_django.protocol.types import SignedPayment

#: Order of the secp256k1 group.
_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HALF_ORDER: Final = _ORDER // 2
_ERC6492_SUFFIX: Final = bytes.fromhex("6492" * 16)


def typed_data_digest(signed: SignedPayment) -> bytes:
    """The 32 bytes the payer signed, in the domain of *our* asset table (EIP-712)."""
    return signed.method.digest(signed)


def personal_message_digest(text: str) -> bytes:
    """The 32 bytes that a wallet signs for a text (EIP-191, version 0x45, ``personal_sign``)."""
    encoded = text.encode()
    length = str(len(encoded)).encode()
    return keccak()(b"\x19Ethereum Signed Message:\n" + length + encoded)


def recover_signer(digest: bytes, signature: bytes) -> str | None:
    """The checksummed address whose key made this 65-byte ECDSA signature.

    Returns None where it is not such a signature (another length or ``v``: a contract wallet's)
    or no key could have made it. Raises PaymentRefused (``INVALID_SIGNATURE``) for one that is
    malleable (``s`` in the upper half, which tokens refuse too, EIP-2) or has a zero.
    """
    if len(signature) != 65:
        return None
    parity = signature[64] - 27 if signature[64] >= 27 else signature[64]
    if parity not in (0, 1):
        return None
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:64], "big")
    if not 0 < r < _ORDER or not 0 < s <= _HALF_ORDER:
        raise PaymentRefused(
            "The payment's signature is not in its canonical form.", code=Code.INVALID_SIGNATURE
        )
    return _recover(digest, signature[:64] + bytes((parity,)))


# Asked when a payment is presented, verified and settled.
@lru_cache(maxsize=1024)
def check_eoa_signature(signed: SignedPayment) -> bool:
    """Whether the payer's own key signed exactly this payment.

    False does not yet mean forged: the payer may be a contract wallet, which only the chain can
    ask (EIP-1271). And True does not bind an address that has code (EIP-7702): route by code.
    Raises PaymentRefused as ``recover_signer``.
    """
    own = signed.method.is_signed(signed)
    if own is not None:
        return own
    return recover_signer(typed_data_digest(signed), signed.signature) == signed.payer


def is_erc6492(signature: bytes) -> bool:
    """Whether the signature is wrapped for a contract wallet not yet deployed (ERC-6492)."""
    return len(signature) > 32 and signature.endswith(_ERC6492_SUFFIX)


@lru_cache(maxsize=1024)
def _recover(digest: bytes, signature: bytes) -> str | None:
    from eth_keys.datatypes import Signature
    from eth_keys.exceptions import BadSignature
    from eth_utils.exceptions import ValidationError

    try:
        key = Signature(signature_bytes=signature).recover_public_key_from_msg_hash(digest)
    except (BadSignature, ValidationError):
        return None
    return to_checksum_address(key.to_address())
