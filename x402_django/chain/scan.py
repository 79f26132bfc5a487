"""Reading ranges of blocks for all payments at once: two log queries, whatever their number.

The transfers to our payees say in which transactions to look, and the ``AuthorizationUsed`` logs
of the same blocks say which payments they are: logs exist for successful transactions only, so no
receipt is needed (see ``methods`` for what counts as proof). Where a proxy has moved money by
Permit2, its event says so, and a payment is known by the place at which it was found to be settled.

What is found here is proof. What is not found may be a node that lags or forgets, and proves
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from x402_django.chain.batch import Question, RpcRefused, ask
from x402_django.chain.methods import (
    AUTHORIZATION_USED,
    PROXY_EVENTS,
    TRANSFER,
    authorized_transfers,
    is_proxy_event,
)
from x402_django.exceptions import RpcUnavailable
from x402_django.protocol.assets import to_checksum_address
from x402_django.protocol.transfer_methods import PROXIES
from x402_django.protocol.types import Settlement

#: Payees per log query; nodes limit the alternatives of a topic.
_PAYEES_PER_QUERY: Final = 500
#: Events that say what has moved the money of a transfer, and of whom besides the tokens.
_MOVERS: Final = ["0x" + event.hex() for event in sorted({AUTHORIZATION_USED, *PROXY_EVENTS})]
_PROXIES: Final = sorted(PROXIES.values())


class ChainMoved(RpcUnavailable):
    """The chain was reorganised, or another node answered, while it was read."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block by number and hash; equal if it is the same block. ``timestamp`` is in seconds."""

    number: int
    hash: str
    timestamp: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class View:
    """The chain at one moment: its newest block, others that were asked for, and its tags."""

    head: Block
    blocks: Mapping[int, Block]
    tagged: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Transfer:
    """A token's ``Transfer`` to one of our payees. ``amount`` is in atomic units."""

    asset: str
    payer: str
    to: str
    amount: int
    place: Settlement


@dataclass(frozen=True, slots=True)
class Piece:
    """What a range of blocks holds, ``last`` being its last block.

    ``authorized``: transfers by the authorization ``(asset, payer, nonce)`` they belong to, in
    their order. ``plain``: those that surely belong to none, by transaction; where the sender used
    an authorization in the same transaction, only its receipt can tell them apart. ``permitted``:
    those of transactions in which one of x402's Permit2 proxies has closed a settlement, the same.
    """

    first: int
    last: Block
    authorized: dict[tuple[str, str, str], list[Transfer]] = field(default_factory=dict)
    plain: dict[str, list[Transfer]] = field(default_factory=dict)
    permitted: dict[str, list[Transfer]] = field(default_factory=dict)


def read_view(network: str, numbers: Sequence[int] = (), tags: Sequence[str] = ()) -> View:
    """The newest block, the blocks with these numbers, and where the tags stand; one request.

    Numbers beyond the newest block are left out. A tag that stands nowhere yet is at -1. Raises
    RpcUnavailable.
    """
    questions = [
        _block("latest"),
        *(_block(hex(number)) for number in numbers),
        *(_block(tag) for tag in tags),
    ]
    answers = [_as_block(network, answer) for answer in ask(network, questions)]
    head = answers[0]
    if head is None:
        raise RpcUnavailable(f"The RPC endpoint of {network} has no newest block.")
    found = answers[1 : 1 + len(numbers)]
    tagged = answers[1 + len(numbers) :]
    return View(
        head=head,
        blocks={block.number: block for block in found if block is not None},
        tagged={
            tag: -1 if block is None else block.number
            for tag, block in zip(tags, tagged, strict=True)
        },
    )


def read_pieces(
    network: str, first: int, last: int, assets: Collection[str], payees: Collection[str]
) -> Iterator[Piece]:
    """What the blocks ``first`` to ``last`` hold, in order; in one piece if the node can.

    A range that the node refuses (too many logs) is halved until it answers. Raises RpcUnavailable.
    """
    waiting = [(first, last)]
    while waiting:
        start, end = waiting.pop()
        try:
            piece = _read(network, start, end, sorted(assets), sorted(payees))
        except RpcRefused:
            if start == end:
                raise
            middle = (start + end) // 2
            waiting += [(middle + 1, end), (start, middle)]
            continue
        yield piece


