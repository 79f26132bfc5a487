"""Many calls in one transaction: Multicall3, at the same address on every network.

Encoding only what settlement needs, and asking a node about many payers in one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from weakref import WeakSet

from eth_typing import HexStr
from eth_utils.crypto import keccak
from web3 import Web3
from web3.exceptions import ContractLogicError
from web3.types import TxParams

from x402_django.chain.rpc import checksum
from x402_django.protocol.types import SignedPayment

#: Deployed there by its authors on every network of note; https://www.multicall3.com
MULTICALL3: Final = "0xcA11bde05977b3631167028862bE2a173976CA11"

_AGGREGATE3: Final = keccak(text="aggregate3((address,bool,bytes)[])")[:4]
_TRANSFER: Final = keccak(
    text="transferWithAuthorization("
    "address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)"
)[:4]

#: Answers with one byte for each address appended to it: 1 where there is code. Run by
#: ``eth_call`` as if to create a contract; nothing is created.
_CODE_PROBE: Final = bytes.fromhex(
    "602c380380602c6000396000"  # copy the addresses to memory; position 0
    "5b8181101560245780513b1515"  # while position < size: has the address there code?
    "8160051c53602001600c56"  # write that at position / 32; the next
    "5b5060051c6000f3"  # as many bytes as there are addresses
)

_present: WeakSet[Web3] = WeakSet()


def is_deployed(w3: Web3) -> bool:
    """Whether the network has Multicall3. Remembered where it has. Call under ``rpc_errors``."""
    if w3 in _present:
        return True
    if not w3.eth.get_code(checksum(MULTICALL3)):
        return False
    _present.add(w3)
    return True


def transfer_call(signed: SignedPayment) -> bytes:
    """The call that settles a payment whose payer has no code: 65 byte signatures only."""
    v = signed.signature[64]
    words = (
        _address(signed.payer),
        _address(signed.offer.pay_to),
        signed.offer.amount.to_bytes(32, "big"),
        signed.valid_after.to_bytes(32, "big"),
        signed.valid_before.to_bytes(32, "big"),
        bytes.fromhex(signed.nonce[2:]),
        (v if v >= 27 else v + 27).to_bytes(32, "big"),
        signed.signature[:64],
    )
    return _TRANSFER + b"".join(words)


def aggregate(w3: Web3, batch: Sequence[SignedPayment], *, allow_failure: bool) -> bytes:
    """The call that settles all of ``batch``; with ``allow_failure`` each by itself."""
    calls = [(checksum(one.offer.asset), allow_failure, transfer_call(one)) for one in batch]
    return _AGGREGATE3 + w3.codec.encode(["(address,bool,bytes)[]"], [calls])


def simulate(w3: Web3, sender: str, batch: Sequence[SignedPayment], *, gas: int) -> list[bool]:
    """Which of ``batch`` would settle now, in this order, in one transaction.

    One RPC call. Raises ContractLogicError where the node does not run it. Call under
    ``rpc_errors``.
    """
    call: TxParams = {
        "from": checksum(sender),
        "to": checksum(MULTICALL3),
        "gas": gas,
        "data": HexStr("0x" + aggregate(w3, batch, allow_failure=True).hex()),
    }
    answer = bytes(w3.eth.call(call))
    (results,) = w3.codec.decode(["(bool,bytes)[]"], answer)
    return [success for success, _ in results]


def have_code(w3: Web3, addresses: Sequence[str]) -> list[bool]:
    """Which of ``addresses`` are contracts or delegated (EIP-7702). One RPC call.

    Raises ContractLogicError where the node does not say. Call under ``rpc_errors``.
    """
    data = _CODE_PROBE + b"".join(_address(one) for one in addresses)
    answer = bytes(w3.eth.call({"data": HexStr("0x" + data.hex())}))
    if len(answer) != len(addresses):
        raise ContractLogicError("the node does not say which addresses have code")
    return [bool(one) for one in answer]


def _address(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])
