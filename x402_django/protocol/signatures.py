"""EIP-712 digests of EIP-3009 authorizations, and ECDSA recovery, without asking a network.

This sits on the path of every paid request, so the digest is put together from bytes here; the
tests hold it against the SDK's. The cryptography is loaded when first needed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from x402_django.constants import Code
from x402_django.exceptions import PaymentRefused
from x402_django.protocol.assets import to_checksum_address
from x402_django.protocol.networks import parse_chain_id

if TYPE_CHECKING:
    from x402_django.protocol.types import SignedPayment

#: Order of the secp256k1 group.
_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HALF_ORDER: Final = _ORDER // 2
_ERC6492_SUFFIX: Final = bytes.fromhex("6492" * 16)
_DOMAIN_TYPE: Final = (
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_AUTHORIZATION_TYPE: Final = (
    b"TransferWithAuthorization(address from,address to,uint256 value,"
    b"uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
_ADDRESS_PADDING: Final = bytes(12)


def typed_data_digest(signed: SignedPayment) -> bytes:
    """The 32 bytes the payer signed, in the domain of *our* asset table (EIP-712, EIP-3009)."""
    keccak = _keccak()
    offer = signed.offer
    struct = keccak(
        b"".join(
            (
                _type_hash(_AUTHORIZATION_TYPE),
                _address_word(signed.payer),
                _address_word(offer.pay_to),
                offer.amount.to_bytes(32, "big"),
                signed.valid_after.to_bytes(32, "big"),
                signed.valid_before.to_bytes(32, "big"),
                bytes.fromhex(signed.nonce[2:]),
            )
        )
    )
    domain = domain_separator(offer.asset_name, offer.asset_version, offer.network, offer.asset)
    return keccak(b"\x19\x01" + domain + struct)


@lru_cache(maxsize=256)
def domain_separator(name: str, version: str, network: str, contract: str) -> bytes:
    """EIP-712 domain separator of a token; ``network`` is CAIP-2."""
    keccak = _keccak()
    return keccak(
        b"".join(
            (
                _type_hash(_DOMAIN_TYPE),
                keccak(name.encode()),
                keccak(version.encode()),
                parse_chain_id(network).to_bytes(32, "big"),
                _address_word(contract),
            )
        )
    )


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
    return recover_signer(typed_data_digest(signed), signed.signature) == signed.payer


def is_erc6492(signature: bytes) -> bool:
    """Whether the signature is wrapped for a contract wallet not yet deployed (ERC-6492)."""
    return len(signature) > 32 and signature.endswith(_ERC6492_SUFFIX)


def _recover(digest: bytes, signature: bytes) -> str | None:
    from eth_keys.datatypes import Signature
    from eth_keys.exceptions import BadSignature
    from eth_utils.exceptions import ValidationError

    try:
        key = Signature(signature_bytes=signature).recover_public_key_from_msg_hash(digest)
    except (BadSignature, ValidationError):
        return None
    return to_checksum_address(key.to_address())


def _address_word(address: str) -> bytes:
    return _ADDRESS_PADDING + bytes.fromhex(address[2:])


@lru_cache(maxsize=2)
def _type_hash(encoded_type: bytes) -> bytes:
    return _keccak()(encoded_type)


@lru_cache(maxsize=1)
def _keccak() -> Callable[[bytes], bytes]:
    from eth_hash.auto import keccak

    return keccak
