"""The challenge that is answered with a transfer proof, and that proof on a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from django.core.exceptions import RequestDataTooBig
from django.http import RawPostDataException, UnreadablePostError
from django.urls import NoReverseMatch, reverse
from django.utils.crypto import constant_time_compare

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import PAY_URL_HEADER, TRANSFER_REQUIRED_HEADER, Code
from x402_django.exceptions import MalformedPayment, ServiceUnavailable
from x402_django.http.resource import (
    canonical_path,
    fingerprint_of_get,
    payment_headers,
    proof_headers,
    request_facts,
    resource_origin,
)
from x402_django.protocol.proofs import TransferChallenge, TransferProof, read_proof_header

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from x402_django.pricing import Quote
    from x402_django.protocol.types import Offer

#: The name of the pay page's URL.
PAY_PAGE: Final = "x402:pay"
#: The key, in the query of that URL, of what is to be paid for, and its greatest length.
WANTED: Final = "for"
MAX_WANTED: Final = 1024

PROOF_NOT_JUDGED: Final = ServiceUnavailable(
    "The transfer cannot be looked at right now. Do not pay again; repeat this request, with the "
    "same proof, in a moment."
)


def offer_transfer(
    request: HttpRequest, quote: Quote, response: HttpResponseBase
) -> tuple[str, ...]:
    """Name a challenge for a transfer on a 402, if one is taken; the headers that were set."""
    challenge = transfer_challenge(request, quote)
    if challenge is None:
        return ()
    response[TRANSFER_REQUIRED_HEADER] = challenge.header_value()
    response[PAY_URL_HEADER] = pay_page_url(request, challenge) or challenge.payment_uri
    return (TRANSFER_REQUIRED_HEADER, PAY_URL_HEADER)


def transfer_challenge(request: HttpRequest, quote: Quote) -> TransferChallenge | None:
    """The challenge that a transfer would answer; None where none is taken.

    Nor is one named where the body of the request, which it would be bound to, is too large or
    was read as a stream by a view that asks from inside.
    """
    offer = transfer_offer(quote)
    if offer is None:
        return None
    try:
        facts = request_facts(request)
    except (RequestDataTooBig, RawPostDataException, UnreadablePostError):
        return None
    now = clock.timestamp()
    return TransferChallenge(
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


def pay_page_url(request: HttpRequest, challenge: TransferChallenge) -> str | None:
    """Where people pay ``challenge``: the site's pay page; None if it does not include our URLs.

    The page is told which GET it is for, so that it can go there; other requests it cannot repeat.
    It believes that only if the challenge was issued for that very request.
    """
    try:
        path = reverse(PAY_PAGE, kwargs={"challenge_id": challenge.to_id()})
    except NoReverseMatch:
        return None
    query = request.META.get("QUERY_STRING", "")
    wanted = canonical_path(request) + (f"?{query}" if query else "")
    if len(wanted) > MAX_WANTED or not is_for(request, challenge, wanted):
        wanted = ""
    return pay_address(request, path, wanted)


def pay_address(request: HttpRequest, path: str, wanted: str) -> str:
    """The whole address of the pay page at ``path``; ``wanted`` is the GET it is for, or empty."""
    query = f"?{urlencode({WANTED: wanted})}" if wanted else ""
    return resource_origin(request) + path + query


def is_for(request: HttpRequest, challenge: TransferChallenge, wanted: str) -> bool:
    """Whether ``challenge`` was issued for a plain GET of ``wanted``, a path with its query."""
    path, _, query = wanted.partition("?")
    if not path.startswith("/") or not wanted.isascii():  # browsers differ about the others
        return False
    url = resource_origin(request) + path
    return constant_time_compare(fingerprint_of_get(url, query), challenge.fingerprint)


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
