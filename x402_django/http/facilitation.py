"""The facilitator service over HTTP (x402 v2, sections 7 and 8).

What the caller is told about money follows one rule: "failed" is said only of what has failed for
certain. An outcome that is not known is ``settlement_pending``, the SDKs' word for "not the last
word", with the hash of the transaction: their servers then ask once more by themselves. What was
not dealt with at all gets no answer in the protocol's form but 401, 413, 429 or 503.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from django.core.signals import setting_changed
from django.db import Error as DatabaseTrouble
from django.db import transaction
from django.http import HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from x402_django.conf import x402
from x402_django.constants import SCHEME_UPTO, Code
from x402_django.exceptions import (
    BudgetExceeded,
    ConfigurationError,
    DuplicateSettlement,
    InvalidApiKey,
    MalformedPayment,
    PaymentRefused,
    ServiceUnavailable,
    SettlementFailed,
    SettlementUnknown,
    X402Error,
)
from x402_django.http.responses import json_response
from x402_django.payments.service import budget, keys, listing, settling
from x402_django.protocol import facilitation

if TYPE_CHECKING:
    from django.http import HttpRequest

    from x402_django.models import FacilitatorKey
    from x402_django.protocol.facilitation import FacilitationRequest

logger = logging.getLogger("x402_django.http")

#: Resources on one page of the list: by default, and at the most (section 8.1).
_PAGE: Final = 20
_LARGEST_PAGE: Final = 100
_FURTHEST: Final = 1_000_000

Work = Callable[["FacilitationRequest", "FacilitatorKey"], HttpResponse]


class _TooLarge(X402Error):
    code = Code.BODY_TOO_LARGE
    message = "The request is too large."


class _Busy(ServiceUnavailable):
    message = "The facilitator is busy; nothing was sent. Retry shortly."


# Django's own view decorators, so that a site's CSRF check and ATOMIC_REQUESTS stay out of it:
# callers are servers with a key, and what the ledger writes must not wait for the response.
@csrf_exempt
@transaction.non_atomic_requests
@require_POST
def verify(request: HttpRequest) -> HttpResponse:
    """``POST /verify``: would this payment settle?"""
    return _serve(request, "verify", _verify)


@csrf_exempt
@transaction.non_atomic_requests
@require_POST
def settle(request: HttpRequest) -> HttpResponse:
    """``POST /settle``: settle it. The same payment may be sent any number of times."""
    return _serve(request, "settle", _settle)


@require_safe
def supported(request: HttpRequest) -> HttpResponse:
    """``GET /supported``: schemes, networks and the addresses that pay the gas. Public."""
    try:
        facilitator = settling.service_facilitator()
        signers = [keeper.account.address for keeper in facilitator.keepers()]
        kinds = facilitator.supported()
        answer = facilitation.supported_answer(
            kinds,
            signers,
            settlers={
                network: settler
                for scheme, network in kinds
                if scheme == SCHEME_UPTO
                for settler in facilitator.settlers(network)[:1]
            },
            extensions=sorted(facilitator.sponsors),
        )
    except (ServiceUnavailable, ConfigurationError) as trouble:
        return _unavailable(trouble)
    return _public(json_response(answer, status=200))


@require_safe
def resources(request: HttpRequest) -> HttpResponse:
    """``GET /discovery/resources``: what was paid for through this service. Public."""
    limit = _number(request, "limit", default=_PAGE, least=1, most=_LARGEST_PAGE)
    offset = _number(request, "offset", default=0, least=0, most=_FURTHEST)
    if limit is None or offset is None:
        error = X402Error("'limit' is 1 to 100, 'offset' is 0 or more.", code="invalid_page")
        return _refused(400, error)
    items: list[dict[str, Any]] = []
    total = 0
    if request.GET.get("type", "http") == "http":
        items, total = listing.listed_resources(limit=limit, offset=offset)
    page = {"limit": limit, "offset": offset, "total": total}
    answer = {"x402Version": 2, "items": items, "pagination": page}
    return _public(json_response(answer, status=200))


def _serve(request: HttpRequest, endpoint: str, work: Work) -> HttpResponse:
    try:
        with _slot(endpoint):
            key = keys.authenticate(_secret(request))
            budget.count_request(key)
            return _private(_read_and_work(request, endpoint, work, key))
    except InvalidApiKey as error:
        response = _refused(401, error)
        response["WWW-Authenticate"] = 'Bearer realm="x402 facilitator"'
    except BudgetExceeded as excess:
        response = _refused(429, excess, retry_after=excess.retry_after)
    except _TooLarge as error:
        response = _refused(413, error)
    except UnreadablePostError:
        response = _refused(400, MalformedPayment("The request broke off."))
    except (ServiceUnavailable, ConfigurationError) as trouble:
        response = _unavailable(trouble)
    except DatabaseTrouble:
        logger.exception("The ledger is out of reach of the facilitator service.")
        response = _unavailable(SettlementUnknown() if endpoint == "settle" else None)
    return _private(response)


def _read_and_work(
    request: HttpRequest, endpoint: str, work: Work, key: FacilitatorKey
) -> HttpResponse:
    alias = settling.service_facilitator().alias
    try:
        asked = facilitation.read_request(_body(request), facilitator=alias)
    except (MalformedPayment, PaymentRefused) as error:
        status = 400 if isinstance(error, MalformedPayment) else 200
        if endpoint == "verify":
            answer = facilitation.verify_answer(payer=None, refusal=error)
        else:
            answer = facilitation.settle_answer(
                network="", payer=None, reason=error.code, message=str(error)
            )
        return json_response(answer, status=status)
    return work(asked, key)


def _verify(asked: FacilitationRequest, key: FacilitatorKey) -> HttpResponse:
    refusal = None
    try:
        settling.verify(asked, key)
    except PaymentRefused as error:
        refusal = error
    answer = facilitation.verify_answer(payer=asked.signed.payer, refusal=refusal)
    return json_response(answer, status=200)


def _settle(asked: FacilitationRequest, key: FacilitatorKey) -> HttpResponse:
    facts: dict[str, Any] = {"network": asked.network_name, "payer": asked.signed.payer}
    try:
        payment = settling.settle(asked, key)
        if settling.report_success(payment, key):
            listing.list_resource(asked, key)
        facts |= {"transaction": payment.transaction, "amount": payment.amount}
    except PaymentRefused as refusal:
        facts |= {"reason": refusal.code, "message": str(refusal)}
    except SettlementUnknown as doubt:
        facts |= {"transaction": doubt.transaction}
        facts |= {"reason": Code.SETTLEMENT_PENDING, "message": str(doubt)}
    except (SettlementFailed, DuplicateSettlement) as failure:
        facts |= {"transaction": failure.transaction}
        facts |= {"reason": failure.code, "message": str(failure)}
    return json_response(facilitation.settle_answer(**facts), status=200)


# ------------------------------------------------------------------------------ requests


def _secret(request: HttpRequest) -> str:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _body(request: HttpRequest) -> bytes:
    """The body, read no further than it may be long: a length that is declared may be a lie."""
    limit = x402.service_max_body_bytes
    body = request.read(limit + 1)
    if len(body) > limit:
        raise _TooLarge(f"A request has at most {limit} bytes.")
    return bytes(body)


def _number(request: HttpRequest, name: str, *, default: int, least: int, most: int) -> int | None:
    text = request.GET.get(name, str(default))
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(most)):
        return None
    return int(text) if least <= int(text) <= most else None


# ------------------------------------------------------------------------------- answers


def _refused(status: int, error: X402Error, *, retry_after: int | None = None) -> HttpResponse:
    response = json_response({"error": error.code, "message": str(error)}, status=status)
    if retry_after is not None:
        response["Retry-After"] = str(retry_after)
    return response


def _unavailable(trouble: X402Error | None) -> HttpResponse:
    if isinstance(trouble, ConfigurationError):
        logger.error("The facilitator service is set up wrongly: %s", trouble)
        trouble = None  # for the operator, not for the caller
    return _refused(503, trouble or ServiceUnavailable(), retry_after=x402.retry_after)


def _private(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response


def _public(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "public, max-age=60"
    response["Access-Control-Allow-Origin"] = "*"
    return response


# ------------------------------------------------------------------------- how many at once

_slots: dict[str, threading.BoundedSemaphore] = {}


@contextmanager
def _slot(endpoint: str) -> Iterator[None]:
    """One of the places for requests at work. Settling waits for blocks, and must not keep the
    site's other pages from being served, nor verification. Raises _Busy at once if none is free.
    """
    slots = _slots.get(endpoint)
    if slots is None:
        slots = threading.BoundedSemaphore(x402.service_max_parallel)
        slots = _slots.setdefault(endpoint, slots)
    if not slots.acquire(blocking=False):
        raise _Busy()
    try:
        yield
    finally:
        slots.release()


def _reset(*, setting: str, **kwargs: object) -> None:
    if setting == "X402":
        _slots.clear()


setting_changed.connect(_reset, dispatch_uid="x402_django.http.facilitation.reset")
