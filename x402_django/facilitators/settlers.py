"""Offers of the scheme ``upto``, of channels, and on Solana, name the wallet that settles.

Only its facilitator knows it. On Solana it is the fee payer, which signs the payer's transaction;
of a channel it is the wallet that claims.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from x402_django.exceptions import FacilitatorUnavailable
from x402_django.facilitators.base import get_facilitator
from x402_django.protocol.types import Offer

logger = logging.getLogger("x402_django.facilitators")


def name_settlers(offers: tuple[Offer, ...]) -> tuple[Offer, ...]:
    """``offers`` with their settlers; those whose facilitator names none are left out.

    One for each settler where there are several. Raises FacilitatorUnavailable if that leaves
    nothing to offer.
    """
    if not any(offer.needs_settler for offer in offers):
        return offers
    named: list[Offer] = []
    for offer in offers:
        if not offer.needs_settler:
            named.append(offer)
            continue
        try:
            settlers = get_facilitator(offer.facilitator).wallets_for(offer)
        except FacilitatorUnavailable:
            settlers = ()
        named += [replace(offer, settler=settler) for settler in settlers]
        if not settlers:
            logger.error(
                "Facilitator %s names no wallet that settles payments of the scheme '%s' on %s.",
                offer.facilitator,
                offer.scheme,
                offer.network,
            )
    if not named:
        raise FacilitatorUnavailable()
    return tuple(named)