def _read(
    network: str, first: int, last: int, assets: Sequence[str], payees: Sequence[str]
) -> Piece:
    """One piece. Both requests end with the last block, so that all of it is of one chain."""
    questions = [
        _logs(first, last, assets, [_hex(TRANSFER), None, [_topic(one) for one in some]])
        for some in _chunks(payees, _PAYEES_PER_QUERY)
    ]
    *answers, end = ask(network, [*questions, _block(hex(last))])
    block = _as_block(network, end)
    if block is None:
        raise ChainMoved(f"The RPC endpoint of {network} does not have block {last} yet.")
    piece = Piece(first, block)
    try:
        transfers = [_as_log(log) for answer in answers for log in answer if not _removed(log)]
        if not transfers:
            return piece
        numbers = [log["blockNumber"] for log in transfers]
        used = _logs(min(numbers), max(numbers), [*assets, *_PROXIES], [_MOVERS])
        logs, end = ask(network, [used, _block(hex(last))])
        if _as_block(network, end) != block:
            raise ChainMoved(f"The chain {network} was reorganised while it was read.")
        homes = {_home(log) for log in transfers}
        movers = [_as_log(log) for log in logs if not _removed(log)]
        closed = {log["transactionHash"] for log in movers if is_proxy_event(log, log["topics"])}
        _pair(piece, [*transfers, *(log for log in movers if _home(log) in homes)], closed)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RpcUnavailable(f"The RPC endpoint of {network} sent malformed logs.") from error
    return piece


def _pair(piece: Piece, logs: list[dict[str, Any]], closed: Collection[str]) -> None:
    """Fill ``piece``: a token's logs of one transaction belong together.

    In transactions of ``closed`` a proxy has moved something.
    """
    logs.sort(key=_home)
    for (number, block_hash, _, _), together in groupby(logs, key=_home):
        if not piece.first <= number <= piece.last.number:
            raise ValueError("a log outside of the range that was asked for")
        if number == piece.last.number and block_hash != piece.last.hash:
            raise ChainMoved("The chain was reorganised while it was read.")
        group = list(together)
        used = [log["topics"] for log in group if log["topics"][:1] == [AUTHORIZATION_USED]]
        authorizers = {topics[1] for topics in used if len(topics) > 1}
        for log in group:
            transfer = _as_transfer(log, log["topics"])
            if transfer is not None and log["topics"][1] not in authorizers:
                home = log["transactionHash"]
                (piece.permitted if home in closed else piece.plain).setdefault(home, []).append(
                    transfer
                )
        for authorization, moved, found in authorized_transfers(group):
            transfer = _as_transfer(found, moved)
            if transfer is None or len(authorization) != 3 or authorization[1] != moved[1]:
                continue
            key = (transfer.asset, transfer.payer, _hex(authorization[2]))
            piece.authorized.setdefault(key, []).append(transfer)


def _as_transfer(log: Mapping[str, Any], topics: list[bytes]) -> Transfer | None:
    """None for what is no ``Transfer`` of EIP-20, or of no address."""
    if len(topics) != 3 or topics[0] != TRANSFER or len(log["data"]) != 32:
        return None
    return Transfer(
        asset=to_checksum_address(log["address"]),
        payer=to_checksum_address(_hex(topics[1][12:])),
        to=to_checksum_address(_hex(topics[2][12:])),
        amount=int.from_bytes(log["data"], "big"),
        place=Settlement(
            log["transactionHash"], log["blockNumber"], log["blockHash"], log["logIndex"]
        ),
    )


def _as_log(raw: dict[str, Any]) -> dict[str, Any]:
    """A log in the shape that ``evidence`` reads. Raises for a malformed one."""
    return {
        "address": raw["address"].lower(),
        "topics": [_bytes(topic) for topic in raw["topics"]],
        "data": _bytes(raw["data"]),
        "blockNumber": int(raw["blockNumber"], 16),
        "blockHash": _hex(_bytes(raw["blockHash"])),
        "transactionHash": _hex(_bytes(raw["transactionHash"])),
        "logIndex": int(raw["logIndex"], 16),
    }


def _removed(raw: dict[str, Any]) -> bool:
    return bool(raw.get("removed"))


def _home(log: dict[str, Any]) -> tuple[int, str, str, str]:
    return (log["blockNumber"], log["blockHash"], log["transactionHash"], log["address"])


def _as_block(network: str, raw: Any) -> Block | None:
    if raw is None:
        return None
    try:
        number, timestamp = int(raw["number"], 16), int(raw["timestamp"], 16)
        return Block(number, _hex(_bytes(raw["hash"])), timestamp)
    except (KeyError, TypeError, ValueError) as error:
        raise RpcUnavailable(f"The RPC endpoint of {network} sent a malformed block.") from error


def _block(which: str) -> Question:
    return ("eth_getBlockByNumber", [which, False])


def _logs(first: int, last: int, assets: Sequence[str], topics: list[Any]) -> Question:
    where = {"fromBlock": hex(first), "toBlock": hex(last)}
    return ("eth_getLogs", [{**where, "address": list(assets), "topics": topics}])


def _chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _topic(address: str) -> str:
    return "0x" + address[2:].lower().rjust(64, "0")


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _bytes(value: str) -> bytes:
    return bytes.fromhex(value[2:])
