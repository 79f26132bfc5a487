"""The chain that the shop is paid on, and what may happen to it: Anvil."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx

CHAIN_ID: Final = 1337
NETWORK: Final = f"eip155:{CHAIN_ID}"
#: Blocks mined before the shop opens: what is in them no reorganisation reaches.
_FOUNDATION: Final = 8
#: Wei per gas that a front-runner pays on top of what it copies.
_TIP: Final = 10**9
_GAS: Final = 6_000_000


@dataclass(frozen=True, slots=True)
class Node:
    """Anvil, spoken to directly. ``block_time`` in seconds.

    ``rich`` mints test dollars and ``rival`` sends other people's transactions; the node holds
    the keys of both, and of the shop's ``wallets``.
    """

    url: str
    block_time: int
    rich: str
    rival: str
    wallets: tuple[str, ...]

    def mint(self, addresses: Iterable[str], amount: int) -> None:
        """Ask for test dollars for each. A reorganisation may take them away again."""
        from web3 import Web3

        from x402_django.testing.chain import token_contract

        token = token_contract(Web3())
        for address in addresses:
            data = token.encode_abi("mint", [address, amount])
            call = {"from": self.rich, "to": token.address, "data": data, "gas": hex(200_000)}
            ask(self.url, "eth_sendTransaction", call)

    def found(self) -> None:
        """Put what was asked for until now into blocks that stay."""
        ask(self.url, "anvil_mine", hex(_FOUNDATION))

    def reorganise(self, depth: int, *, keep: bool) -> None:
        """Replace the newest ``depth`` blocks; their transactions are kept, or lost.

        Raises RuntimeError, and nothing has changed, if another block comes in between.
        """
        kept = []
        if keep:
            newest = int(ask(self.url, "eth_blockNumber"), 16)
            for number in range(newest - depth + 1, newest + 1):
                block = ask(self.url, "eth_getBlockByNumber", hex(number), False)
                for transaction in block["transactions"]:
                    kept.append([ask(self.url, "eth_getRawTransactionByHash", transaction), 0])
        ask(self.url, "anvil_reorg", depth, kept)
        self._set_clock()

    def stall(self) -> None:
        """No more blocks, until ``go_on``."""
        ask(self.url, "evm_setIntervalMining", 0)

    def go_on(self) -> None:
        """Blocks again."""
        ask(self.url, "evm_setIntervalMining", self.block_time)

    def _set_clock(self) -> None:
        """Anvil's clock is slow by each block that it has replaced; a real chain's is not."""
        newest = int(ask(self.url, "eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        ask(self.url, "evm_setNextBlockTimestamp", hex(max(newest, int(time.time())) + 1))

    def raise_base_fee(self, factor: int) -> None:
        """The next block costs so many times as much; the ones after it an eighth less each."""
        block = ask(self.url, "eth_getBlockByNumber", "latest", False)
        fee = int(block["baseFeePerGas"], 16) * factor
        ask(self.url, "anvil_setNextBlockBaseFeePerGas", hex(fee))

    def forget(self) -> int:
        """Lose all transactions that are not mined, as a node that is restarted; how many."""
        lost = len(self._pending())
        ask(self.url, "anvil_dropAllTransactions")
        return lost

    def front_run(self) -> int:
        """Copy the shop's transactions and pay more for being first; how many were copied."""
        pending = [one for one in self._pending() if one["from"].lower() in self.wallets]
        for one in pending:
            tip = int(one.get("maxPriorityFeePerGas") or "0x0", 16) + _TIP
            copy = {
                "from": self.rival,
                "to": one["to"],
                "data": one["input"],
                "gas": hex(_GAS),
                "maxFeePerGas": hex(int(one["maxFeePerGas"], 16) * 2 + tip),
                "maxPriorityFeePerGas": hex(tip),
            }
            ask(self.url, "eth_sendTransaction", copy)
        return len(pending)

    def use_key(self, which: int) -> None:
        """Send something from a wallet of the shop, past its outbox: the nonce is taken."""
        wallet = self.wallets[which % len(self.wallets)]
        call = {"from": wallet, "to": self.rival, "value": "0x1", "gas": hex(21_000)}
        ask(self.url, "eth_sendTransaction", call)

    def _pending(self) -> list[dict[str, Any]]:
        pool = ask(self.url, "txpool_content")["pending"]
        return [one for by_nonce in pool.values() for one in by_nonce.values()]


@contextmanager
def running_anvil(block_time: float) -> Iterator[Node]:
    """Anvil with the embedded chain's contracts, a block every second at least.

    Raises ``benchmarks.anvil.NoAnvil``.
    """
    from web3 import HTTPProvider, Web3

    from benchmarks import anvil
    from x402_django.chain.devchain.accounts import dev_accounts
    from x402_django.testing.chain import install_contracts

    accounts = dev_accounts()
    with anvil.running_anvil(CHAIN_ID) as url:
        install_contracts(Web3(HTTPProvider(url)))
        node = Node(
            url,
            max(round(block_time), 1),
            rich=accounts[3].address,
            rival=accounts[4].address,
            wallets=tuple(one.address.lower() for one in accounts[:2]),
        )
        node.go_on()
        yield node


def ask(url: str, method: str, *params: Any) -> Any:
    """A JSON-RPC request. Raises RuntimeError if the node refuses."""
    question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    answer = httpx.post(url, json=question, timeout=30).json()
    if "error" in answer:
        raise RuntimeError(f"{method}: {answer['error']}")
    return answer.get("result")
