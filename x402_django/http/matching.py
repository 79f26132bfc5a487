"""A presented payment against what the request costs, and the request against the view's wishes.

Some views are paid before they run. What such a view cannot use should be refused before it is
paid for: the view may look at the request first (``validate``). Its refusal does not count for a
payment that the ledger knows already, which is answered as before, whatever the view thinks now.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError

from x402_django.constants import Code
from x402_django.exceptions import (
    ConfigurationError,
    FacilitatorUnavailable,
    MalformedPayment,
    PaymentRefused,
    X402Error,
)
from x402_django.http import responses
from x402_django.http.quoting import with_settlers
from x402_django.http.resource import payment_headers
from x402_django.payments.discounts import discounted_for
from x402_django.payments.known import known_payment
from x402_django.pricing import Quote, earlier_quotes
from x402_django.protocol.offers import match_offer
from x402_django.protocol.wire import read_payment_header

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from x402_django.protocol.types import PresentedPayment, SignedPayment


def match_quote(
    presented: PresentedPayment, quote: Quote, resource_url: str
) -> tuple[SignedPayment, Quote]:
    """The payment bound to an offer, and the quote that the offer is of.

    That is ``quote``, the price of just this payer, or one before.

    Raises PaymentRefused, as ``match_offer`` does for today's price.
    """
    try:
        return match_offer(presented, quote.offers, resource_url=resource_url), quote
    except PaymentRefused:
        # Whose signature it is, is found out before anything is taken.
        own = discounted_for(quote, presented.terms.payer)
        for earlier in (*([] if own is quote else [own]), *earlier_quotes(quote)):
            with suppress(PaymentRefused, FacilitatorUnavailable):
                offers = with_settlers(earlier).offers
                return match_offer(presented, offers, resource_url=resource_url), earlier
        raise


def refused_by_view(
    request: HttpRequest, quote: Quote, presented: PresentedPayment
) -> HttpResponseBase | None:
    """The view's refusal of a request whose payment has not been taken yet; None: it may be.

    Raises ConfigurationError for a refusal that is none (below 400), and what the view raises
    beside ``ValidationError``.
    """
    if quote.validate is None:
        return None
    try:
        refusal = quote.validate(request)
    except ValidationError as error:
        wrong = X402Error(" ".join(error.messages), code=Code.INVALID_REQUEST)
        refusal = responses.error_response(request, 400, wrong)
    if refusal is None or known_payment(presented) is not None:
        return None
    if refusal.status_code < 400:
        raise ConfigurationError("What 'validate' returns must be None, or a response of 400 up.")
    return responses.private(refusal)


def is_known_payment(request: HttpRequest) -> bool:
    """Whether the request's payment is the ledger's business already, or no payment at all."""
    try:
        presented = read_payment_header(payment_headers(request))
    except MalformedPayment:
        return True
    return presented is None or known_payment(presented) is not None
