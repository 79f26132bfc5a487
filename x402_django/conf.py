"""The ``X402`` setting: one dict, read at access, typed.

``conf.x402`` reads ``django.conf.settings`` each time, so ``override_settings`` works and nothing
is frozen at import. What each key means stands in ``docs/settings.md``; unknown keys and wrong
values are reported by ``manage.py check`` (``checks.py``), not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from django.conf import settings
from django.core.signals import setting_changed

from x402_django.conf_entries import (
    ChainWebhookSettings,
    ExtensionSettings,
    FacilitatorSettings,
    NetworkSettings,
    parse_network,
)
from x402_django.constants import PAYMENT_IDENTIFIER
from x402_django.exceptions import ConfigurationError

DEFAULTS: Final[dict[str, Any]] = {
    "PAY_TO": None,
    "NETWORKS": {},
    "FACILITATORS": {},
    "BASE_URL": None,
    "CORS_ORIGINS": (),
    "DISCOVERY": True,
    "ROBOTS_TAG": "",
    "RULES_MAX_AGE": 4.0,
    "PRICE_GRACE": 60,
    "MAX_HEADER_BYTES": 8192,
    "MAX_TIMEOUT_SECONDS": 300,
    "SETTLEMENT_TIMEOUT": 30,
    "MINIMUM_PRICE": Decimal("0.0001"),
    "RESPONSE_STORE_MAX_BYTES": 65536,
    "RESPONSE_STORE_TTL": 600,
    "CLAIM_TIMEOUT": 900,
    "RETRY_AFTER": 2,
    "CONFIRMATION_INTERVAL": 10,
    "DEFERRED_MAX_EXPOSURE_PER_PAYER": Decimal("1"),
    "DEFERRED_MAX_EXPOSURE": Decimal("100"),
    "DEFERRED_MIN_SETTLED": 1,
    "FAILED_PAYER_MEMORY": 604_800,
    "MAX_IN_FLIGHT_PER_PAYER": 64,
    "MAX_IN_FLIGHT": None,
    "UPFRONT_ABOVE": None,
    "CHAIN_WEBHOOKS": {},
    "SERVICE_FACILITATOR": None,
    "SERVICE_MAX_BODY_BYTES": 65_536,
    "SERVICE_MAX_PARALLEL": 16,
    "TRANSFER_PROOFS": False,
    "TRANSFER_PROOF_TIMEOUT": 3600,
    "ALLOW_UNSIGNED_PROOFS": False,
    "EXTENSIONS": {},
    "CHANNEL_WITHDRAW_DELAY": 3600,
    "CHANNEL_CLAIM_AFTER": 600,
    "METRICS_TOKEN_ENV": None,
    "WEBHOOKS_ALLOW_PRIVATE": False,
    "REFUND_WALLETS": (),
    "RECEIPT_FONT": None,
    "COUNTRY_HEADER": None,
    "ALERTS": {},
    "CLIENT_ADDRESS_HEADER": None,
    "REFUND_APPROVAL_ABOVE": Decimal("100"),
    "CHALLENGE_COUNT_INTERVAL": 10.0,
}

#: Extensions that are on unless ``EXTENSIONS`` says ``None`` for them.
DEFAULT_EXTENSIONS: Final[dict[str, dict[str, Any]]] = {PAYMENT_IDENTIFIER: {}}


class X402Settings:
    """Typed access to ``settings.X402``; every property reads the setting anew."""

    @property
    def user(self) -> Mapping[str, Any]:
        """The dict as the site wrote it (empty when absent)."""
        value = getattr(settings, "X402", None)
        return value if isinstance(value, Mapping) else {}

    def _get(self, key: str) -> Any:
        return self.user.get(key, DEFAULTS[key])

    @property
    def pay_to(self) -> str | None:
        """Address that is paid where no PaymentMethod row says otherwise."""
        return self._get("PAY_TO") or None

    @property
    def base_url(self) -> str | None:
        """Origin of canonical resource URLs, e.g. ``https://shop.example``; no trailing slash."""
        value = self._get("BASE_URL")
        return value.rstrip("/") if value else None

    @property
    def discovery(self) -> bool:
        """Whether the site lists what it sells, where it includes our URLs."""
        return self._get("DISCOVERY") is True

    @property
    def channel_withdraw_delay(self) -> int:
        """Seconds by which a payer's withdrawal from a new payment channel is put off."""
        return int(self._get("CHANNEL_WITHDRAW_DELAY"))

    @property
    def channel_claim_after(self) -> int:
        """Seconds after which what is spent of a payment channel is claimed."""
        return int(self._get("CHANNEL_CLAIM_AFTER"))

    @property
    def robots_tag(self) -> str:
        """``X-Robots-Tag`` of what is for sale; empty: none."""
        return str(self._get("ROBOTS_TAG") or "")

    @property
    def cors_origins(self) -> tuple[str, ...]:
        """Origins whose pages may buy; ``"*"`` among them: all."""
        return tuple(self._get("CORS_ORIGINS"))

    @property
    def country_header(self) -> str:
        """The header in which a trusted proxy says the country; empty: nothing is believed."""
        return str(self._get("COUNTRY_HEADER") or "")

    @property
    def client_address_header(self) -> str:
        """The header in which a proxy says the client's address; empty: the connection's."""
        return str(self._get("CLIENT_ADDRESS_HEADER") or "")

    @property
    def alert_recipients(self) -> tuple[str, ...]:
        """Who is told by e-mail when something needs somebody; nobody where it is empty."""
        return tuple(self._get("ALERTS").get("TO", ()))

    @property
    def alert_repeat(self) -> timedelta:
        """How long after an alert it is told again, if it is still so."""
        return timedelta(hours=float(self._get("ALERTS").get("REPEAT_HOURS", 24)))

    @property
    def receipt_font(self) -> str | None:
        """Path of the TrueType font that receipts are printed in."""
        return self._get("RECEIPT_FONT") or None

    @property
    def refund_wallets(self) -> tuple[Mapping[str, Any], ...]:
        """Key sources (``chain.wallets``); ``PAYEES`` are the addresses whose refunds they send."""
        return tuple(self._get("REFUND_WALLETS"))

    @property
    def refund_approval_above(self) -> Decimal | None:
        """US dollars above which a refund waits for a second person; None: none does."""
        value = self._get("REFUND_APPROVAL_ABOVE")
        return None if value is None else Decimal(str(value))

    @property
    def rules_max_age(self) -> float:
        """Seconds until a price edited elsewhere is in force in this process."""
        return float(self._get("RULES_MAX_AGE"))

    @property
    def price_grace(self) -> float:
        """Seconds for which the price that a rule had before an edit still pays."""
        return float(self._get("PRICE_GRACE"))

    @property
    def max_header_bytes(self) -> int:
        """Largest payment header that is decoded, in bytes."""
        return int(self._get("MAX_HEADER_BYTES"))

    @property
    def max_timeout_seconds(self) -> int:
        """``maxTimeoutSeconds`` of our offers."""
        return int(self._get("MAX_TIMEOUT_SECONDS"))

    @property
    def settlement_timeout(self) -> float:
        """Seconds a request waits for settlement; the least validity a payment must have left."""
        return float(self._get("SETTLEMENT_TIMEOUT"))

    @property
    def presumed_dead_after(self) -> float:
        """Seconds after which a silent worker that was settling is taken for dead.

        It writes down how a settlement went, or that it does not know, after a timeout or two and
        a few answers of a slow node. One that is slower still does no harm: it has lost its
        attempt, and an authorization is used once.
        """
        slowest = max((one.rpc_timeout for one in self.networks.values()), default=0.0)
        return 2 * self.settlement_timeout + 3 * slowest

    @property
    def minimum_price(self) -> Decimal:
        """Smallest price in US dollars; less is dust that costs more to settle than it brings."""
        return Decimal(str(self._get("MINIMUM_PRICE")))

    @property
    def response_store_max_bytes(self) -> int:
        """Largest response kept for replay, in bytes; 0 keeps none."""
        return int(self._get("RESPONSE_STORE_MAX_BYTES"))

    @property
    def response_store_ttl(self) -> int:
        """Seconds a stored response is kept."""
        return int(self._get("RESPONSE_STORE_TTL"))

    @property
    def claim_timeout(self) -> int:
        """Seconds after which a claim whose process died is released."""
        return int(self._get("CLAIM_TIMEOUT"))

    @property
    def retry_after(self) -> int:
        """Seconds in ``Retry-After`` of 409 and 503."""
        return int(self._get("RETRY_AFTER"))

    @property
    def confirmation_interval(self) -> float:
        """Seconds between runs of the periodic Celery tasks."""
        return float(self._get("CONFIRMATION_INTERVAL"))

    @property
    def deferred_max_exposure_per_payer(self) -> Decimal:
        """US dollars that one payer may owe under the flow ``deferred``."""
        return Decimal(str(self._get("DEFERRED_MAX_EXPOSURE_PER_PAYER")))

    @property
    def deferred_max_exposure(self) -> Decimal | None:
        """US dollars that all payers together may owe under ``deferred``; None: no limit."""
        value = self._get("DEFERRED_MAX_EXPOSURE")
        return None if value is None else Decimal(str(value))

    @property
    def deferred_min_settled(self) -> int:
        """Settled payments that a payer must have to pay under ``deferred``."""
        return int(self._get("DEFERRED_MIN_SETTLED"))

    @property
    def failed_payer_memory(self) -> int:
        """Seconds for which a payer with a failed settlement pays before the view."""
        return int(self._get("FAILED_PAYER_MEMORY"))

    @property
    def max_in_flight_per_payer(self) -> int | None:
        """Payments of one payer that may be on their way at once; None: any number."""
        value = self._get("MAX_IN_FLIGHT_PER_PAYER")
        return None if value is None else int(value)

    @property
    def max_in_flight(self) -> int | None:
        """Payments of all payers that may be on their way at once; None: any number."""
        value = self._get("MAX_IN_FLIGHT")
        return None if value is None else int(value)

    @property
    def upfront_above(self) -> Decimal | None:
        """US dollars; what costs more is settled before the view unless its flow is given."""
        value = self._get("UPFRONT_ABOVE")
        return None if value is None else Decimal(str(value))

    @property
    def chain_webhooks(self) -> Mapping[str, ChainWebhookSettings]:
        """Where notices about the chain are taken from, by their name in the URL."""
        return {
            name: ChainWebhookSettings(
                name, str(raw.get("PROVIDER", "")), str(raw.get("SECRET_ENV", ""))
            )
            for name, raw in self._get("CHAIN_WEBHOOKS").items()
        }

    @property
    def service_facilitator(self) -> str | None:
        """Alias of the facilitator that settles for others; None: this site offers no service."""
        return self._get("SERVICE_FACILITATOR") or None

    @property
    def service_max_body_bytes(self) -> int:
        """Largest request to the facilitator service that is read, in bytes."""
        return int(self._get("SERVICE_MAX_BODY_BYTES"))

    @property
    def service_max_parallel(self) -> int:
        """Requests of the facilitator service that one process verifies, and settles, at once."""
        return int(self._get("SERVICE_MAX_PARALLEL"))

    @property
    def transfer_proofs(self) -> bool:
        """Whether PAY_TO takes transfers proven by their hash; payment methods say so themselves.

        Only a real ``True`` counts: this opens a way of being paid.
        """
        return self._get("TRANSFER_PROOFS") is True

    @property
    def transfer_proof_timeout(self) -> int:
        """Seconds within which a challenged transfer must be made."""
        return int(self._get("TRANSFER_PROOF_TIMEOUT"))

    @property
    def allow_unsigned_proofs(self) -> bool:
        """Whether whoever knows a transfer's hash may use it. Only a real ``True`` counts."""
        return self._get("ALLOW_UNSIGNED_PROOFS") is True

    @property
    def extensions(self) -> Mapping[str, ExtensionSettings]:
        """The extensions that are on, by their keys on the wire."""
        return _extensions()

    @property
    def metrics_token_env(self) -> str | None:
        """Name of the variable with the token that metrics are read with; None: there are none."""
        return self._get("METRICS_TOKEN_ENV") or None

    @property
    def webhooks_allow_private(self) -> bool:
        """Whether outgoing webhooks may go to private addresses and over plain HTTP.

        Only a real ``True`` counts: it lets whoever enters an address reach the inside.
        """
        return self._get("WEBHOOKS_ALLOW_PRIVATE") is True

    @property
    def challenge_count_interval(self) -> float | None:
        """Seconds for which challenges are counted in memory; None: they are not counted."""
        value = self._get("CHALLENGE_COUNT_INTERVAL")
        return None if value is None else float(value)

    @property
    def networks(self) -> Mapping[str, NetworkSettings]:
        """Configured networks by CAIP-2 name."""
        return _networks()

    def network(self, network: str) -> NetworkSettings:
        """The entry for ``network``. Raises ConfigurationError if there is none."""
        try:
            return _networks()[network]
        except KeyError:
            raise ConfigurationError(
                f"X402['NETWORKS'] has no entry for {network!r}. Add it, with RPC_URLS."
            ) from None

    @property
    def facilitators(self) -> Mapping[str, FacilitatorSettings]:
        """Configured facilitators by alias."""
        return _facilitators()


x402 = X402Settings()


@lru_cache(maxsize=1)
def _networks() -> dict[str, NetworkSettings]:
    return {name: parse_network(name, raw) for name, raw in x402._get("NETWORKS").items()}


@lru_cache(maxsize=1)
def _facilitators() -> dict[str, FacilitatorSettings]:
    return {
        alias: FacilitatorSettings(alias, raw.get("BACKEND", ""), raw.get("OPTIONS") or {})
        for alias, raw in x402._get("FACILITATORS").items()
    }


@lru_cache(maxsize=1)
def _extensions() -> dict[str, ExtensionSettings]:
    return {
        key: ExtensionSettings(key, raw.get("BACKEND") or "", raw.get("OPTIONS") or {})
        for key, raw in {**DEFAULT_EXTENSIONS, **x402._get("EXTENSIONS")}.items()
        if raw is not None
    }


def _reset(*, setting: str, **kwargs: object) -> None:
    if setting == "X402":
        _networks.cache_clear()
        _facilitators.cache_clear()
        _extensions.cache_clear()


setting_changed.connect(_reset, dispatch_uid="x402_django.conf.reset")
