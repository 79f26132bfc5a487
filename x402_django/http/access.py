"""A browser that has paid: how it gets what it bought, and may come back.

A person pays on the paywall page, whose script sends the signed payment in a header. What was
bought is then to be opened by the browser itself, which sends no such header, so the answer to
the script is a cookie that names the payment. It is signed, goes to this one page, and says
nothing by itself: what it is worth is decided by the ledger's row, each time.

- Not fetched yet: the response that was stored for it, or the view, which is owed.
- Under session access (``Payment.session_access`` seconds from its settlement): the view runs,
  free, with ``request.payment`` the payment that granted it.
- Otherwise: what presenting the same payment again is worth.

A payment that was reversed or refunded opens nothing. Only GET is opened so: other methods have
effects, and are paid for each.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote as percent_encode

from django.core.signing import BadSignature, Signer

from x402_django.conf import x402
from x402_django.http import responses
from x402_django.http.resource import UNQUOTED, request_facts
from x402_django.models import Payment

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

COOKIE_PREFIX: Final = "x402_"
_SALT: Final = "x402_django.http.access"
#: What cannot stand in a cookie's path, or what browsers write in different ways.
_AWKWARD: Final = re.compile(r"[;\[\]\\^|{}`%]")


def hand_over(
    request: HttpRequest, payment: Payment, bought: HttpResponseBase | None = None
) -> HttpResponseBase:
    """Tell the paywall's script that the page is paid, and give its browser the cookie.

    ``bought`` is the response that the browser is to fetch; its own cookies, which are never
    stored, are set now.
    """
    body = {"paid": payment.is_paid, "receipt": responses.payment_status_url(payment)}
    response = responses.json_response(body, status=200)
    if bought is not None:
        response.cookies.update(bought.cookies)
    response.set_cookie(
        cookie_name(payment.request_fingerprint),
        Signer(salt=_SALT).sign(payment.public_id),
        max_age=max(payment.session_access, x402.response_store_ttl),
        path=cookie_path(request.path),
        secure=request.is_secure(),
        httponly=True,
        samesite="Lax",
    )
    response["Cache-Control"] = "no-store"
    return responses.paid(request, response, payment)


def presented_access(request: HttpRequest) -> str | None:
    """The public id of the payment that the request's cookie names; None if there is none.

    Nothing is looked up. A request with a body is not one that a browser repeats by itself.
    """
    if request.method != "GET":
        return None
    if not any(name.startswith(COOKIE_PREFIX) for name in request.COOKIES):
        return None
    if request.META.get("CONTENT_LENGTH") not in (None, "", "0"):
        return None
    signed = request.COOKIES.get(cookie_name(request_facts(request).fingerprint))
    if signed is None:
        return None
    try:
        return Signer(salt=_SALT).unsign(signed)
    except BadSignature:
        return None


def returning_payment(request: HttpRequest) -> Payment | None:
    """The payment by which this browser has bought this very request, whatever its state."""
    public_id = presented_access(request)
    if public_id is None:
        return None
    fingerprint = request_facts(request).fingerprint
    return Payment.objects.filter(public_id=public_id, request_fingerprint=fingerprint).first()


def cookie_name(fingerprint: str) -> str:
    """One cookie per request that can be bought; its name tells nothing about that."""
    return COOKIE_PREFIX + hashlib.sha256(fingerprint.encode()).hexdigest()[:16]


def cookie_path(path: str) -> str:
    """The ``Path`` for a page's cookie: the page's own, so that cookies do not pile up.

    Where the page's path holds what browsers write in different ways, the part before it.
    """
    awkward = _AWKWARD.search(path)
    if awkward is not None:
        path = path[: path.rindex("/", 0, awkward.start()) + 1]
    return percent_encode(path, safe=UNQUOTED)
