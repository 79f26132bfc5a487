"""Whose key may send back what an address was paid: ``X402["REFUND_WALLETS"]``.

A wallet gives back what its own address was paid, or what the addresses were that its entry names
under ``PAYEES``. So one merchant's refunds are never paid with another's money.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.core.signals import setting_changed

from x402_django.conf import x402
from x402_django.protocol.assets import to_checksum_address

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from x402_django.chain.upkeep import Keeper


@lru_cache(maxsize=1)
def _accounts() -> Mapping[str, LocalAccount]:
    """The accounts, by the address whose refunds they send. Raises ConfigurationError."""
    from x402_django.chain.wallets import settlement_account

    found: dict[str, LocalAccount] = {}
    for entry in x402.refund_wallets:
        account = settlement_account(entry)
        for payee in payees_of(entry) or [str(account.address)]:
            found[payee] = account
    return found


def payees_of(entry: Mapping[str, Any]) -> Sequence[str]:
    """The addresses that an entry names, checksummed; empty: its own."""
    return [to_checksum_address(str(payee)) for payee in entry.get("PAYEES", ())]


def account_for(payee: str) -> LocalAccount | None:
    """The account that sends back what ``payee`` was paid; None: it is sent by hand.

    Raises ConfigurationError where a key cannot be read.
    """
    return _accounts().get(payee) if x402.refund_wallets else None


def keepers() -> list[Keeper]:
    """The wallets, to be looked after with those that settle. Raises ConfigurationError."""
    if not x402.refund_wallets:
        return []
    from x402_django.chain.upkeep import Keeper

    return [Keeper(account) for account in {a.address: a for a in _accounts().values()}.values()]


def _reset(*, setting: str, **kwargs: object) -> None:
    if setting == "X402":
        _accounts.cache_clear()


setting_changed.connect(_reset, dispatch_uid="x402_django.refunds.reset")
