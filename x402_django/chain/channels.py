"""The escrow of payment channels: what it knows of them, and the call that claims and sweeps.

Only the receiver's authorizer may claim, and that is a settlement wallet of ours: it calls
``claim`` itself, together with ``settle``, which sends the payee what was claimed. Both happen or
neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from x402_django import clock
from x402_django.chain.batch import ask
from x402_django.chain.methods import TRANSFER, address_word
from x402_django.chain.rpc import checksum
from x402_django.constants import ESCROW_ADDRESS
from x402_django.exceptions import RpcUnavailable
from x402_django.protocol.channels import ChannelConfig

_CONFIG: Final = "(address,address,address,address,address,uint40,bytes32)"
_CLAIMS: Final = f"(({_CONFIG},uint128),bytes,uint128)[]"


def _selector(signature: str) -> bytes:
    return keccak(text=signature)[:4]


_CHANNELS: Final = _selector("channels(bytes32)")
_PENDING: Final = _selector("pendingWithdrawals(bytes32)")
_REFUND_NONCE: Final = _selector("refundNonce(bytes32)")
_CLAIM: Final = _selector(f"claim({_CLAIMS})")
_SETTLE: Final = _selector("settle(address,address)")
_MULTICALL: Final = _selector("multicall(bytes[])")
#: Channels that a node is asked about at a time.
_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class ChannelState:
    """What the escrow knows of a channel, in atomic units; all of it zero of one that is not.

    ``read_at`` is from before it was asked: what happened later, it does not tell.
    """

    balance: int
    claimed: int
    withdrawal_at: datetime | None
    refund_nonce: int
    read_at: datetime


@dataclass(frozen=True, slots=True)
class VoucherClaim:
    """What is claimed of a channel: ``up_to`` in all, by a voucher for ``maximum``."""

    config: ChannelConfig
    maximum: int
    signature: bytes
    up_to: int


def read_channels(network: str, channel_ids: Sequence[str]) -> list[ChannelState]:
    """The states of channels as of the newest block, in their order. Raises RpcUnavailable."""
    found: list[ChannelState] = []
    for start in range(0, len(channel_ids), _AT_ONCE):
        some = channel_ids[start : start + _AT_ONCE]
        now = clock.now()
        answers = ask(
            network,
            [
                ("eth_call", [_call(selector, channel_id), "latest"])
                for channel_id in some
                for selector in (_CHANNELS, _PENDING, _REFUND_NONCE)
            ],
        )
        for index in range(len(some)):
            balances, pending, nonce = answers[3 * index : 3 * index + 3]
            balance, claimed = _words(network, balances, 2)
            _, since = _words(network, pending, 2)
            (refund_nonce,) = _words(network, nonce, 1)
            withdrawal_at = datetime.fromtimestamp(since, UTC) if since else None
            found.append(ChannelState(balance, claimed, withdrawal_at, refund_nonce, now))
    return found


def claiming_call(claims: Sequence[VoucherClaim], *, pay_to: str, asset: str) -> bytes:
    """The call of the escrow that claims, and sends ``pay_to`` what was claimed of ``asset``."""
    entries = [((one.config.as_tuple(), one.maximum), one.signature, one.up_to) for one in claims]
    claim = _CLAIM + encode([_CLAIMS], [entries])
    settle = _SETTLE + encode(["address", "address"], [pay_to, asset])
    return _MULTICALL + encode(["bytes[]"], [[claim, settle]])


def swept(receipt: Mapping[str, Any], *, pay_to: str, asset: str) -> tuple[int, int] | None:
    """What a receipt's transaction has sent ``pay_to`` out of the escrow, and the log's index."""
    wanted = [TRANSFER, address_word(ESCROW_ADDRESS), address_word(pay_to)]
    if receipt["status"] != 1:
        return None
    for log in receipt["logs"]:
        topics = [bytes(topic) for topic in log["topics"]]
        if str(log["address"]).lower() == asset.lower() and topics == wanted:
            return int.from_bytes(bytes(log["data"]), "big"), int(log["logIndex"])
    return None


def _call(selector: bytes, channel_id: str) -> dict[str, str]:
    return {"to": checksum(ESCROW_ADDRESS), "data": "0x" + selector.hex() + channel_id[2:]}


def _words(network: str, answer: Any, count: int) -> list[int]:
    data = bytes.fromhex(str(answer).removeprefix("0x"))
    if len(data) != 32 * count:
        raise RpcUnavailable(f"There is no escrow of payment channels on {network}.")
    return [int.from_bytes(data[32 * i : 32 * i + 32], "big") for i in range(count)]
