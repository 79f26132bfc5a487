"""The development chain's prefunded accounts.

Their keys are derived from the mnemonic that Hardhat and Anvil also use, which is known to the
whole world: bots empty these addresses on every public network within seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

MNEMONIC = "test test test test test test test test test test test junk"
DERIVATION_PATH = "m/44'/60'/0'/0"
ACCOUNT_COUNT = 10

DEPLOYER_INDEX = 9
"""The account whose first transactions deploy the contracts, here (in genesis) and elsewhere."""


@dataclass(frozen=True, slots=True)
class DevAccount:
    """A prefunded account with its public test key (0x-hex)."""

    index: int
    address: str
    private_key: str


@cache
def dev_accounts() -> tuple[DevAccount, ...]:
    """The ten accounts, in derivation order; addresses are EIP-55 checksummed."""
    from eth_account import Account
    from eth_account.hdaccount.deterministic import HDPath
    from eth_account.hdaccount.mnemonic import Mnemonic

    seed = Mnemonic.to_seed(MNEMONIC)
    keys = [HDPath(f"{DERIVATION_PATH}/{index}").derive(seed) for index in range(ACCOUNT_COUNT)]
    return tuple(
        DevAccount(index, Account.from_key(key).address, f"0x{bytes(key).hex()}")
        for index, key in enumerate(keys)
    )
