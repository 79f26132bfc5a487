"""Every answer of the gate that is not the paid content, and the headers of the one that is.

The table is DESIGN section 6. Errors carry a stable code and a sentence; never the text of an
exception from elsewhere.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.urls import NoReverseMatch, reverse
from django.utils.cache import patch_cache_control, patch_vary_headers

from x402_django.conf import x402
from x402_django.constants import (
    EXPOSED_HEADERS,
    PAYMENT_HEADERS,
    PAYMENT_REQUIRED_HEADER,
    PROOF_HEADERS,
    SCHEME_BATCH,
    SCHEME_TRANSFER,
    V1_PAYMENT_HEADER,
    Code,
)
from x402_django.exceptions import (
    ChannelMismatch,
    PaymentConflict,
    SettlementFailed,
    X402Error,
)
from x402_django.extensions import registry
from x402_django.http.extending import asked_for
from x402_django.http.paywall import paywall_response, trouble_response, wants_paywall
from x402_django.http.resource import payment_headers, resource_url
from x402_django.http.transfers import offer_transfer
from x402_django.payments.channels import is_deposit, told
from x402_django.pricing.money import format_amount
from x402_django.protocol.challenge import Challenge
from x402_django.protocol.networks import display_name
from x402_django.protocol.settlement import encode_settlement
from x402_django.signals import challenge_sent

if TYPE_CHECKING:
    from django.http import HttpRequest

    from x402_django.models import Payment
    from x402_django.pricing import Quote
    from x402_django.protocol.types import Offer

#: django.contrib.auth.REDIRECT_FIELD_NAME, without requiring that app.
REDIRECT_FIELD_NAME: Final = "next"


def challenge_for(request: HttpRequest, quote: Quote, error: X402Error | None = None) -> Challenge:
    """The challenge that ``quote`` amounts to; ``error`` says why a payment was not accepted."""
    return Challenge(
        resource_url(request),
        quote.description,
        quote.mime_type,
        _told_of_channel(quote.offers, error),
        error=Code.PAYMENT_REQUIRED if error is None else error.code,
        message=_price_sentence(quote.offers) if error is None else str(error),
        extensions=registry.declarations(asked_for(request, quote)),
    )


def _told_of_channel(offers: tuple[Offer, ...], error: X402Error | None) -> tuple[Offer, ...]:
    """The offers, where a client has lost count with what its payment channel says."""
    if not isinstance(error, ChannelMismatch):
        return offers
    state = json.dumps(error.state, separators=(",", ":"))
    return tuple(
        replace(offer, channel_state=state) if offer.scheme == SCHEME_BATCH else offer
        for offer in offers
    )


@lru_cache(maxsize=256)
def _price_sentence(offers: tuple[Offer, ...]) -> str:
    """The price for a person: also of networks that v1's ``accepts`` has no name for."""
    prices = [
        f"{format_amount(offer.amount, offer.decimals, offer.symbol)} on "
        f"{display_name(offer.network)}"
        for offer in offers
    ]
    return f"Payment is required: {', or '.join(prices)}."


def payment_required(
    request: HttpRequest, quote: Quote, error: X402Error | None = None
) -> HttpResponseBase:
    """402: v2 in the header, v1 as the body; the paywall page for a person's browser."""
    challenge = challenge_for(request, quote, error)
    if wants_paywall(request):
        response: HttpResponseBase = paywall_response(request, quote, error)
    else:
        response = _json_bytes(challenge.v1_json(), status=402)
    return add_challenge(request, response, quote, challenge)


def add_challenge(
    request: HttpRequest, response: HttpResponseBase, quote: Quote, challenge: Challenge
) -> HttpResponseBase:
    """Put the v2 challenge on a 402 ``response``, and keep caches away from it.

    And the one to be answered with a transfer proof, where the merchant takes those.
    """
    response[PAYMENT_REQUIRED_HEADER] = challenge.header_value()
    response["Cache-Control"] = "no-store"
    _expose(response)
    _vary(response, ("Accept", *PAYMENT_HEADERS, *registry.access_headers()))
    offered = offer_transfer(request, quote, response)
    if offered:
        _expose(response, offered)
        _vary(response, PROOF_HEADERS)
    challenge_sent.send_robust(None, request=request, quote=quote, code=challenge.error)
    if challenge.error == Code.PAYMENT_REQUIRED:
        # How every purchase begins is no incident; Django would log a warning for each.
        response._has_been_logged = True  # type: ignore[attr-defined]
    return response


def settlement_failed(
    request: HttpRequest, quote: Quote, payment: Payment, failure: SettlementFailed
) -> HttpResponseBase:
    """402 with ``PAYMENT-RESPONSE`` ``success: false`` and a fresh challenge."""
    response = payment_required(request, quote, failure)
    name, value = encode_settlement(
        version=payment.x402_version,
        success=False,
        network=payment.network,
        transaction=failure.transaction or "",
        payer=payment.payer,
        error_reason=failure.code,
    )
    response[name] = value
    return response


