"""Where the contracts are on a development chain.

The addresses are those that the deployer account's first transactions create, so the same
contracts have the same addresses on any fresh node with the usual test mnemonic (Anvil, Hardhat)
once ``x402_django.testing.chain.install_contracts`` has run there. Multicall3, Permit2 and the
x402 proxies are where they are on every public network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from x402_django.constants import (
    COLLECTOR_ADDRESS,
    ESCROW_ADDRESS,
    EXACT_PROXY_ADDRESS,
    PERMIT2_ADDRESS,
    UPTO_PROXY_ADDRESS,
)

from .accounts import DEPLOYER_INDEX, dev_accounts
from .artifacts import load_artifact

if TYPE_CHECKING:
    from eth_typing import Address

DEFAULT_CHAIN_ID = 1337

TOKEN_ADDRESS = "0x700b6A60ce7EaaEA56F065753d8dcB9653dbAD35"  # noqa: S105
TOKEN_NAME = "Test Dollar"  # noqa: S105
TOKEN_VERSION = "1"  # noqa: S105
TOKEN_SYMBOL = "TUSD"  # noqa: S105
TOKEN_DECIMALS = 6

FACTORY_ADDRESS = "0xA15BB66138824a1c7167f5E85b957d04Dd34E468"
PLAIN_TOKEN_ADDRESS = "0xb19b36b1456E65E3A6D514D3F715f204BD59f431"  # noqa: S105
PLAIN_TOKEN_NAME = "Plain Dollar"  # noqa: S105
PLAIN_TOKEN_SYMBOL = "PUSD"  # noqa: S105

MULTICALL3_ADDRESS = "0xcA11bde05977b3631167028862bE2a173976CA11"

CREATED = {
    TOKEN_ADDRESS: "TestDollar",
    FACTORY_ADDRESS: "SmartWalletFactory",
    PLAIN_TOKEN_ADDRESS: "PlainDollar",
}
"""Address to artifact name, in the order of the deployer's transactions."""

CANONICAL = {
    MULTICALL3_ADDRESS: "Multicall3",
    PERMIT2_ADDRESS: "Permit2",
    EXACT_PROXY_ADDRESS: "X402ExactPermit2Proxy",
    UPTO_PROXY_ADDRESS: "X402UptoPermit2Proxy",
    ESCROW_ADDRESS: "X402BatchSettlement",
    COLLECTOR_ADDRESS: "X402Erc3009Collector",
}
"""The same for those that have one address on all networks."""

DEPLOYED = {**CREATED, **CANONICAL}
"""None of them has a constructor: their runtime code is the whole."""

FAUCET_KEY = bytes.fromhex("786f0402" * 8)
"""Signs the chain's own mint and fund transactions; nobody else should use it."""

GENESIS_BALANCE = 10_000 * 10**18
FAUCET_BALANCE = 2**128
CONTRACT_NONCE = 1  # EIP-161


def genesis_accounts() -> Mapping[Address, dict[str, Any]]:
    """The state of block 0, as py-evm wants it: canonical address to account."""
    from eth_account import Account

    state: dict[Address, dict[str, Any]] = {}
    for account in dev_accounts():
        nonce = len(CREATED) if account.index == DEPLOYER_INDEX else 0
        state[_canonical(account.address)] = _account(balance=GENESIS_BALANCE, nonce=nonce)
    faucet = Account.from_key(FAUCET_KEY)
    state[_canonical(faucet.address)] = _account(balance=FAUCET_BALANCE)
    for address, name in DEPLOYED.items():
        code = bytes.fromhex(load_artifact(name).deployed_bytecode[2:])
        state[_canonical(address)] = _account(nonce=CONTRACT_NONCE, code=code)
    return state


def _canonical(address: str) -> Address:
    from eth_typing import Address

    return Address(bytes.fromhex(address[2:]))


def _account(*, balance: int = 0, nonce: int = 0, code: bytes = b"") -> dict[str, Any]:
    return {"balance": balance, "nonce": nonce, "code": code, "storage": {}}
