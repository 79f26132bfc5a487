"""The price of a request, ready to be offered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from x402_django import libraries
from x402_django.facilitators.settlers import name_settlers
from x402_django.http.state import ATTRIBUTE, GateState
from x402_django.pricing import PaidViewOptions, Quote, quote_request
from x402_django.pricing.conditions import Asker

if TYPE_CHECKING:
    from django.http import HttpRequest


def quote_for(
    request: HttpRequest, options: PaidViewOptions | None, url_name: str | None
) -> Quote | None:
    """``quote_request``, with the wallets that are to settle named in the offers.

    What the rules' conditions have looked at is noted on the request: the answer varies on it.

    Raises as that, and FacilitatorUnavailable where nothing is left to offer.
    """
    asker = Asker(request)
    try:
        quote = quote_request(request, options, url_name, asker)
    finally:
        state: GateState | None = getattr(request, ATTRIBUTE, None)
        if state is not None:
            state.consulted |= asker.consulted
            state.is_timed |= asker.is_timed
    if quote is None:
        return None
    libraries.load()  # all that follows may be the first to need one of them, in many threads
    return with_settlers(quote)


def with_settlers(quote: Quote) -> Quote:
    """``quote`` with the wallets named. Raises FacilitatorUnavailable as ``quote_for``."""
    offers = name_settlers(quote.offers)
    return quote if offers is quote.offers else replace(quote, offers=offers)
