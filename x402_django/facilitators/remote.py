"""Any x402 facilitator over HTTP (x402 v2, "Facilitator interface"), through the SDK's client.

The rule for every answer: once a settle request may have left, only a clear "no" for a reason
that rules out a payment is a failure. Everything else is "unknown", and the chain will tell.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from django.utils.module_loading import import_string

from x402_django.conf import x402
from x402_django.constants import Code
from x402_django.exceptions import (
    ConfigurationError,
    FacilitatorUnavailable,
    PaymentRefused,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.facilitators.base import BaseFacilitator, Kind, reason_code
from x402_django.protocol import sdk
from x402_django.protocol.types import Settlement

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

    from x402_django.models import Payment
    from x402_django.protocol.types import SignedPayment

logger = logging.getLogger("x402_django.facilitators")

_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}")

#: Reasons of a refused verification that are about the facilitator, not the payment.
_OUT_OF_ORDER: Final = frozenset(
    {
        Code.UNEXPECTED_VERIFY_ERROR,
        Code.UNEXPECTED_SETTLE_ERROR,
        "internal_error",
        "invalid_exact_evm_failed_to_get_asset_info",
        "invalid_exact_evm_failed_to_get_network_config",
        "unexpected_error",
    }
)
#: Reasons of a failed settlement that rule out that the authorization was used: it, or the
#: payer's balance, could not pay. "Transaction failed" is not among them: somebody else may have
#: submitted the same authorization a moment before.
_DEFINITE: Final = frozenset(
    {
        Code.INSUFFICIENT_FUNDS,
        Code.INVALID_NETWORK,
        Code.INVALID_RECIPIENT,
        Code.INVALID_REQUIREMENTS,
        Code.INVALID_SCHEME,
        Code.INVALID_SIGNATURE,
        Code.INVALID_VALID_AFTER,
        Code.INVALID_VALID_BEFORE,
        Code.INVALID_VALUE,
        Code.UNSUPPORTED_SCHEME,
        Code.INVALID_PAYLOAD,
        Code.INVALID_VERSION,
        "asset_not_deployed_contract",
        "eip6492_factory_not_allowed",
        "invalid_exact_evm_eip3009_not_supported",
        "invalid_exact_evm_payload_undeployed_smart_wallet",
        "invalid_exact_evm_token_name_mismatch",
        "invalid_exact_evm_token_version_mismatch",
        "missing_eip712_domain",
        "smart_wallet_deployment_failed",
        "unsupported_network",
    }
)


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
    """

    option_names = frozenset({"URL", "TIMEOUT", "SETTLE_TIMEOUT", "AUTH", "TRUST"})
    number_names = frozenset({"TIMEOUT", "SETTLE_TIMEOUT"})

    def __init__(self, alias: str, options: Mapping[str, Any]) -> None:
        super().__init__(alias, options)
        self.trusted = options.get("TRUST") is True

    def verify(self, signed: SignedPayment) -> None:
        payload = sdk.to_sdk_payload(signed)
        requirements = sdk.to_sdk_requirements(signed.offer)
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
        if code in _OUT_OF_ORDER:
            raise self._unavailable("verify", None, code)
        raise PaymentRefused(code=code)

    def settle(self, signed: SignedPayment, payment: Payment) -> Settlement:
        import httpx

        payload = sdk.to_sdk_payload(signed)
        requirements = sdk.to_sdk_requirements(signed.offer)
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
        plausible = _HASH.fullmatch(transaction) is not None
        hint = transaction.lower() if plausible else ""
        if not (_names(answer.payer, signed.payer) and answer.network == signed.offer.network):
            raise self._unknown("it names another payer or network", hint)
        if answer.success and plausible:
            return Settlement(transaction=hint)
        code = reason_code(answer.error_reason, default=Code.UNEXPECTED_SETTLE_ERROR)
        if answer.success or transaction or code not in _DEFINITE:
            raise self._unknown(code, hint)
        raise SettlementFailed(code=code)

    def supported(self) -> frozenset[Kind]:
        client = self._verify_client
        try:
            answer = client.get_supported()
        except FacilitatorUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - as in verify
            raise self._unavailable("supported", error) from None
        return frozenset(
            (kind.scheme, str(kind.network)) for kind in answer.kinds if kind.x402_version == 2
        )

    def check(self) -> list[CheckMessage]:
        from django.core.checks import Error, Warning

        where = f"X402['FACILITATORS'][{self.alias!r}]['OPTIONS']"
        found = super().check()
        url = self.options.get("URL")
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
        try:
            self._auth_provider()
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

        url = self.options.get("URL")
        if not url:
            raise ConfigurationError(
                f"X402['FACILITATORS'][{self.alias!r}]['OPTIONS'] needs a URL."
            )
        return sdk.http_facilitator_client(
            url, timeout, http_client=http_client(timeout), auth_provider=self._auth_provider()
        )

    def _auth_provider(self) -> Any:
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
    return payer is None or payer.lower() == expected.lower()


def _describe(error: Exception) -> str:
    """The kind of an error, and the HTTP status the SDK's message begins with; nothing else."""
    status = re.match(r"Facilitator \w+ failed \((\d{3})\)", str(error))
    return f"HTTP {status[1]}" if status else type(error).__name__


def _is_loopback(url: str) -> bool:
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
