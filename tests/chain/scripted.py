"""A node whose blocks and logs a test writes by hand, and that counts what it is asked.

One instance is the network's node at a time (``ScriptedNode.current``); settings name
``tests.chain.scripted.provider``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

from web3.providers.base import JSONBaseProvider

from x402_django.chain.methods import AUTHORIZATION_USED, PROXY_EVENTS, TRANSFER
from x402_django.protocol.transfer_methods import PROXIES


def word(address: str) -> str:
    return "0x" + address[2:].lower().rjust(64, "0")


@dataclass
class ScriptedNode:
    """``requests`` counts what went over the wire, ``calls`` the questions in it by method."""

    current: ClassVar[ScriptedNode]

    head: int = 100
    fork: str = ""
    fork_from: int = 0
    logs: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    tags: dict[str, int | None] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    #: Hashes of transactions that it knows and has not mined.
    pending: set[str] = field(default_factory=set)
    #: Most logs in one answer; more are refused.
    most_logs: int = 10**9
    batches: bool = True
    requests: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    ranges: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        ScriptedNode.current = self

    def forget_counts(self) -> None:
        self.requests = 0
        self.calls.clear()
        self.ranges.clear()

    def hash_of(self, number: int) -> str:
        """Another one above ``fork_from`` as soon as ``fork`` changes."""
        fork = self.fork if number > self.fork_from else ""
        return "0x" + hashlib.sha256(f"{fork}{number}".encode()).hexdigest()

    def pay(self, number: int, transaction: str, token: str, *paid: tuple[str, str, str, int]):
        """A transaction that settles ``(payer, nonce, payee, amount)`` in that block."""
        logs = self.logs.setdefault(number, [])
        for payer, nonce, payee, amount in paid:
            self.used.add(nonce)
            common = {"address": token, "transactionHash": transaction, "removed": False}
            topics = ["0x" + AUTHORIZATION_USED.hex(), word(payer), nonce]
            logs.append({**common, "topics": topics, "data": "0x", "logIndex": hex(len(logs))})
            topics = ["0x" + TRANSFER.hex(), word(payer), word(payee)]
            data = "0x" + amount.to_bytes(32, "big").hex()
            logs.append({**common, "topics": topics, "data": data, "logIndex": hex(len(logs))})

    def transfer(self, number: int, transaction: str, token: str, *paid: tuple[str, str, int]):
        """A transaction that transfers ``(sender, payee, amount)``, in that block."""
        logs = self.logs.setdefault(number, [])
        common = {"address": token, "transactionHash": transaction, "removed": False}
        for sender, payee, amount in paid:
            topics = ["0x" + TRANSFER.hex(), word(sender), word(payee)]
            data = "0x" + amount.to_bytes(32, "big").hex()
            logs.append({**common, "topics": topics, "data": data, "logIndex": hex(len(logs))})

    def close(self, number: int, transaction: str, scheme: str = "exact") -> None:
        """The event with which a Permit2 proxy closes its settlement, after what it has moved."""
        logs = self.logs.setdefault(number, [])
        event = {"address": PROXIES[scheme].lower(), "topics": ["0x" + min(PROXY_EVENTS).hex()]}
        common = {"transactionHash": transaction, "removed": False, "data": "0x"}
        logs.append({**common, **event, "logIndex": hex(len(logs))})

    # ------------------------------------------------------------------ answers

    def answer(self, method: str, params: list[Any]) -> Any:
        self.calls[method] += 1
        return getattr(self, method)(*params)

    def eth_chainId(self) -> str:
        return hex(1337)

    def eth_blockNumber(self) -> str:
        return hex(self.head)

    def eth_getBlockByNumber(self, which: str, full: bool) -> Any:
        tagged = {"latest": self.head, **self.tags}
        number = tagged[which] if which in tagged else int(which, 16)
        if number is None or number > self.head:
            return None
        return {"number": hex(number), "hash": self.hash_of(number), "timestamp": hex(number)}

    def eth_getBlockByHash(self, wanted: str, full: bool) -> Any:
        found = (n for n in range(self.head + 1) if self.hash_of(n) == wanted)
        number = next(found, None)
        return None if number is None else self.eth_getBlockByNumber(hex(number), full)

    def eth_getLogs(self, wanted: dict[str, Any]) -> Any:
        first, last = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
        self.ranges.append((first, last))
        tokens = {address.lower() for address in wanted["address"]}
        found = [
            {**log, "blockNumber": hex(number), "blockHash": self.hash_of(number)}
            for number in range(first, min(last, self.head) + 1)
            for log in self.logs.get(number, [])
            if log["address"] in tokens and _matches(log["topics"], wanted["topics"])
        ]
        if len(found) > self.most_logs:
            return RuntimeError("query returned more than 10000 results")
        return found

    def eth_call(self, call: dict[str, Any], block: Any) -> str:
        """``authorizationState`` alone."""
        return "0x" + int("0x" + call["data"][-64:] in self.used).to_bytes(32, "big").hex()

    def eth_getTransactionByHash(self, transaction: str) -> Any:
        """Whether and where it is; no more."""
        receipt = self.eth_getTransactionReceipt(transaction)
        if receipt is None and transaction not in self.pending:
            return None
        return {"hash": transaction, "blockNumber": receipt and receipt["blockNumber"]}

    def eth_getTransactionReceipt(self, transaction: str) -> Any:
        for number, logs in self.logs.items():
            mine = [log for log in logs if log["transactionHash"] == transaction]
            if mine and number <= self.head:
                where = {"blockNumber": hex(number), "blockHash": self.hash_of(number)}
                return {
                    **where,
                    "status": "0x1",
                    "gasUsed": hex(50_000),
                    "transactionHash": transaction,
                    "logs": [{**log, **where} for log in mine],
                }
        return None


def _matches(topics: list[str], wanted: list[Any]) -> bool:
    return all(
        want is None or topic == want or (isinstance(want, list) and topic in want)
        for topic, want in zip(topics, wanted, strict=False)
    )


class ScriptedProvider(JSONBaseProvider):
    """To the current node."""

    def make_request(self, method: Any, params: Any) -> Any:
        ScriptedNode.current.requests += 1
        return self._answer(1, method, params)

    def make_batch_request(self, requests: Any) -> Any:
        node = ScriptedNode.current
        node.requests += 1
        if not node.batches:
            return {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no"}}
        answers = [self._answer(i, method, params) for i, (method, params) in enumerate(requests)]
        return answers[::-1]  # as the specification allows

    def _answer(self, number: int, method: str, params: Any) -> Any:
        result = ScriptedNode.current.answer(method, params)
        if isinstance(result, Exception):
            error = {"code": -32005, "message": str(result)}
            return {"jsonrpc": "2.0", "id": number, "error": error}
        return {"jsonrpc": "2.0", "id": number, "result": result}


def provider(network: str) -> ScriptedProvider:
    return ScriptedProvider()
