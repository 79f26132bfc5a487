"""The chain that the shop is paid on: the embedded one, or a real development node, Anvil."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from chaos.processes import ROOT

CHAIN_ID: Final = 1337
NETWORK: Final = f"eip155:{CHAIN_ID}"
#: Blocks mined before the shop opens: what is in them no reorganisation reaches.
_FOUNDATION: Final = 8


class Node(Protocol):
    """What a run needs of a node beside what every node has."""

    @property
    def name(self) -> str: ...

    @property
    def url(self) -> str: ...

    def give(self, addresses: Iterable[str], amount: int) -> None:
        """Test dollars for each, for good."""

    def reorganise(self, depth: int, *, keep: bool) -> None:
        """Replace the newest ``depth`` blocks; their transactions are kept, or lost."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """``manage.py x402_devchain``."""

    url: str
    name: str = "embedded"

    def give(self, addresses: Iterable[str], amount: int) -> None:
        for address in addresses:
            ask(self.url, "dev_mint", address, hex(amount))
        ask(self.url, "anvil_mine", hex(_FOUNDATION))

    def reorganise(self, depth: int, *, keep: bool) -> None:
        ask(self.url, "dev_reorg", hex(depth), keep)


@dataclass(frozen=True, slots=True)
class Anvil:
    """Foundry's node."""

    url: str
    name: str = "anvil"

    def give(self, addresses: Iterable[str], amount: int) -> None:
        from eth_account import Account
        from web3 import HTTPProvider, Web3

        from x402_django.chain.devchain.accounts import dev_accounts
        from x402_django.testing.chain import send_transaction, token_contract

        w3 = Web3(HTTPProvider(self.url))
        token = token_contract(w3)
        rich = Account.from_key(dev_accounts()[3].private_key)
        for address in addresses:
            data = token.encode_abi("mint", [address, amount])
            send_transaction(w3, rich, {"to": token.address, "data": data})
        ask(self.url, "anvil_mine", hex(_FOUNDATION))

    def reorganise(self, depth: int, *, keep: bool) -> None:
        kept = []
        if keep:
            newest = int(ask(self.url, "eth_blockNumber"), 16)
            for number in range(newest - depth + 1, newest + 1):
                block = ask(self.url, "eth_getBlockByNumber", hex(number), False)
                for transaction in block["transactions"]:
                    kept.append([ask(self.url, "eth_getRawTransactionByHash", transaction), 0])
        ask(self.url, "anvil_reorg", depth, kept)


def anvil_is_here() -> bool:
    """Whether there is an Anvil that need not be installed first."""
    return bool(os.environ.get("ANVIL") or shutil.which("anvil"))


@contextmanager
def running_embedded(log: Path, block_time: float) -> Iterator[Node]:
    """The embedded chain in a process of its own; ``block_time`` 0 mines at once."""
    command = [sys.executable, "manage.py", "x402_devchain", "--json", "--port", "0"]
    command += ["--block-time", str(block_time), "--heartbeat", "1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield Embedded(_announced(process, log))
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


@contextmanager
def running_anvil(block_time: float) -> Iterator[Node]:
    """Anvil with the embedded chain's contracts, a block every second at least."""
    from web3 import HTTPProvider, Web3

    from benchmarks import anvil
    from x402_django.testing.chain import install_contracts

    with anvil.running_anvil(CHAIN_ID) as url:
        install_contracts(Web3(HTTPProvider(url)))
        ask(url, "evm_setIntervalMining", max(round(block_time), 1))
        yield Anvil(url)


def ask(url: str, method: str, *params: Any) -> Any:
    """A JSON-RPC request. Raises RuntimeError if the node refuses."""
    question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    answer = httpx.post(url, json=question, timeout=30).json()
    if "error" in answer:
        raise RuntimeError(f"{method}: {answer['error']}")
    return answer.get("result")


def _announced(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where it listens, once it does."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        lines = log.read_text().splitlines()
        if lines and lines[-1].startswith("ready:"):
            return str(json.loads(lines[0])["rpc_url"])
        time.sleep(0.1)
    raise RuntimeError(f"The chain did not start: {log.read_text()[-1000:]}")
