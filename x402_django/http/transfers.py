"""The challenge that is answered with a transfer proof, and that proof on a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.core.exceptions import RequestDataTooBig
from django.http import RawPostDataException, UnreadablePostError

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import PAY_URL_HEADER, TRANSFER_REQUIRED_HEADER, Code
from x402_django.exceptions import MalformedPayment, ServiceUnavailable
from x402_django.http.resource import payment_headers, proof_headers, request_facts
from x402_django.protocol.proofs import TransferChallenge, TransferProof, read_proof_header

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from x402_django.pricing import Quote
    from x402_django.protocol.types import Offer

PROOF_NOT_JUDGED: Final = ServiceUnavailable(
    "The transfer cannot be looked at right now. Do not pay again; repeat this request, with the "
    "same proof, in a moment."
)


def offer_transfer(
    request: HttpRequest, quote: Quote, response: HttpResponseBase
) -> tuple[str, ...]:
    """Name a challenge for a transfer on a 402, if one is taken; the headers that were set.

    None is named where the body of the request, which it would be bound to, is too large or was
    read as a stream by a view that asks from inside.
    """
    offer = transfer_offer(quote)
    if offer is None:
        return ()
    try:
        facts = request_facts(request)
    except (RequestDataTooBig, RawPostDataException, UnreadablePostError):
        return ()
    now = clock.timestamp()
    challenge = TransferChallenge(
        fingerprint=facts.fingerprint,
        network=offer.network,
        asset=offer.asset,
        pay_to=offer.pay_to,
        amount=offer.amount,
        decimals=offer.decimals,
        symbol=offer.symbol,
        price_usd=None if (price := quote.price_of(offer)) is None else str(price),
        issued=now,
        expires=now + x402.transfer_proof_timeout,
    )
    response[TRANSFER_REQUIRED_HEADER] = challenge.header_value()
    response[PAY_URL_HEADER] = challenge.payment_uri
    return (TRANSFER_REQUIRED_HEADER, PAY_URL_HEADER)


def transfer_offer(quote: Quote) -> Offer | None:
    """The preferred offer that takes a transfer on a network which the site can read."""
    networks = x402.networks
    for offer in quote.offers:
        if offer.transfer_proofs and offer.network in networks and networks[offer.network].has_rpc:
            return offer
    return None


def presented_proof(request: HttpRequest, quote: Quote) -> TransferProof | None:
    """The transfer proof on a request; None if it carries none.

    Where proofs are not taken (any more), one that stands alone is still read: the challenge may
    have been issued before. What is unreadable then, or stands beside a payment, is ignored.

    Raises MalformedPayment for one that is not well-formed, or stands beside a payment.
    """
    headers = proof_headers(request)
    if not headers:
        return None
    taken = transfer_offer(quote) is not None
    if payment_headers(request):
        if not taken:
            return None
        raise MalformedPayment(
            "Send either a signed payment or a transfer proof, not both.",
            code=Code.AMBIGUOUS_HEADERS,
        )
    try:
        return read_proof_header(headers)
    except MalformedPayment:
        if not taken:
            return None
        raise
