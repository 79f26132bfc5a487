"""Buyers that are pages of other origins (CORS, Fetch standard section 3.2).

A payment is no cookie: whoever shows one may be anybody's page. So the setting ``CORS_ORIGINS``
opens paid views, and nothing else of the site, to the origins it names. Cookies stay closed:
no credentials are ever allowed. Without the setting nothing is done here, and the site's own
middleware (django-cors-headers) decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.http import HttpResponse
from django.utils.cache import patch_vary_headers

from x402_django.conf import x402
from x402_django.constants import PAYMENT_HEADERS, PROOF_HEADERS
from x402_django.extensions.registry import access_headers

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

#: What a buyer may send to a paid view, beside the extensions' own.
REQUEST_HEADERS: Final = (
    *PAYMENT_HEADERS,
    *PROOF_HEADERS,
    "Idempotency-Key",
    "Accept",
    "Authorization",
    "Content-Type",
)
_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_MAX_AGE: Final = "600"


def is_preflight(request: HttpRequest) -> bool:
    """Whether a browser asks on behalf of a page that ``CORS_ORIGINS`` lets in."""
    return (
        request.method == "OPTIONS"
        and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.META
        and bool(_allowed(request))
    )


def preflight_response(request: HttpRequest) -> HttpResponse:
    """The free answer to a preflight of a paid view: it may be asked, with a payment."""
    response = HttpResponse(status=204)
    del response["Content-Type"]
    response["Access-Control-Allow-Methods"] = _METHODS
    response["Access-Control-Allow-Headers"] = ", ".join((*REQUEST_HEADERS, *access_headers()))
    response["Access-Control-Max-Age"] = _MAX_AGE
    return response


def open_to_origin(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Let the page that asked read the answer of a paid view, unless the site has said who may."""
    if not x402.cors_origins or response.has_header("Access-Control-Allow-Origin"):
        return response
    allowed = _allowed(request)
    if allowed:
        response["Access-Control-Allow-Origin"] = allowed
    if "*" not in x402.cors_origins:
        patch_vary_headers(response, ["Origin"])
    return response


def _allowed(request: HttpRequest) -> str:
    """The value of ``Access-Control-Allow-Origin`` for who asks; empty where it may not."""
    origins = x402.cors_origins
    origin = request.META.get("HTTP_ORIGIN", "")
    if "*" in origins:
        return "*" if origin else ""
    return origin if origin in origins else ""
