"""EIP-712 hashes put together from bytes, for the path of every paid request.

The tests hold them against the SDK's and eth-account's. The cryptography is loaded when first
needed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from x402_django.protocol.networks import parse_chain_id

_ADDRESS_PADDING: Final = bytes(12)


def struct_hash(encoded_type: bytes, *words: bytes, domain: bytes | None = None) -> bytes:
    """``hashStruct`` of members that are 32 bytes each; with ``domain``, the digest to sign."""
    hashed = keccak()(type_hash(encoded_type) + b"".join(words))
    return hashed if domain is None else keccak()(b"\x19\x01" + domain + hashed)


@lru_cache(maxsize=256)
def domain_separator(name: str, version: str | None, network: str, contract: str) -> bytes:
    """The separator of an EIP-712 domain; ``network`` is CAIP-2, no ``version`` is None."""
    members = [b"string name", b"string version", b"uint256 chainId", b"address verifyingContract"]
    words = [
        keccak()(name.encode()),
        parse_chain_id(network).to_bytes(32, "big"),
        address_word(contract),
    ]
    if version is None:
        del members[1]
    else:
        words.insert(1, keccak()(version.encode()))
    return struct_hash(b"EIP712Domain(" + b",".join(members) + b")", *words)


def word(number: int) -> bytes:
    """A uint256."""
    return number.to_bytes(32, "big")


def address_word(address: str) -> bytes:
    """An address, padded to 32 bytes."""
    return _ADDRESS_PADDING + bytes.fromhex(address[2:])


@lru_cache(maxsize=16)
def type_hash(encoded_type: bytes) -> bytes:
    """Of an encoded type, referenced types included."""
    return keccak()(encoded_type)


@lru_cache(maxsize=1)
def keccak() -> Callable[[bytes], bytes]:
    """The hash function, loaded when first needed."""
    from eth_hash.auto import keccak

    return keccak
