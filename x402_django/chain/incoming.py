"""Money that arrives: the ``Transfer`` logs (EIP-20) of tokens to our payees, block by block.

Read in windows of at most ``LOG_RANGE`` blocks, so that neither a question to a node nor what is
held in memory grows with the period. All functions raise RpcUnavailable where the chain cannot
be read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from eth_typing import HexStr
from web3 import Web3
from web3.types import FilterParams

from x402_django.chain.methods import AUTHORIZATION_USED, TRANSFER
from x402_django.chain.receipts import read_receipt
from x402_django.chain.rpc import checksum, get_web3, rpc_errors
from x402_django.conf import x402
from x402_django.exceptions import RpcUnavailable

#: Alternatives in one topic of a log filter; nodes refuse very long lists.
_MAX_TOPIC_VALUES: Final = 100


@dataclass(frozen=True, slots=True)
class IncomingTransfer:
    """``value`` atomic units of ``asset`` from ``sender`` to ``pay_to``, and where it stands."""

    asset: str
    sender: str
    pay_to: str
    value: int
    block_number: int
    transaction: str
    log_index: int


@dataclass(frozen=True, slots=True)
class Window:
    """The transfers of blocks ``first`` to ``last``, both included, in the chain's order."""

    first: int
    last: int
    transfers: list[IncomingTransfer]


def newest_block(network: str) -> int:
    """The number of the newest block."""
    w3 = get_web3(network)
    with rpc_errors(network):
        return w3.eth.block_number


def block_hash(network: str, number: int) -> str:
    """The hash of block ``number``, by which a reorganisation is noticed."""
    w3 = get_web3(network)
    with rpc_errors(network):
        return "0x" + bytes(w3.eth.get_block(number)["hash"]).hex()


def first_block_since(network: str, timestamp: float, newest: int) -> int:
    """The first block whose time is not before ``timestamp`` (seconds); ``newest`` + 1 if none.

    A binary search: about 25 requests for the longest of chains.
    """
    w3 = get_web3(network)
    low, high = 0, newest + 1
    with rpc_errors(network):
        while low < high:
            middle = (low + high) // 2
            if w3.eth.get_block(middle)["timestamp"] < timestamp:
                low = middle + 1
            else:
                high = middle
    return low


def incoming_windows(
    network: str, assets: Collection[str], payees: Collection[str], first: int, last: int
) -> Iterator[Window]:
    """All transfers of ``assets`` to ``payees`` in blocks ``first`` to ``last``, in windows.

    A window that the node refuses (for its size, as many do) is asked for in halves.
    """
    longest = span = x402.network(network).log_range
    while first <= last:
        end = min(first + span - 1, last)
        try:
            transfers = _read(network, assets, payees, first, end)
        except RpcUnavailable:
            newest_block(network)  # raises if nobody is there: then smaller questions do not help
            if end == first:
                raise
            span = (end - first + 1) // 2
            continue
        yield Window(first, end, transfers)
        first, span = end + 1, min(span * 2, longest)


def transfers_in(
    network: str, transaction: str, assets: Collection[str], payees: Collection[str]
) -> list[IncomingTransfer]:
    """The transfers of ``assets`` to ``payees`` in one transaction; none if it is not mined."""
    receipt = read_receipt(network, transaction)
    if receipt is None or receipt["status"] != 1:
        return []
    return [
        transfer
        for log in receipt["logs"]
        if (transfer := _as_transfer(log)) is not None
        and transfer.asset in assets
        and transfer.pay_to in payees
    ]


def authorizations_of(
    network: str, transfers: Sequence[IncomingTransfer]
) -> dict[IncomingTransfer, str]:
    """The nonces of the EIP-3009 authorizations that made ``transfers``, for those that had one.

    An authorization's ``AuthorizationUsed`` precedes its ``Transfer`` in the same transaction.
    ``transfers`` should stand close together: everything between them is asked for.
    """
    used: dict[tuple[str, str, str], list[tuple[int, str]]] = {}
    w3 = get_web3(network)
    for start in range(0, len(transfers), _MAX_TOPIC_VALUES):
        some = transfers[start : start + _MAX_TOPIC_VALUES]
        topics = [[AUTHORIZATION_USED], sorted({_word(one.sender) for one in some})]
        blocks = [one.block_number for one in some]
        with rpc_errors(network):
            logs = _logs(w3, {one.asset for one in some}, topics, min(blocks), max(blocks))
        for log in logs:
            payer, token = _address(log["topics"][1]), checksum(log["address"])
            where = _hex(log["transactionHash"]), token, payer
            used.setdefault(where, []).append((log["logIndex"], _hex(log["topics"][2])))
    nonces = {}
    for one in transfers:
        before = [
            (index, nonce)
            for index, nonce in used.get((one.transaction, one.asset, one.sender), ())
            if index < one.log_index
        ]
        if before:
            nonces[one] = max(before)[1]
    return nonces


def _read(
    network: str, assets: Collection[str], payees: Collection[str], first: int, last: int
) -> list[IncomingTransfer]:
    w3 = get_web3(network)
    words = sorted(_word(payee) for payee in payees)
    transfers = []
    for start in range(0, len(words), _MAX_TOPIC_VALUES):
        topics = [[TRANSFER], [], words[start : start + _MAX_TOPIC_VALUES]]
        with rpc_errors(network):
            logs = _logs(w3, assets, topics, first, last)
        transfers += [one for log in logs if (one := _as_transfer(log)) is not None]
    return sorted(transfers, key=lambda one: (one.block_number, one.log_index))


def _logs(
    w3: Web3, assets: Collection[str], topics: list[list[bytes]], first: int, last: int
) -> list[Any]:
    wanted: Any = [[HexStr("0x" + value.hex()) for value in topic] or None for topic in topics]
    query: FilterParams = {
        "address": [checksum(asset) for asset in sorted(assets)],
        "topics": wanted,
        "fromBlock": first,
        "toBlock": last,
    }
    return [log for log in w3.eth.get_logs(query) if not log.get("removed")]


def _as_transfer(log: Any) -> IncomingTransfer | None:
    """None for what is no EIP-20 transfer: a collectible's has its number as a fourth topic."""
    topics = [bytes(topic) for topic in log["topics"]]
    data = bytes(log["data"])
    if topics[:1] != [TRANSFER] or len(topics) != 3 or len(data) != 32:
        return None
    return IncomingTransfer(
        asset=checksum(log["address"]),
        sender=_address(topics[1]),
        pay_to=_address(topics[2]),
        value=int.from_bytes(data, "big"),
        block_number=int(log["blockNumber"]),
        transaction=_hex(log["transactionHash"]),
        log_index=int(log["logIndex"]),
    )


def _word(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])


def _address(topic: bytes) -> str:
    return checksum("0x" + bytes(topic)[12:].hex())


def _hex(value: bytes) -> str:
    return "0x" + bytes(value).hex()
