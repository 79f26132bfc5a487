"""What the gate remembers on a request. Held in one attribute, ``request._x402``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from x402_django.constants import FLOW_UPFRONT
from x402_django.exceptions import ConfigurationError

if TYPE_CHECKING:
    from django.http import HttpRequest

    from x402_django.exceptions import PaymentRefused
    from x402_django.models import HoldingUse, Payment
    from x402_django.models.entries import FreeEntry
    from x402_django.payments.quotas import TakenFree
    from x402_django.pricing import Quote
    from x402_django.protocol.types import SignedPayment

ATTRIBUTE = "_x402"
_NEVER_FOR_SALE = "_x402_never_for_sale"

V = TypeVar("V", bound=Callable[..., Any])


def never_for_sale(view: V) -> V:
    """Mark a view of ours that must answer without its price being looked up: no rule sells it."""
    setattr(view, _NEVER_FOR_SALE, True)
    return view


def is_never_for_sale(view: Callable[..., Any]) -> bool:
    """Whether ``view`` is marked so."""
    return getattr(view, _NEVER_FOR_SALE, False) is True


@dataclass(slots=True)
class GateState:
    """One request at the gate.

    ``asked`` is the quote of a view that decided inside itself that it must be paid;
    ``payment`` is set once one is good for this request: verified, settled or owed.
    """

    quote: Quote | None = None
    asked: Quote | None = None
    payment: Payment | None = None
    signed: SignedPayment | None = None
    #: The earlier payment whose session access or pass lets the request in.
    access: Payment | None = None
    #: What was taken for it of a pass or of credits.
    use: HoldingUse | None = None
    #: The wallet that has shown who it is, by a token or by signing in.
    payer: str = ""
    #: Why it is free of charge, where a rule lets it in so.
    free: FreeEntry | None = None
    #: The free request that was taken for it.
    quota: TakenFree | None = None
    #: The time of day decided which price rule applies.
    is_timed: bool = False
    #: Request headers that decided which price rule applies.
    consulted: set[str] = field(default_factory=set)
    #: The payment has come with this very request, and with no earlier one.
    is_new: bool = False
    #: The purchase whose token the answer is to carry.
    gives: Payment | None = None
    refusal: PaymentRefused | None = None
    #: The view is for sale, whoever asks for it and however.
    is_sold: bool = False
    #: The response is final: a challenge, an error or a replay that the gate made itself.
    answered: bool = False
    #: Who the request was from, as the middleware outside said, before the view's first run.
    identity: dict[str, Any] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether the view may run as paid, or as paid for earlier."""
        return (
            self.payment is not None
            or self.access is not None
            or self.use is not None
            or self.free is not None
        )

    @property
    def settles_after_view(self) -> bool:
        """Whether money has yet to move once the view has answered well."""
        payment = self.payment
        return payment is not None and not payment.is_paid and payment.flow != FLOW_UPFRONT


def gate_state(request: HttpRequest) -> GateState:
    """The state that the middleware put on ``request``.

    Raises ConfigurationError when the middleware is not installed: a paid view must fail then,
    not be free.
    """
    state = getattr(request, ATTRIBUTE, None)
    if state is None:
        raise ConfigurationError(
            "A paid view was called without the payment gate. Add "
            "'x402_django.http.middleware.PaymentMiddleware' to MIDDLEWARE."
        )
    return cast(GateState, state)
