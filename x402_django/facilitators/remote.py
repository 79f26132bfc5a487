"""Any x402 facilitator over HTTP (x402 v2, "Facilitator interface"), through the SDK's client.

The rule for every answer: once a settle request may have left, only a clear "no" for a reason
that rules out a payment is a failure. Everything else is "unknown", and the chain will tell.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlsplit

from django.utils.module_loading import import_string

from x402_django.conf import x402
from x402_django.constants import SCHEME_UPTO, Code
from x402_django.exceptions import (
    ConfigurationError,
    FacilitatorUnavailable,
    PaymentRefused,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.facilitators.answers import DEFINITE_AT_FIRST, OUT_OF_ORDER, is_definite
from x402_django.facilitators.base import BaseFacilitator, Kind, reason_code
from x402_django.facilitators.capabilities import DEFAULT_TTL, CachedCapabilities
from x402_django.protocol import networks, sdk
from x402_django.protocol.assets import canonical_address, is_address
from x402_django.protocol.base58 import is_solana_transaction
from x402_django.protocol.types import Settlement

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

    from x402_django.models import Payment
    from x402_django.protocol.types import SignedPayment

logger = logging.getLogger("x402_django.facilitators")

_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}")


class RemoteFacilitator(BaseFacilitator):
    """Asks a facilitator service to verify and settle.

    Options:
        URL: its base address; required.
        TIMEOUT: seconds to wait for ``/verify`` and ``/supported``; default 10.
        SETTLE_TIMEOUT: seconds to wait for ``/settle``; default ``X402["SETTLEMENT_TIMEOUT"]``.
        AUTH: dotted path of what makes the headers that authenticate this site: a callable that
            returns ``{"verify": {…}, "settle": {…}, "supported": {…}}`` or a class whose
            instances have the SDK's ``get_auth_headers()``. Asked for each request.
        TRUST: True releases content on its word, without a look at the chain; default False.
        SUPPORTED_TTL: seconds its answer to ``/supported`` is kept; default an hour.

    For services that need more than that, subclass it; ``presets`` has examples.
    """

    option_names = frozenset({"URL", "TIMEOUT", "SETTLE_TIMEOUT", "AUTH", "TRUST", "SUPPORTED_TTL"})
    number_names = frozenset({"TIMEOUT", "SETTLE_TIMEOUT", "SUPPORTED_TTL"})
    #: Where it is, if ``URL`` does not say.
    default_url: ClassVar[str] = ""
    #: The protocol version it is spoken to in.
    x402_version: ClassVar[int] = 2

    def __init__(self, alias: str, options: Mapping[str, Any]) -> None:
        super().__init__(alias, options)
        self.trusted = options.get("TRUST") is True
        self._settlers: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Its base address, without a slash at the end. Raises ConfigurationError without one."""
        url = self.options.get("URL") or self.default_url
        if not url:
            raise ConfigurationError(
                f"X402['FACILITATORS'][{self.alias!r}]['OPTIONS'] needs a URL."
            )
        return str(url).rstrip("/")

    def auth_provider(self) -> Any:
        """What makes the headers that authenticate this site, as the SDK's AuthProvider; or None.

        Raises ConfigurationError.
        """
        from x402_django.facilitators.transport import AuthHeaders

        path = self.options.get("AUTH")
        if not path:
            return None
        try:
            source = import_string(path)
        except ImportError as error:
            raise ConfigurationError(
                f"X402['FACILITATORS'][{self.alias!r}]['OPTIONS']['AUTH'] = {path!r} "
                f"cannot be imported: {error}"
            ) from error
        return AuthHeaders(source)

    def request_models(self, signed: SignedPayment) -> tuple[Any, Any]:
        """Payload and requirements as the SDK's models, for ``/verify`` and ``/settle``."""
        return sdk.to_sdk_payload(signed), sdk.to_sdk_requirements(signed.due)

    def verify(self, signed: SignedPayment) -> None:
        payload, requirements = self.request_models(signed)
        client = self._verify_client
        try:
            answer = client.verify(payload, requirements)
        except FacilitatorUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, no money has moved
            raise self._unavailable("verify", error) from None
        if not _names(answer.payer, signed.payer):
            raise self._unavailable("verify", None, "it names another payer")
        if answer.is_valid:
            return
        code = reason_code(answer.invalid_reason, default=Code.INVALID_REQUIREMENTS)
        if code in OUT_OF_ORDER:
            raise self._unavailable("verify", None, code)
        raise PaymentRefused(code=code)

    def settle(self, signed: SignedPayment, payment: Payment) -> Settlement:
        import httpx

        payload, requirements = self.request_models(signed)
        client = self._settle_client
        try:
            answer = client.settle(payload, requirements)
        except FacilitatorUnavailable:
            raise  # no headers to authenticate with
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.UnsupportedProtocol,
            httpx.InvalidURL,
        ) as error:
            # There was no connection, so the request cannot have been heard.
            raise self._unavailable("settle", error) from None
        except Exception as error:  # noqa: BLE001 - whatever it was, money may have moved
            raise self._unknown(_describe(error)) from None
        transaction = answer.transaction or ""
        hint = _transaction_id(signed.offer.network, transaction)
        named = answer.network or (not answer.success and signed.offer.network)
        if not (_names(answer.payer, signed.payer) and _is_network(named, signed.offer.network)):
            raise self._unknown("it names another payer or network", hint)
        if answer.success and hint:
            # A payment's transaction on Solana holds one transfer, so it backs one payment.
            only = 0 if networks.is_solana(signed.offer.network) else None
            return Settlement(transaction=hint, log_index=only)
        code = reason_code(answer.error_reason, default=Code.UNEXPECTED_SETTLE_ERROR)
        # Asked again, it may say no *because* the first attempt has moved the money.
        definite = payment.outcome_unknown_at is None and (
            is_definite(code) or code in DEFINITE_AT_FIRST
        )
        if answer.success or transaction or not definite:
            raise self._unknown(code, hint)
        raise SettlementFailed(code=code)

    def supported(self) -> frozenset[Kind]:
        """As of the last time it was asked, which is not before somebody wants to know."""
        return self._capabilities.get()

    def settlers(self, network: str) -> Sequence[str]:
        """As the service says in its ``/supported``."""
        self.supported()
        address = canonical_address(network, self._settlers.get(network, ""))
        return () if address is None else (address,)

    @cached_property
    def _capabilities(self) -> CachedCapabilities:
        ttl = float(self.options.get("SUPPORTED_TTL", DEFAULT_TTL))
        return CachedCapabilities(self.ask_supported, ttl=ttl)

    def ask_supported(self) -> frozenset[Kind]:
        """``/supported``, now. Raises FacilitatorUnavailable."""
        client = self._verify_client
        try:
            answer = client.get_supported()
        except FacilitatorUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - as in verify
            raise self._unavailable("supported", error) from None
        kinds = [kind for kind in answer.kinds if kind.x402_version == self.x402_version]
        self._settlers = {
            _caip2(str(kind.network)): _settler(kind, answer.signers)
            for kind in kinds
            if kind.scheme == SCHEME_UPTO or networks.is_solana(_caip2(str(kind.network)))
        }
        return frozenset((kind.scheme, _caip2(str(kind.network))) for kind in kinds)

    def check(self) -> list[CheckMessage]:
        from django.core.checks import Error, Warning

        found = super().check()
        where = f"X402['FACILITATORS'][{self.alias!r}]['OPTIONS']"
        url = self.options.get("URL") or self.default_url
        if not isinstance(url, str) or not url.startswith(("https://", "http://")):
            message = f"{where}['URL'] must be the facilitator's http(s) address."
            found.append(Error(message, id="x402_django.E031"))
        elif url.startswith("http://") and not _is_loopback(url):
            found.append(
                Warning(
                    f"{where}['URL'] is not https: payments could be read and changed on the way.",
                    id="x402_django.W031",
                )
            )
        elif urlsplit(url).hostname == "x402.org":
            found.append(
                Warning(
                    f"{where}['URL'] redirects to www.x402.org, and redirects are not followed: a "
                    "signed payment goes where the settings say and nowhere else.",
                    hint="Use the backend x402_django.facilitators.presets.X402OrgFacilitator.",
                    id="x402_django.W032",
                )
            )
        try:
            self.auth_provider()
        except ConfigurationError as error:
            found.append(Error(str(error), id="x402_django.E032"))
        return found

    @cached_property
    def _verify_client(self) -> Any:
        return self._client(float(self.options.get("TIMEOUT", 10)))

    @cached_property
    def _settle_client(self) -> Any:
        return self._client(float(self.options.get("SETTLE_TIMEOUT", x402.settlement_timeout)))

    def _client(self, timeout: float) -> Any:
        from x402_django.facilitators.transport import http_client

        return sdk.http_facilitator_client(
            self.url, timeout, http_client=http_client(timeout), auth_provider=self.auth_provider()
        )

    def _unavailable(
        self, operation: str, error: Exception | None, why: str = ""
    ) -> FacilitatorUnavailable:
        # The text of the error is left out: it may quote the answer, or the request.
        reason = why or (_describe(error) if error is not None else "")
        logger.warning("Facilitator %s, %s: unavailable (%s)", self.alias, operation, reason)
        return FacilitatorUnavailable()

    def _unknown(self, why: str, transaction: str = "") -> SettlementUnknown:
        logger.warning("Facilitator %s, settle: outcome unknown (%s)", self.alias, why)
        return SettlementUnknown(transaction=transaction)


