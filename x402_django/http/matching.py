"""A presented payment against what the request costs, or did a moment ago."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from x402_django.exceptions import FacilitatorUnavailable, PaymentRefused
from x402_django.http.quoting import with_settlers
from x402_django.pricing import Quote, earlier_quotes
from x402_django.protocol.offers import match_offer

if TYPE_CHECKING:
    from x402_django.protocol.types import PresentedPayment, SignedPayment


def match_quote(
    presented: PresentedPayment, quote: Quote, resource_url: str
) -> tuple[SignedPayment, Quote]:
    """The payment bound to an offer, and the quote that the offer is of: ``quote``, or one before.

    Raises PaymentRefused, as ``match_offer`` does for today's price.
    """
    try:
        return match_offer(presented, quote.offers, resource_url=resource_url), quote
    except PaymentRefused:
        for earlier in earlier_quotes(quote):
            with suppress(PaymentRefused, FacilitatorUnavailable):
                offers = with_settlers(earlier).offers
                return match_offer(presented, offers, resource_url=resource_url), earlier
        raise
