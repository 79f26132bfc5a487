"""Money for nothing: the chain's own transactions that mint and fund."""

from __future__ import annotations

from eth_account import Account
from eth_utils.crypto import keccak

from .deployment import FAUCET_KEY, TOKEN_ADDRESS

PRIORITY_FEE = 10**9
"""Wei per gas suggested, and paid, as a tip."""

FAUCET_GAS = 200_000

_FAUCET = Account.from_key(FAUCET_KEY)


def faucet_address() -> bytes:
    """Who signs these transactions, 20 bytes."""
    return bytes.fromhex(_FAUCET.address[2:])


def mint_transaction(
    address: str, amount: int, *, chain_id: int, nonce: int, base_fee: int
) -> bytes:
    """Raw transaction that creates ``amount`` atomic units of test dollars for ``address``."""
    data = _selector("mint(address,uint256)") + _word(address) + amount.to_bytes(32, "big")
    return _sign(TOKEN_ADDRESS, 0, data, chain_id, nonce, base_fee)


def fund_transaction(address: str, wei: int, *, chain_id: int, nonce: int, base_fee: int) -> bytes:
    """Raw transaction that sends ``wei`` to ``address``."""
    return _sign(address, wei, b"", chain_id, nonce, base_fee)


def balance_calldata(address: str) -> bytes:
    """Call data that asks the token what ``address`` holds."""
    return _selector("balanceOf(address)") + _word(address)


def _sign(to: str, value: int, data: bytes, chain_id: int, nonce: int, base_fee: int) -> bytes:
    signed = _FAUCET.sign_transaction(
        {
            "chainId": chain_id,
            "nonce": nonce,
            "to": to,
            "value": value,
            "data": data,
            "gas": FAUCET_GAS,
            "maxFeePerGas": 2 * base_fee + PRIORITY_FEE,
            "maxPriorityFeePerGas": PRIORITY_FEE,
        }
    )
    return bytes(signed.raw_transaction)


def _selector(signature: str) -> bytes:
    return keccak(text=signature)[:4]


def _word(address: str) -> bytes:
    return bytes.fromhex(address.removeprefix("0x")).rjust(32, b"\0")
