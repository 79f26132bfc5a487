"""What was paid for, kept until it has surely arrived.

A stored response is part of the transaction that writes ``settled``: from then on the same
payment on the same request gets the same bytes, whatever happens to this process or connection.
What is too large to store, or is a stream, counts as delivered only once the server has taken
all of it (``watching``); until then it is a debt, and the view runs again, free, when the payer
comes back.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, Final

from django.db import router
from django.http import HttpResponse
from django.http.response import HttpResponseBase

from x402_django import clock
from x402_django.conf import x402
from x402_django.exceptions import InvalidTransition
from x402_django.models import HoldingUse, Payment
from x402_django.models.statements import flush
from x402_django.payments.machine import annotate

logger = logging.getLogger("x402_django.payments")

#: How often a response that is not stored may be begun for one payment.
MAX_DELIVERIES: Final = 3

#: Headers that belong to one connection or one exchange and are never replayed.
_NOT_STORED: Final = frozenset(
    {"set-cookie", "date", "connection", "transfer-encoding", "keep-alive", "content-length"}
)


def storable(response: HttpResponseBase) -> bool:
    """Whether the response is whole and small enough to keep."""
    return (
        isinstance(response, HttpResponse)
        and len(response.content) <= x402.response_store_max_bytes
    )


def stored_fields(response: HttpResponseBase) -> dict[str, Any]:
    """The Payment columns that keep ``response`` for replay; empty if it is not storable."""
    if not isinstance(response, HttpResponse) or not storable(response):
        return {}
    now = clock.now()
    return {
        "response_status": response.status_code,
        "response_headers": [
            [name, value] for name, value in response.items() if name.lower() not in _NOT_STORED
        ],
        "response_body": response.content,
        "response_expires_at": now + timedelta(seconds=x402.response_store_ttl),
        "delivery_started_at": None,
    }


def delivered_fields(payment: Payment, response: HttpResponseBase) -> dict[str, Any]:
    """The columns to write as ``response`` is about to leave.

    A stored one is delivered: from the commit on, the payer can always fetch it. One that is not
    stored is on its way, and is delivered when the server has taken all of it (``watch_delivery``)
    or when it leaves for the last time: who goes away before the last byte, again and again, does
    not get a stream for ever.
    """
    fields = stored_fields(response)
    if fields:
        fields["delivered_at"] = clock.now()
        return fields
    deliveries = payment.deliveries + 1
    fields = {"deliveries": deliveries, "delivery_started_at": clock.now()}
    if deliveries >= MAX_DELIVERIES:
        fields["delivered_at"] = clock.now()
    return fields


def handed_over_fields(payment: Payment, response: HttpResponseBase) -> dict[str, Any]:
    """The columns to write as a browser is told to come for ``response``.

    It is kept, or else owed, but not delivered: that it is once it was fetched. It counts as
    begun, so that the view that is run for an owed one does not earn the payment a second time.
    """
    begun = {"deliveries": payment.deliveries + 1, "delivery_started_at": None}
    return {**stored_fields(response), **begun}


def replay(payment: Payment | HoldingUse) -> HttpResponse:
    """The stored response of a payment or of a use of credits, byte for byte.

    Raises InvalidTransition if its time ended, and it was emptied, at this very moment.
    """
    body = payment.response_body
    if body is None:
        raise InvalidTransition("The stored response is gone.")
    response = HttpResponse(bytes(body), status=payment.response_status)
    del response["Content-Type"]
    for name, value in payment.response_headers or ():
        response[name] = value
    if isinstance(payment, HoldingUse):
        return response
    if payment.settled_at is None:
        # Delivered on trust, perhaps at this very moment: what leaves must not be forgotten.
        flush(router.db_for_write(Payment))
    if payment.delivered_at is None:
        annotate(payment, delivered_at=clock.now(), delivery_started_at=None)
    return response


def discard(response: HttpResponseBase) -> None:
    """Let go of a response that will not be sent.

    ``response.close()`` would tell Django that the *request* is over, which closes its database
    connections; only what the response holds open is to be closed.
    """
    for closer in response._resource_closers:  # type: ignore[attr-defined]
        try:
            closer()
        except Exception:
            logger.exception("A discarded response could not be closed.")
    response._resource_closers.clear()  # type: ignore[attr-defined]


def return_debt(payment: Payment) -> None:
    """The view failed after the money moved: the next presentation may run it at once."""
    annotate(payment, delivery_started_at=None)
