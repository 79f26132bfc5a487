"""The 402 page for a person with a browser. No JavaScript, a strict policy, nothing loaded."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from django.http import HttpResponse
from django.template.loader import render_to_string

from x402_django.http.resource import resource_url
from x402_django.pricing.money import format_amount
from x402_django.protocol.networks import display_name

if TYPE_CHECKING:
    from django.http import HttpRequest

    from x402_django.exceptions import X402Error
    from x402_django.pricing import Quote

TEMPLATE = "x402_django/paywall.html"


def wants_paywall(request: HttpRequest) -> bool:
    """Whether a browser asks for a page. As the official servers tell: Accept and User-Agent."""
    headers = request.META
    return "text/html" in headers.get("HTTP_ACCEPT", "") and "Mozilla" in headers.get(
        "HTTP_USER_AGENT", ""
    )


def paywall_response(
    request: HttpRequest, quote: Quote, error: X402Error | None = None
) -> HttpResponse:
    """The page, rendered from ``x402_django/paywall.html`` (a site may override the template)."""
    nonce = secrets.token_urlsafe(16)
    context = {
        "resource_url": resource_url(request),
        "description": quote.description,
        "error": str(error) if error is not None else "",
        "error_code": error.code if error is not None else "",
        "nonce": nonce,
        "price_usd": quote.price_usd,
        "offers": [
            {
                "amount": format_amount(offer.amount, offer.decimals, offer.symbol),
                "network": display_name(offer.network),
                "pay_to": offer.pay_to,
            }
            for offer in quote.offers
        ],
    }
    response = HttpResponse(render_to_string(TEMPLATE, context, request), status=402)
    response["Content-Security-Policy"] = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    response["X-Content-Type-Options"] = "nosniff"
    response["Referrer-Policy"] = "no-referrer"
    return response