def error_response(
    request: HttpRequest, status: int, error: X402Error, *, payment: Payment | None = None
) -> HttpResponse:
    """400, 402 for what is pending, 409, 413, 429 or 503.

    402, 409, 429 and 503 say when to come back, and where to look meanwhile; a conflict stays one.
    """
    body: dict[str, Any] = {"error": error.code, "message": str(error)}
    retry = status in (402, 409, 429, 503) and not isinstance(error, PaymentConflict)
    if retry:
        body["retryable"] = True
    url = payment_status_url(payment) if payment is not None else None
    if url:
        body["status"] = url
    if wants_paywall(request):
        response = trouble_response(request, status, body)
    else:
        response = json_response(body, status=status)
    if retry:
        response["Retry-After"] = str(x402.retry_after)
    if url:
        response["Link"] = f'<{url}>; rel="status"'
    response["Cache-Control"] = "no-store"
    _vary(response, ("Accept", *PAYMENT_HEADERS))
    if status == 402:  # to wait for a transfer is no incident
        response._has_been_logged = True  # type: ignore[attr-defined]
    return response


def in_progress(request: HttpRequest, payment: Payment | None) -> HttpResponse:
    """409: another worker has this very payment."""
    error = X402Error("This payment is being processed. Retry shortly.", code=Code.IN_PROGRESS)
    return error_response(request, 409, error, payment=payment)


def paid(request: HttpRequest, response: HttpResponseBase, payment: Payment) -> HttpResponseBase:
    """Mark ``response`` as bought with ``payment``: never for a shared cache (threat 16).

    It answers in the version it was asked in; the payment may have been made in the other. One
    that is to be settled later (the flow ``deferred``) has not succeeded yet, and says so with
    the code that the SDKs know for "not terminal", and where to look.
    """
    extra = told(payment)
    name, value = encode_settlement(
        version=1 if V1_PAYMENT_HEADER in payment_headers(request) else 2,
        success=payment.is_done,
        network=payment.network,
        transaction=payment.transaction if extra is None or is_deposit(payment) else "",
        payer=payment.payer,
        amount=payment.amount,
        extra=extra,
        error_reason=None if payment.is_done else Code.SETTLEMENT_PENDING,
        extensions=registry.acknowledgements(payment, request),
    )
    response[name] = value
    url = None if payment.is_done else payment_status_url(payment)
    if url:
        links = [response["Link"]] if response.has_header("Link") else []
        response["Link"] = ", ".join([*links, f'<{url}>; rel="status"'])
    if payment.scheme == SCHEME_TRANSFER:
        _vary(response, PROOF_HEADERS)
    return private(response)


def private(response: HttpResponseBase, *vary: str) -> HttpResponseBase:
    """Keep an answer to a payer out of shared caches; it depends on these headers, too."""
    if "no-store" not in response.get("Cache-Control", ""):
        patch_cache_control(response, private=True)
    _vary(response, (*PAYMENT_HEADERS, *vary))
    _expose(response)
    return response


def payment_status_url(payment: Payment) -> str | None:
    """Path of the payment's status page; None where the site does not include our URLs."""
    try:
        return reverse("x402:payment-status", kwargs={"public_id": payment.public_id})
    except NoReverseMatch:
        return None


def is_login_redirect(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Whether the view sent the payer to log in (``redirect_to_login``): nothing was sold.

    Other redirects may well be what was bought, such as a signed address to download from.
    """
    if response.status_code not in (301, 302, 303, 307, 308):
        return False
    query = parse_qs(urlsplit(response.get("Location", "")).query)
    here = (request.get_full_path(), request.build_absolute_uri())
    return any(back in here for back in query.get(REDIRECT_FIELD_NAME, ()))


def options_response(view: Any) -> HttpResponse:
    """The free answer to OPTIONS on a paid ``view``, which is never run for it.

    A function would sell its answer to any verb, and a class may answer OPTIONS with content
    (``RedirectView`` does). REST framework's views are the exception: their OPTIONS passes their
    permissions and describes the view.
    """
    view_class = getattr(view, "view_class", None)
    verbs = ("get", "head", "post", "put", "patch", "delete")
    allowed = [verb for verb in verbs if view_class is None or _has_handler(view_class, verb)]
    response = HttpResponse(status=204)
    del response["Content-Type"]
    response["Allow"] = ", ".join(verb.upper() for verb in (*allowed, "options"))
    return response


def _has_handler(view_class: type, verb: str) -> bool:
    return hasattr(view_class, "get" if verb == "head" else verb)


def json_response(body: dict[str, Any], *, status: int) -> HttpResponse:
    """A compact JSON answer."""
    return _json_bytes(json.dumps(body, separators=(",", ":")).encode("ascii"), status=status)


def _json_bytes(content: bytes, *, status: int) -> HttpResponse:
    return HttpResponse(content, status=status, content_type="application/json")


def _vary(response: HttpResponseBase, names: tuple[str, ...]) -> None:
    if response.has_header("Vary"):
        patch_vary_headers(response, names)
    else:
        response["Vary"] = ", ".join(names)


def _expose(response: HttpResponseBase, headers: tuple[str, ...] = EXPOSED_HEADERS) -> None:
    """Let a browser-side client of another origin read the payment headers (CORS)."""
    present = response.get("Access-Control-Expose-Headers")
    if not present:
        response["Access-Control-Expose-Headers"] = ", ".join(headers)
        return
    names = [name.strip() for name in present.split(",") if name.strip()]
    known = {name.lower() for name in names}
    names += [name for name in headers if name.lower() not in known]
    response["Access-Control-Expose-Headers"] = ", ".join(names)
