"""What a payer can spend through Permit2, as of one block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from eth_typing import HexStr
from eth_utils.crypto import keccak
from web3 import Web3
from web3.exceptions import ContractLogicError
from web3.types import BlockIdentifier

from x402_django.chain.methods import address_word
from x402_django.chain.rpc import checksum, get_web3, rpc_errors
from x402_django.constants import PERMIT2_ADDRESS
from x402_django.exceptions import RpcUnavailable
from x402_django.protocol.types import SignedPayment

_BALANCE_OF: Final = keccak(text="balanceOf(address)")[:4]
_ALLOWANCE: Final = keccak(text="allowance(address,address)")[:4]


@dataclass(frozen=True, slots=True)
class Funds:
    """Atomic units that a payer holds and Permit2 may move, and the block that says so."""

    amount: int
    block_number: int


def allowance(signed: SignedPayment) -> int:
    """What Permit2 may move of the payer's money now, in atomic units. Raises RpcUnavailable."""
    w3 = get_web3(signed.offer.network)
    with rpc_errors(signed.offer.network):
        return _ask(w3, signed.offer.asset, _allowance_call(signed.payer), "latest")


def spendable(signed: SignedPayment) -> Funds:
    """What the payer of ``signed`` can spend of its token. Raises RpcUnavailable.

    An approval that comes with the payment allows just its own amount.
    """
    offer = signed.offer
    w3 = get_web3(offer.network)
    with rpc_errors(offer.network):
        number = int(w3.eth.block_number)
        balance = _ask(w3, offer.asset, _BALANCE_OF + address_word(signed.payer), number)
        allowed = _ask(w3, offer.asset, _allowance_call(signed.payer), number)
    if signed.sponsorship is not None:
        allowed = max(allowed, offer.amount)
    return Funds(min(balance, allowed), number)


def _allowance_call(payer: str) -> bytes:
    return _ALLOWANCE + address_word(payer) + address_word(PERMIT2_ADDRESS)


def _ask(w3: Web3, token: str, data: bytes, block: BlockIdentifier) -> int:
    call: Any = {"to": checksum(token), "data": HexStr("0x" + data.hex())}
    try:
        answer = bytes(w3.eth.call(call, block))
    except ContractLogicError:
        answer = b""
    if len(answer) != 32:
        raise RpcUnavailable(f"The token {token} does not say what somebody can spend.")
    return int.from_bytes(answer, "big")
