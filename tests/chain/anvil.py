"""A real development node for tests marked ``anvil``.

Needs Anvil on the PATH, or its path in the environment variable ``ANVIL``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from web3 import HTTPProvider, Web3

from tests.conftest import missing_service
from x402_django.chain.devchain.accounts import dev_accounts
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS
from x402_django.testing.chain import DOLLAR, install_contracts, send_transaction, token_contract

#: Pays the gas of whatever the tests do on the chain themselves.
RICH = Account.from_key(dev_accounts()[4].private_key)
#: Where TestDollar keeps ``balanceOf``: its second storage slot.
_BALANCES = 1


@contextmanager
def running_anvil() -> Iterator[str]:
    """The URL of a fresh Anvil of chain 1337 while the block runs."""
    path = os.environ.get("ANVIL") or shutil.which("anvil")
    if path is None:
        missing_service("Anvil", "npm i @foundry-rs/anvil")
    process = subprocess.Popen(
        [str(path), "--port", "0", "--chain-id", "1337"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        listening = (re.match(r"Listening on (\S+)", line) for line in process.stdout)
        yield "http://" + next(match[1] for match in listening if match)
    finally:
        process.kill()
        process.communicate()


class Anvil:
    """A node with the devchain's contracts, and what tests do there. Amounts are atomic units."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.w3 = Web3(HTTPProvider(url))
        install_contracts(self.w3)

    def ask(self, method: str, *params: Any) -> Any:
        answer: Any = self.w3.provider.make_request(method, list(params))  # type: ignore[arg-type]
        assert "error" not in answer, answer
        return answer["result"]

    def send(self, to: str, data: str = "0x", *, by: LocalAccount = RICH, **fields: Any) -> Any:
        """A transaction of anybody's; its receipt."""
        return send_transaction(self.w3, by, {"to": to, "data": data, "value": 0, **fields})

    def call_token(self, function: str, *arguments: Any, by: LocalAccount = RICH) -> Any:
        token = token_contract(self.w3)
        return self.send(TOKEN_ADDRESS, token.encode_abi(function, list(arguments)), by=by)

    def mint(self, address: str, amount: int = DOLLAR) -> None:
        self.call_token("mint", address, amount)

    def dollars(self, address: str) -> int:
        return int(token_contract(self.w3).functions.balanceOf(address).call())

    def count(self, address: str, block: str = "latest") -> int:
        """How many transactions of ``address`` there are."""
        return int(self.ask("eth_getTransactionCount", address, block), 16)

    def take_money(self, address: str) -> None:
        """Leave ``address`` without a test dollar, whosever it is."""
        slot = keccak(bytes(12) + bytes.fromhex(address[2:]) + _BALANCES.to_bytes(32, "big"))
        self.ask("anvil_setStorageAt", TOKEN_ADDRESS, "0x" + slot.hex(), "0x" + "00" * 32)
        assert self.dollars(address) == 0

    def has_code(self, address: str) -> bool:
        return len(self.w3.eth.get_code(address)) > 0  # type: ignore[arg-type]

    def mine(self, blocks: int = 1) -> None:
        self.ask("anvil_mine", blocks)

    def set_automine(self, on: bool) -> None:
        self.ask("evm_setAutomine", on)

    def delegate(self, account: LocalAccount, code: str, **fields: Any) -> Any:
        """Have ``account`` delegate to the code at ``code`` (EIP-7702); to none at address zero.

        ``RICH`` sends the transaction, so the account needs no gas money.
        """
        authorization = account.sign_authorization(
            {"chainId": 1337, "address": code, "nonce": self.count(account.address)}
        )
        more = {"authorizationList": [authorization], "gas": 100_000, **fields}
        return self.send(account.address, **more)

    def reorganise(self, depth: int, transactions: list[tuple[str, int]]) -> None:
        """Replace the newest blocks; ``transactions`` are raw ones with the block each goes to."""
        self.ask("anvil_reorg", depth, [list(one) for one in transactions])

    def raw(self, transaction: str) -> str:
        return str(self.ask("eth_getRawTransactionByHash", transaction))


NOBODY = "0x" + "00" * 20
