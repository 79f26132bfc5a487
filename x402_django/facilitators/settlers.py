"""Offers of the scheme ``upto`` name the wallet that settles: only its facilitator knows it."""

from __future__ import annotations

import logging
from dataclasses import replace

from x402_django.constants import SCHEME_UPTO
from x402_django.exceptions import FacilitatorUnavailable
from x402_django.facilitators.base import get_facilitator
from x402_django.protocol.types import Offer

logger = logging.getLogger("x402_django.facilitators")


def name_settlers(offers: tuple[Offer, ...]) -> tuple[Offer, ...]:
    """``offers`` with their settlers; those whose facilitator names none are left out.

    One for each settler where there are several. Raises FacilitatorUnavailable if that leaves
    nothing to offer.
    """
    if all(offer.scheme != SCHEME_UPTO for offer in offers):
        return offers
    named: list[Offer] = []
    for offer in offers:
        if offer.scheme != SCHEME_UPTO:
            named.append(offer)
            continue
        try:
            settlers = get_facilitator(offer.facilitator).settlers(offer.network)
        except FacilitatorUnavailable:
            settlers = ()
        named += [replace(offer, settler=settler) for settler in settlers]
        if not settlers:
            logger.error(
                "Facilitator %s settles no payments of the scheme 'upto' on %s.",
                offer.facilitator,
                offer.network,
            )
    if not named:
        raise FacilitatorUnavailable()
    return tuple(named)
