"""Where what the site sells is found: ``/.well-known/x402``, a list, OpenAPI, ``llms.txt``.

All of it says what the challenges say, and is read from the same rules. It names no visitor and
nobody's payment, and may be kept by caches for a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

from django.http import Http404, HttpResponse
from django.urls import NoReverseMatch, get_script_prefix, reverse
from django.utils.translation import override
from django.views.decorators.http import require_safe

from x402_django import clock
from x402_django.conf import x402
from x402_django.extensions.bazaar import KEY as BAZAAR
from x402_django.extensions.bazaar import declaration, view_options
from x402_django.http.catalogue import PaidResource, paid_resources
from x402_django.http.openapi import document, payment_info, plain_usd
from x402_django.http.resource import resource_origin
from x402_django.http.responses import json_response
from x402_django.http.state import never_for_sale
from x402_django.pricing.money import format_amount
from x402_django.protocol.networks import display_name

if TYPE_CHECKING:
    from django.http import HttpRequest

PAGE: Final = 20
LARGEST_PAGE: Final = 100


def _discoverable(view: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    @never_for_sale
    @require_safe
    @wraps(view)
    def public(request: HttpRequest) -> HttpResponse:
        if not x402.discovery:
            raise Http404("This site keeps no list of what it sells.")
        with override(None):  # whatever language the visitor has: caches keep one answer for all
            response = view(request)
        response["Cache-Control"] = "public, max-age=60"
        response["Access-Control-Allow-Origin"] = "*"
        return response

    return public


@_discoverable
def well_known(request: HttpRequest) -> HttpResponse:
    """``/.well-known/x402``: the addresses that are for sale, and where to read more."""
    root = _root(request)
    urls = [root + r.route.template for r in _listed() if not r.route.parameters]
    links = {
        "discovery": _own(request, "x402:discovery"),
        "openapi": _own(request, "x402:openapi"),
        "keys": _own(request, "x402:keys") if "offer-receipt" in x402.extensions else None,
    }
    found = {name: url for name, url in links.items() if url}
    document = {"version": 1, "x402Version": 2, "resources": list(dict.fromkeys(urls)), **found}
    return json_response(document, status=200)


@_discoverable
def discovery(request: HttpRequest) -> HttpResponse:
    """What is for sale and what it costs, in the form of a facilitator's list (x402 v2, 8.)."""
    limit = _number(request.GET, "limit", PAGE, 1, LARGEST_PAGE)
    offset = _number(request.GET, "offset", 0, 0, 10**9)
    if limit is None or offset is None:
        error = {"error": "invalid_page", "message": "'limit' is 1 to 100, 'offset' is 0 or more."}
        return json_response(error, status=400)
    everything = list(_listed())
    root, now = _root(request), clock.timestamp()
    page = {"limit": limit, "offset": offset, "total": len(everything)}
    items = [_item(one, root, now) for one in everything[offset : offset + limit]]
    return json_response({"x402Version": 2, "items": items, "pagination": page}, status=200)


@_discoverable
def openapi(request: HttpRequest) -> HttpResponse:
    """The OpenAPI document of what is for sale."""
    return json_response(document(_root(request), request.get_host()), status=200)


@_discoverable
def llms_txt(request: HttpRequest) -> HttpResponse:
    """``/llms.txt`` (llmstxt.org): what is for sale, in words for language models."""
    root = _root(request)
    lines = [
        f"# {request.get_host()}",
        "",
        "> Some resources of this site are paid for per request, over HTTP 402 (x402). Request "
        "one; the answer 402 says what it costs in the header PAYMENT-REQUIRED. Sign one of its "
        "offers and request again with PAYMENT-SIGNATURE. Any x402 client does this.",
        "",
        "## Paid resources",
        "",
        *(_line(one, root) for one in _listed()),
        "",
    ]
    return HttpResponse("\n".join(lines), content_type="text/plain; charset=utf-8")


def _listed() -> list[PaidResource]:
    """What is for sale, but for views that do not want to be listed."""
    return [r for r in paid_resources() if r.terms.extensions.get(BAZAAR) is not False]


def _item(resource: PaidResource, root: str, now: int) -> dict[str, Any]:
    terms = resource.terms
    options = view_options(terms.extensions)
    item: dict[str, Any] = {
        "resource": root + resource.route.template,
        "type": "http",
        "x402Version": 2,
        "method": resource.method,
        "accepts": [offer.as_v2() for offer in terms.offers],
        "price": payment_info(terms)["price"],
        "lastUpdated": now,
    }
    if terms.description:
        item["description"] = terms.description
    if terms.mime_type:
        item["mimeType"] = terms.mime_type
    if BAZAAR in x402.extensions:
        item["extensions"] = {BAZAAR: declaration(resource.method, options)}
    if resource.route.parameters:
        item["parameters"] = list(resource.route.parameters)
    return item


def _line(resource: PaidResource, root: str) -> str:
    terms = resource.terms
    label = f"{resource.method} {resource.route.template}"
    words = f" {terms.description.rstrip('.')}." if terms.description else ""
    ways = ", ".join(
        f"{format_amount(o.amount, o.decimals, o.symbol)} on {display_name(o.network)}"
        for o in terms.offers
    )
    if terms.is_metered and ways:
        price = f"at most {ways}"
    elif ways:
        price = ways
    else:
        bounds = [(" from $", terms.minimum), (" up to $", terms.maximum)]
        known = "".join(words + plain_usd(one) for words, one in bounds if one is not None)
        price = f"depends on the request{known}"
    return f"- [{label}]({root}{resource.route.template}):{words} Price: {price}."


def _root(request: HttpRequest) -> str:
    return resource_origin(request) + get_script_prefix().rstrip("/")


def _own(request: HttpRequest, name: str) -> str | None:
    try:
        return resource_origin(request) + reverse(name)
    except NoReverseMatch:
        return None


def _number(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int | None:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return None
    return int(text) if least <= int(text) <= most else None
