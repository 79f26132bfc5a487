"""The 402 page for a person with a browser: what it is, what it costs, and a way to pay.

The page is ``x402_django/paywall.html``; its script (``paywall.js``) talks to the visitor's
wallet and to this site, and to nobody else. What becomes of a payment it sends is in ``access``.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from django.utils.timesince import timesince

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import PAYWALL_HEADER, SCHEME_EXACT, TRANSFER_EIP3009
from x402_django.http.pages import page_response
from x402_django.http.resource import resource_url
from x402_django.http.transfers import pay_page_url, transfer_challenge
from x402_django.http.wallets import app_links, chain_parameters, qr_code
from x402_django.pricing.money import format_amount
from x402_django.protocol.networks import display_name, explorer_address_url, is_evm, is_testnet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpRequest, HttpResponse

    from x402_django.exceptions import X402Error
    from x402_django.pricing import Quote
    from x402_django.protocol.types import Offer

TEMPLATE: Final = "x402_django/paywall.html"
TROUBLE_TEMPLATE: Final = "x402_django/trouble.html"
_SCRIPT_META_KEY: Final = "HTTP_" + PAYWALL_HEADER.upper().replace("-", "_")


def is_paywall_script(request: HttpRequest) -> bool:
    """Whether the paywall's script asks: for a cookie that opens the page, not for the page."""
    return request.method == "GET" and _SCRIPT_META_KEY in request.META


def wants_paywall(request: HttpRequest) -> bool:
    """Whether a browser asks for a page. As the official servers tell: Accept and User-Agent."""
    headers = request.META
    return (
        "text/html" in headers.get("HTTP_ACCEPT", "")
        and "Mozilla" in headers.get("HTTP_USER_AGENT", "")
        and _SCRIPT_META_KEY not in headers
    )


def paywall_response(
    request: HttpRequest, quote: Quote, error: X402Error | None = None
) -> HttpResponse:
    """The page, rendered from ``x402_django/paywall.html`` (docs/paywall.md has its context)."""
    url = _full_url(request)
    # A browser cannot repeat a form by itself; and what a wallet signs here is ``exact`` alone.
    is_payable = request.method == "GET"
    offers = [_offer_context(offer) for offer in quote.offers]
    challenge = transfer_challenge(request, quote) if is_payable else None
    payable = [offer for offer in offers if is_payable and offer["is_payable"]]
    context = {
        "resource_url": resource_url(request),
        "description": quote.description,
        "error": str(error) if error is not None else "",
        "error_code": error.code if error is not None else "",
        "price_usd": _one_price(quote),
        "session_access": _duration(quote.session_access),
        "grant": "" if quote.grant is None else quote.grant.in_words(),
        "offers": offers,
        "payable": payable,
        "is_get": is_payable,
        "page": {
            "now": clock.timestamp(),
            "retryAfter": x402.retry_after,
            "offers": [offer["script"] for offer in payable],
        },
        # Where its app is missing, a wallet's own site gets the link; a query may name people.
        "app_links": [] if request.META.get("QUERY_STRING") else app_links(url),
        "qr_code": qr_code(url) if payable else "",
        "pay_page_url": pay_page_url(request, challenge) if challenge is not None else None,
    }
    return page_response(request, TEMPLATE, context, status=402)


def trouble_response(request: HttpRequest, status: int, error: dict[str, Any]) -> HttpResponse:
    """An error of the gate (``error``: its JSON) as a page; one that passes reloads by itself."""
    retryable = error.get("retryable", False)
    context = {**error, "retryable": retryable}
    response = page_response(request, TROUBLE_TEMPLATE, context, status=status)
    if retryable:
        response["Refresh"] = str(max(5, x402.retry_after))
    return response


def _one_price(quote: Quote) -> Decimal | None:
    """The price in dollars, if it is the same whichever way it is paid; fees may differ."""
    prices = {quote.price_of(offer) for offer in quote.offers}
    return prices.pop() if len(prices) == 1 else None


def _duration(seconds: int) -> str:
    """In words, such as "1 hour"; empty for none."""
    now = clock.now()
    return timesince(now - timedelta(seconds=seconds), now) if seconds else ""


def _full_url(request: HttpRequest) -> str:
    query = request.META.get("QUERY_STRING", "")
    return resource_url(request) + (f"?{query}" if query else "")


def _is_payable(offer: Offer, requirements: Mapping[str, Any]) -> bool:
    """Whether the page's script can sign it: a token's own authorization, and nothing else."""
    by_token = offer.scheme == SCHEME_EXACT and offer.transfer_method == TRANSFER_EIP3009
    return by_token and bool(requirements["extra"].get("name"))


def _offer_context(offer: Offer) -> dict[str, Any]:
    amount = format_amount(offer.amount, offer.decimals, offer.symbol)
    network = display_name(offer.network)
    requirements = offer.as_v2()
    return {
        "amount": amount,
        "fee": format_amount(offer.fee, offer.decimals, offer.symbol) if offer.fee else "",
        "symbol": offer.symbol,
        "network": network,
        "is_testnet": is_testnet(offer.network),
        "pay_to": offer.pay_to,
        "pay_to_url": explorer_address_url(offer.network, offer.pay_to),
        # What the page's script has a wallet sign is EIP-3009.
        "is_payable": offer.scheme == SCHEME_EXACT and offer.transfer_method == TRANSFER_EIP3009,
        "script": {
            "accepted": requirements,
            "amount": amount,
            "decimals": offer.decimals,
            "symbol": offer.symbol,
            "chain": chain_parameters(offer.network) if is_evm(offer.network) else {},
        },
    }
