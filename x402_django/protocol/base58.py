"""Base58, in which Solana writes addresses and transactions. The case of its letters counts."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.util import find_spec
from typing import Final

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
#: 64 bytes have at most 88 digits.
_BASE58: Final = re.compile(f"[{_ALPHABET}]{{1,88}}")


@lru_cache(maxsize=1)
def is_solana_available() -> bool:
    """Whether what decodes Solana's transactions is installed (``x402-django[svm]``)."""
    return find_spec("solders") is not None and find_spec("solana") is not None


def is_solana_address(value: object) -> bool:
    """Whether ``value`` is 32 bytes in base58, as public keys, mints and accounts are."""
    return isinstance(value, str) and len(decode(value)) == 32


def is_solana_transaction(value: object) -> bool:
    """Whether ``value`` is 64 bytes in base58: the first signature of a transaction names it."""
    return isinstance(value, str) and len(decode(value)) == 64


@lru_cache(maxsize=4096)
def decode(text: str) -> bytes:
    """The bytes that ``text`` stands for, up to 64; empty if it is no base58."""
    if _BASE58.fullmatch(text) is None:
        return b""
    number = 0
    for digit in text:
        number = number * 58 + _ALPHABET.index(digit)
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
