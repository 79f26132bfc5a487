"""Tokens we know by name, and EIP-55 addresses.

Known are the tokens of ``X402["NETWORKS"][…]["ASSETS"]``, first, and the official SDK's default
stablecoins. Those of the SDK that can only be paid with Permit2 are left out: we take EIP-3009
authorizations only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from x402_django import conf, libraries
from x402_django.exceptions import ConfigurationError
from x402_django.protocol import base58, networks

_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")


@dataclass(frozen=True, slots=True)
class KnownAsset:
    """A token. ``name`` and ``version`` are its EIP-712 domain, ``symbol`` is for people."""

    network: str
    address: str
    name: str
    version: str
    decimals: int
    symbol: str


def is_address(value: object) -> bool:
    """Whether ``value`` is a 20-byte 0x-hex address, in any letter case."""
    return isinstance(value, str) and _ADDRESS.fullmatch(value) is not None


@lru_cache(maxsize=4096)
def to_checksum_address(address: str) -> str:
    """The EIP-55 form of a 20-byte 0x-hex address of any letter case.

    Raises ValueError for anything else. A wrong checksum in the input is not an error: on the
    wire addresses are case-insensitive.
    """
    if not is_address(address):
        raise ValueError("Not a 20-byte 0x-hex address.")
    from eth_utils.address import to_checksum_address as checksum

    return str(checksum(address))


def canonical_address(network: str, address: str) -> str | None:
    """``address`` as ``network`` (CAIP-2) writes it; None if it is none there."""
    if networks.is_solana(network):
        return address if base58.is_solana_address(address) else None
    return to_checksum_address(address) if is_address(address) else None


def has_valid_checksum(address: str) -> bool:
    """Whether an address typed by a person is all one case or carries a right EIP-55 checksum."""
    if not is_address(address):
        return False
    digits = address[2:]
    return digits in (digits.lower(), digits.upper()) or to_checksum_address(address) == address


def known_assets(network: str) -> list[KnownAsset]:
    """The tokens known on ``network`` (CAIP-2), the settings' first, then the SDK's."""
    configured = _configured_assets(network)
    seen = {asset.address for asset in configured}
    return configured + [asset for asset in _sdk_assets(network) if asset.address not in seen]


def default_asset(network: str) -> KnownAsset | None:
    """The token a price in dollars is asked in on ``network``; None if none is known."""
    configured = _configured_assets(network)
    if configured:
        return configured[0]
    return next(iter(_sdk_assets(network)), None)


def find_asset(network: str, address_or_symbol: str) -> KnownAsset | None:
    """A known token of ``network`` by its address or its symbol (any case)."""
    address = canonical_address(network, address_or_symbol)
    if address is not None:
        return next((a for a in known_assets(network) if a.address == address), None)
    symbol = address_or_symbol.casefold()
    return next((a for a in known_assets(network) if a.symbol.casefold() == symbol), None)


def _configured_assets(network: str) -> list[KnownAsset]:
    configured = conf.x402.networks.get(network)
    if configured is None:
        return []
    return [
        KnownAsset(
            network=network,
            address=_configured_address(network, asset.address),
            name=asset.name,
            version=asset.version,
            decimals=asset.decimals,
            symbol=asset.symbol,
        )
        for asset in configured.assets
    ]


def _configured_address(network: str, address: str) -> str:
    canonical = canonical_address(network, address)
    if canonical is None:
        raise ConfigurationError(
            f"X402['NETWORKS'][{network!r}]['ASSETS']: {address!r} is not a token address. "
            "Write 0x and 40 hex digits, or base58 on Solana."
        )
    return canonical


@lru_cache(maxsize=256)
def _sdk_assets(network: str) -> tuple[KnownAsset, ...]:
    if networks.is_solana(network):
        return _sdk_solana_assets(network)
    libraries.load()
    from x402.mechanisms.evm.default_assets import DEFAULT_ASSETS

    return tuple(
        KnownAsset(
            network=network,
            address=to_checksum_address(entry["asset"]),
            name=entry["name"],
            version=entry["version"],
            decimals=entry["decimals"],
            symbol=entry["symbol"],
        )
        for entry in DEFAULT_ASSETS.get(network, ())
        if entry.get("asset_transfer_method", "eip3009") == "eip3009"
    )


def _sdk_solana_assets(network: str) -> tuple[KnownAsset, ...]:
    if not base58.is_solana_available():
        return ()  # what cannot be decoded is not offered
    libraries.load_solana()
    from x402.mechanisms.svm.default_assets import DEFAULT_ASSETS

    return tuple(
        KnownAsset(
            network=network,
            address=entry["asset"],
            name="",
            version="",
            decimals=entry["decimals"],
            symbol=entry["symbol"],
        )
        for entry in DEFAULT_ASSETS.get(network, ())
    )