def _names(payer: str | None, expected: str) -> bool:
    """Whether an answer is about this payer; the specification lets it leave the payer out."""
    if payer is None or payer == expected:
        return True
    return is_address(expected) and payer.lower() == expected.lower()


def _transaction_id(network: str, named: str) -> str:
    """The transaction that an answer names, as the ledger writes it; empty if it names none."""
    if networks.is_solana(network):
        return named if is_solana_transaction(named) else ""
    return named.lower() if _HASH.fullmatch(named) else ""


def _settler(kind: Any, signers: Mapping[str, Any]) -> str:
    """The wallet that settles a kind of payment, as ``/supported`` names it; may be nonsense.

    A service with several fee payers on Solana names a random one with each answer. All processes
    of a site must offer the same, for the payer signs for it: the first of all that it names.
    """
    extra = kind.extra or {}
    if kind.scheme == SCHEME_UPTO:
        return str(extra.get("facilitatorAddress") or "")
    named = [*signers.get(_caip2(str(kind.network)), ()), *signers.get("solana:*", ())]
    return min((str(one) for one in named), default=str(extra.get("feePayer") or ""))


def _is_network(named: Any, expected: str) -> bool:
    """Whether a network's name, old or new, is that of ``expected`` (CAIP-2)."""
    return isinstance(named, str) and _caip2(named) == expected


def _caip2(name: str) -> str:
    """The CAIP-2 name of a network; services answer with the names of version 1 too."""
    return name if ":" in name else networks.network_of_v1(name) or name


def _describe(error: Exception) -> str:
    """The kind of an error, and the HTTP status the SDK's message begins with; nothing else."""
    status = re.match(r"Facilitator \w+ failed \((\d{3})\)", str(error))
    return f"HTTP {status[1]}" if status else type(error).__name__


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
