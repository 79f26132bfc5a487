"""What the entries of the setting ``X402`` mean, typed: networks, facilitators and the like.

``conf`` reads them; nobody else makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from x402_django.exceptions import ConfigurationError
from x402_django.finality import ConfirmationTier, parse_confirmations

NETWORK_DEFAULTS: Final[dict[str, Any]] = {
    "RPC_URLS": (),
    "WALLET_RPC_URLS": (),
    "PROVIDER": None,
    "RPC_TIMEOUT": 10.0,
    "RPC_CHECK_INTERVAL": 15.0,
    "RPC_MAX_LAG": 30.0,
    "CONFIRMATIONS": 1,
    "ASSETS": (),
    "EXPLORER_URL": "",
    "NAME": "",
    "V1_NAME": "",
    "PAY_TO": None,
    "FACILITATOR": "default",
    "LOG_RANGE": 2000,
    "POLL_INTERVAL": 0.5,
    "MAX_FEE_GWEI": None,
    "BUMP_AFTER": 60.0,
}

ASSET_KEYS: Final = frozenset({"ADDRESS", "NAME", "VERSION", "DECIMALS", "SYMBOL"})


@dataclass(frozen=True, slots=True)
class AssetSettings:
    """A token of ``NETWORKS[…]["ASSETS"]``; ``name``/``version`` are its EIP-712 domain."""

    address: str
    name: str
    version: str
    decimals: int
    symbol: str


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """One entry of ``NETWORKS``. Times are seconds, ``log_range`` is blocks per ``eth_getLogs``."""

    network: str
    rpc_urls: tuple[str, ...]
    #: What the paywall tells a visitor's wallet that does not know the network; public.
    wallet_rpc_urls: tuple[str, ...]
    provider: str | None
    rpc_timeout: float
    #: Seconds between looks after several endpoints; 0 is never.
    rpc_check_interval: float
    #: Seconds by which an endpoint's newest block may be older than another's.
    rpc_max_lag: float
    confirmations: tuple[ConfirmationTier, ...]
    assets: tuple[AssetSettings, ...]
    explorer_url: str
    name: str
    v1_name: str
    #: Who is paid on this network; None: as the top-level PAY_TO says, where that is an address.
    pay_to: str | None
    facilitator: str
    log_range: int
    poll_interval: float
    #: Most that is paid per gas, in wei; None is any price.
    max_fee: int | None
    #: Seconds after which a transaction that is not mined is sent for a higher fee.
    bump_after: float

    @property
    def chain_id(self) -> int:
        """The numeric EIP-155 chain id of the CAIP-2 name."""
        return int(self.network.partition(":")[2])

    @property
    def has_rpc(self) -> bool:
        """Whether this site can read the network itself."""
        return bool(self.rpc_urls or self.provider)


@dataclass(frozen=True, slots=True)
class FacilitatorSettings:
    """One entry of ``FACILITATORS``."""

    alias: str
    backend: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExtensionSettings:
    """An extension that is on; ``backend`` is empty for one that is built in."""

    key: str
    backend: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChainWebhookSettings:
    """One entry of ``CHAIN_WEBHOOKS``; ``secret_env`` names the variable with its signing key."""

    name: str
    provider: str
    secret_env: str


def parse_network(name: str, raw: Mapping[str, Any]) -> NetworkSettings:
    """The entry of ``NETWORKS`` called ``name``. Raises ConfigurationError."""
    merged = {**NETWORK_DEFAULTS, **raw}
    try:
        return NetworkSettings(
            network=name,
            rpc_urls=tuple(merged["RPC_URLS"]),
            wallet_rpc_urls=tuple(merged["WALLET_RPC_URLS"]),
            provider=merged["PROVIDER"],
            rpc_timeout=float(merged["RPC_TIMEOUT"]),
            rpc_check_interval=float(merged["RPC_CHECK_INTERVAL"]),
            rpc_max_lag=float(merged["RPC_MAX_LAG"]),
            confirmations=parse_confirmations(merged["CONFIRMATIONS"]),
            assets=tuple(
                AssetSettings(
                    address=asset["ADDRESS"],
                    name=asset["NAME"],
                    version=str(asset.get("VERSION", "1")),
                    decimals=int(asset.get("DECIMALS", 6)),
                    symbol=asset.get("SYMBOL", asset["NAME"]),
                )
                for asset in merged["ASSETS"]
            ),
            explorer_url=str(merged["EXPLORER_URL"]).rstrip("/"),
            name=merged["NAME"],
            v1_name=merged["V1_NAME"],
            pay_to=merged["PAY_TO"] or None,
            facilitator=merged["FACILITATOR"],
            log_range=int(merged["LOG_RANGE"]),
            poll_interval=float(merged["POLL_INTERVAL"]),
            max_fee=(
                None
                if merged["MAX_FEE_GWEI"] is None
                else int(Decimal(str(merged["MAX_FEE_GWEI"])) * 10**9)
            ),
            bump_after=float(merged["BUMP_AFTER"]),
        )
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise ConfigurationError(
            f"X402['NETWORKS'][{name!r}] is not valid: {error!r}. Run manage.py check."
        ) from error
