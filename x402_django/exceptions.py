"""Every error this app raises, as one tree.

    X402Error
    ├── ConfigurationError          a setting, price or rule is wrong (also ImproperlyConfigured)
    ├── PaymentRequired             raised by a view: "this costs …"
    ├── InvalidCharge               a view charges more than the payer authorized (also ValueError)
    ├── MalformedPayment            the header cannot be read                        → 400
    ├── PaymentRefused              readable, but not a payment for this offer       → 402
    │   └── ChannelMismatch         a voucher that does not go on where the last ended
    ├── PaymentConflict             it contradicts what its payer has sent before    → 409
    ├── PaymentsInFlight            too many payments are on their way               → 429
    ├── InvalidNotice               a webhook's notice is not its service's          → 401
    ├── InvalidApiKey               the facilitator service does not know the caller → 401
    ├── PaymentPending              a transfer that is not deep enough in the chain  → 402
    ├── SettlementError
    │   ├── SettlementFailed        definite: no money moved and none will           → 402
    │   ├── SettlementUnknown       money may have moved; only the chain can tell    → 503
    │   └── DuplicateSettlement     settled, and reported to another request
    ├── ServiceUnavailable          provably nothing was sent                        → 503
    │   ├── FacilitatorUnavailable
    │   ├── RpcUnavailable
    │   ├── BudgetExceeded          a key of the facilitator service has used up its own → 429
    │   └── PriceNotConfigured      a paid view without a price in force (also ConfigurationError)
    └── LedgerError
        ├── InvalidTransition       a transition the state machine does not draw, or a lost race
        └── RefundRefused           money cannot go back in this way; for who asked at the desk

``code`` is stable and machine-readable; ``retryable`` says whether the same request may
succeed later without a new payment. ``str(error)`` is a sentence for a person and never
contains a key, a signature or the text of a foreign exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from x402_django.constants import Code


class X402Error(Exception):
    """Base of the tree. ``code`` and ``message`` may be given per instance."""

    code: str = "error"
    message: str = "The payment could not be processed."
    retryable: bool = False

    def __init__(self, message: str | None = None, *, code: str | None = None) -> None:
        if message is not None:
            self.message = message
        if code is not None:
            self.code = code
        super().__init__(self.message)


class ConfigurationError(X402Error, ImproperlyConfigured):
    """The site is set up wrongly; the sentence says what and how to mend it."""

    code = "configuration_error"


class PaymentRequired(X402Error):
    """Raise from inside a view to ask for a payment before going on.

    The middleware answers 402, or, when the request carries a payment, verifies it outside the
    view's transaction and runs the view again with ``request.payment`` set::

        if request.payment is None:
            raise PaymentRequired("$0.05", description="Full-size image")

    Nothing before the ``raise`` should have effects: the view starts over.

    Args:
        price: US dollars (``"$0.05"``, ``Decimal``) or a callable of the request.
        rule: key of a PriceRule; where one is in force it wins over ``price``.
        description: shown to the payer.
        mime_type: of the content being sold.
        flow: ``"authorization"``, ``"upfront"`` or ``"deferred"``; default by method.
        session_access: seconds for which a browser that has paid may come back, free.
        unit_price: US dollars for one unit (the scheme ``upto``).
        metered: the price is a maximum (the scheme ``upto``).
        pay_to: who is paid, as in ``payment_required``; default: the payment methods' payees.
        minimum, maximum: bounds of ``price`` in US dollars.
        validate: looks at a request that carries a payment; see ``payment_required``.
        extensions: what the view says to extensions, by key (docs/extensions.md).
    """

    code = Code.PAYMENT_REQUIRED
    message = "Payment is required to access this resource."

    def __init__(
        self,
        price: Any = None,
        *,
        rule: str | None = None,
        description: str = "",
        mime_type: str = "",
        flow: str | None = None,
        session_access: int = 0,
        validate: Any = None,
        unit_price: Any = None,
        metered: bool = False,
        pay_to: Any = None,
        minimum: Any = None,
        maximum: Any = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.unit_price = unit_price
        self.metered = metered
        self.price = price
        self.rule = rule
        self.description = description
        self.mime_type = mime_type
        self.flow = flow
        self.session_access = session_access
        self.validate = validate
        self.pay_to = pay_to
        self.minimum = minimum
        self.maximum = maximum
        self.extensions = extensions or {}


class InvalidCharge(X402Error, ValueError):
    """``request.payment.charge`` was given what cannot be charged. A bug of the view: 500."""

    code = "invalid_charge"


class MalformedPayment(X402Error):
    """The payment header is not a strictly well-formed x402 payload (answered 400)."""

    code = Code.INVALID_PAYLOAD
    message = "The payment header is not a valid x402 payload."


class PaymentRefused(X402Error):
    """A readable payment that does not pay for this offer (answered 402, fresh challenge)."""

    code = Code.INVALID_REQUIREMENTS
    message = "The payment was not accepted."

    #: For refusals that name their code alone, as facilitators do.
    _SENTENCES = MappingProxyType(
        {
            Code.INSUFFICIENT_FUNDS: "The payer does not have enough of the token.",
            Code.INVALID_REQUIREMENTS: "The payment does not match what this resource costs.",
            Code.INVALID_SIGNATURE: "The payment was not signed by its payer.",
            Code.INVALID_VALID_BEFORE: "The payment has expired or is about to.",
            Code.NONCE_USED: "This payment was used before. Sign a new one.",
        }
    )

    def __init__(self, message: str | None = None, *, code: str | None = None) -> None:
        super().__init__(message or self._SENTENCES.get(code or self.code), code=code)


class ChannelMismatch(PaymentRefused):
    """A voucher of a payment channel that is not for the price more than what is spent.

    ``state`` is what the challenge tells the client of its channel, so that it can count again.
    """

    code = Code.CHANNEL_MISMATCH

    def __init__(self, message: str, state: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.state = state


class PaymentConflict(X402Error):
    """It contradicts an earlier payment of its payer. Nothing was charged (answered 409)."""

    code = Code.IDENTIFIER_USED
    message = "The payment's identifier was used for something else. Choose a new one."


class PaymentsInFlight(X402Error):
    """Too many payments are on their way already. Nothing was charged (answered 429)."""

    code = Code.TOO_MANY_IN_FLIGHT
    message = "Too many payments are being processed. You were not charged; retry shortly."


class PaymentPending(X402Error):
    """A proven transfer is not mined, or not deep enough: come back with the same proof.

    ``payment`` is its row in the ledger (models.Payment); None while there is none.
    """

    code = Code.PAYMENT_PENDING
    message = (
        "The transfer is not confirmed yet. Do not pay again; repeat this request, with the same "
        "proof, in a moment."
    )
    retryable = True

    def __init__(self, payment: Any = None) -> None:
        super().__init__()
        self.payment = payment


class SettlementError(X402Error):
    """Base of what can go wrong once settlement was asked for.

    ``transaction`` is the hash the facilitator named, if any (a hint, not a proof).
    """

    def __init__(
        self, message: str | None = None, *, code: str | None = None, transaction: str = ""
    ) -> None:
        super().__init__(message, code=code)
        self.transaction = transaction


class SettlementFailed(SettlementError):
    """Definite: the payer was not and will not be charged by what was sent."""

    code = Code.INVALID_TRANSACTION_STATE
    message = "The payment could not be settled; you were not charged."


class SettlementUnknown(SettlementError):
    """The payer may have been charged; the chain will tell. Never answered with 402."""

    code = Code.SETTLEMENT_UNKNOWN
    message = "The outcome of the settlement is not known yet. Do not pay again; retry later."
    retryable = True


class DuplicateSettlement(SettlementError):
    """The payment is settled, and that was reported to another request (``succeeds_once``)."""

    code = Code.DUPLICATE_SETTLEMENT
    message = "This payment was settled for another request. It is not charged again."


class ServiceUnavailable(X402Error):
    """Something needed was out of reach *before* anything was sent: nobody was charged."""

    code = Code.UNAVAILABLE
    message = "Payments cannot be processed right now; you were not charged. Retry later."
    retryable = True


class FacilitatorUnavailable(ServiceUnavailable):
    """The facilitator could not be reached, or refused to work, before acting."""


class RpcUnavailable(ServiceUnavailable):
    """No RPC endpoint of the network answered."""


class BudgetExceeded(ServiceUnavailable):
    """A key of the facilitator service has used up what it may. ``retry_after`` is in seconds."""

    code = Code.TOO_MANY_REQUESTS
    message = "This API key has made too many requests. Slow down."

    def __init__(
        self, message: str | None = None, *, code: str | None = None, retry_after: int
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class InvalidNotice(X402Error):
    """A notice about the chain that was not signed by its service, or too long ago (401)."""

    code = Code.INVALID_NOTICE
    message = "The notice is not signed by the service."


class InvalidApiKey(X402Error):
    """The facilitator service was asked without a key, or with one it does not know (401)."""

    code = Code.INVALID_API_KEY
    message = "Send a valid API key: 'Authorization: Bearer …'."


class PriceNotConfigured(ServiceUnavailable, ConfigurationError):
    """A paid view has no price in force. Answered 503: never free, never 402 without an offer."""

    code = Code.NO_PRICE
    message = "This resource is for sale, but has no price at the moment."


class LedgerError(X402Error):
    """The ledger refused; the caller holds a stale view of a payment."""

    code = "ledger_error"


class InvalidTransition(LedgerError):
    """The state machine does not draw this transition from the row's present state."""

    code = "invalid_transition"


class RefundRefused(LedgerError):
    """Money cannot go back in this way. The sentence is for who asked, at the desk."""

    code = "refund_refused"
