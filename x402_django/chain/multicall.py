"""Many calls in one transaction: Multicall3, at the same address on every network.

Encoding only what settlement needs, word by word: all its calls are of one length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from eth_utils.crypto import keccak

from x402_django.protocol.types import SignedPayment

#: Deployed there by its authors on every network of note; https://www.multicall3.com
MULTICALL3: Final = "0xcA11bde05977b3631167028862bE2a173976CA11"

_AGGREGATE3: Final = keccak(text="aggregate3((address,bool,bytes)[])")[:4]
_TRANSFER: Final = keccak(
    text="transferWithAuthorization("
    "address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)"
)[:4]


def settling_call(batch: Sequence[SignedPayment]) -> tuple[str, bytes]:
    """The contract and the call that settle ``batch``, each payment by itself."""
    if len(batch) == 1:
        return batch[0].offer.asset, transfer_call(batch[0])
    return MULTICALL3, aggregate(batch, allow_failure=True)


def transfer_call(signed: SignedPayment) -> bytes:
    """The call that settles a payment whose payer has no code: 65 byte signatures only."""
    v = signed.signature[64]
    words = (
        address_word(signed.payer),
        address_word(signed.offer.pay_to),
        _word(signed.offer.amount),
        _word(signed.valid_after),
        _word(signed.valid_before),
        bytes.fromhex(signed.nonce[2:]),
        _word(v if v >= 27 else v + 27),
        signed.signature[:64],
    )
    return _TRANSFER + b"".join(words)


def aggregate(batch: Sequence[SignedPayment], *, allow_failure: bool) -> bytes:
    """The call that settles all of ``batch``; with ``allow_failure`` each by itself."""
    calls = []
    for one in batch:
        call = transfer_call(one)
        calls += [
            address_word(one.offer.asset),
            _word(allow_failure),
            _word(96),  # where the call begins in this tuple
            _word(len(call)),
            call.ljust(-(-len(call) // 32) * 32, b"\0"),
        ]
    size = sum(map(len, calls)) // max(len(batch), 1)
    # Tuples of dynamic size are found by offsets from where the offsets begin.
    offsets = [_word(32 * len(batch) + size * index) for index in range(len(batch))]
    return b"".join([_AGGREGATE3, _word(32), _word(len(batch)), *offsets, *calls])


def address_word(address: str) -> bytes:
    """An address as a word of the ABI."""
    return bytes(12) + bytes.fromhex(address[2:])


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")
