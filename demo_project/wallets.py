"""Who has what: the balances of the run, and the purse of the agent. Needs Django set up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demo_project.errors import DemoError

if TYPE_CHECKING:
    from x402_django.protocol.assets import KnownAsset

#: Cents the agent must have: a little more than everything costs.
BUDGET_CENTS = 20
#: Dollars it gets where they can be had for nothing.
POCKET_MONEY = 10


@dataclass(frozen=True, slots=True)
class Purse:
    """The agent's key and address, and where the key is from."""

    key: str
    address: str
    origin: str


def balance(asset: KnownAsset, address: str) -> int:
    """What ``address`` holds of ``asset``, in atomic units."""
    from x402_django.chain.rpc import get_web3, rpc_errors

    call = {
        "to": asset.address,
        "data": "0x70a08231" + address[2:].lower().zfill(64),  # balanceOf(address)
    }
    with rpc_errors(asset.network):
        answer = get_web3(asset.network).eth.call(call)  # type: ignore[arg-type]
    return int.from_bytes(answer, "big")


def gas_money(network: str, address: str) -> int:
    """What ``address`` holds of the network's own coin, in wei."""
    from x402_django.chain.rpc import checksum, get_web3, rpc_errors

    with rpc_errors(network):
        return get_web3(network).eth.get_balance(checksum(address))


def check_settler(asset: KnownAsset) -> None:
    """Raise DemoError if the wallet that is to settle has nothing to pay gas with."""
    if os.getenv("X402_FACILITATOR_URL"):
        return  # somebody else's wallet settles
    from x402_django.chain.wallets import settlement_account

    address = settlement_account({"KEY_ENV": "X402_SETTLER_KEY"}).address
    if gas_money(asset.network, address) == 0:
        raise DemoError(
            f"The settlement wallet {address} (X402_SETTLER_KEY) has nothing to pay gas with on "
            f"{asset.network}. Send it a little of the network's coin."
        )


def agent_purse(asset: KnownAsset) -> Purse:
    """A key with enough of ``asset`` to go shopping. Raises DemoError if there is none.

    ``X402_AGENT_KEY``; else a new key, where the node gives test dollars away; else the
    settlement wallet's.
    """
    from eth_account import Account

    if key := os.getenv("X402_AGENT_KEY"):
        purse = _purse(key, "X402_AGENT_KEY")
    elif (purse := _purse(Account.create().key.hex(), "a new key")) and _mint(asset, purse):
        return purse
    elif key := os.getenv("X402_SETTLER_KEY"):
        purse = _purse(key, "X402_SETTLER_KEY, as there is no X402_AGENT_KEY")
    else:
        raise DemoError(
            f"X402_AGENT_KEY is not set: the agent needs a key that has some {asset.symbol} on "
            f"{asset.network}."
        )
    needed = BUDGET_CENTS * 10**asset.decimals // 100
    if balance(asset, purse.address) < needed:
        raise DemoError(
            f"The agent {purse.address} ({purse.origin}) has not enough {asset.symbol} "
            f"({asset.address}) on {asset.network}: it needs 0.{BUDGET_CENTS}. It needs no gas."
        )
    if purse.address.lower() == os.environ["X402_PAY_TO"].lower():
        raise DemoError(f"The agent would pay itself: {purse.address} is X402_PAY_TO too.")
    return purse


def _purse(key: str, origin: str) -> Purse:
    from eth_account import Account
    from eth_utils.exceptions import ValidationError

    try:
        account = Account.from_key(key.strip())
    except (ValueError, TypeError, ValidationError):
        # Not chained: the library's message may quote the key.
        raise DemoError(
            f"{origin.partition(',')[0]} does not hold a private key (32 bytes, hex)."
        ) from None
    return Purse("0x" + bytes(account.key).hex(), account.address, origin)


def _mint(asset: KnownAsset, purse: Purse) -> bool:
    """Ask the node for test dollars; False on a network where money is not for nothing."""
    from web3.types import RPCEndpoint

    from x402_django.chain.rpc import get_web3, rpc_errors
    from x402_django.exceptions import RpcUnavailable

    amount = POCKET_MONEY * 10**asset.decimals
    try:
        with rpc_errors(asset.network):
            get_web3(asset.network).provider.make_request(
                RPCEndpoint("dev_mint"), [purse.address, hex(amount)]
            )
    except RpcUnavailable:
        return False  # some nodes answer what they do not know with an HTTP error
    return bool(balance(asset, purse.address) == amount)
