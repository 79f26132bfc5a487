"""Telling whether a response that is too large to store has really arrived.

Servers close a response whether the client took all of it or left after the first byte, so
``close()`` says nothing. What counts is that the server asked for the end: it does so only after
the last part was sent. So a large answer leaves in slices, like a stream.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.db import Error as DatabaseTrouble
from django.db import close_old_connections
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from x402_django import clock
from x402_django.models import Payment
from x402_django.payments.machine import annotate

logger = logging.getLogger("x402_django.payments")

#: Bytes per slice of a large answer.
SLICE: Final = 65536


def watch_delivery(
    payment: Payment, response: HttpResponseBase, *, is_async: bool
) -> HttpResponseBase:
    """``response`` so that ``payment`` is delivered once the server has taken all of it.

    ``is_async`` says whether an ASGI server will send it. If the client leaves early the payment
    is owed again, as often as ``delivery.MAX_DELIVERIES`` allows.
    """
    if isinstance(response, StreamingHttpResponse):
        chunks = response.streaming_content
        if isinstance(chunks, AsyncIterator):
            response.streaming_content = _watched_async(payment, chunks)
        else:
            response.streaming_content = _watched(payment, chunks)
        return response
    if not isinstance(response, HttpResponse):
        return response
    if not is_async:
        return _SlicedResponse(payment, response)
    stream = StreamingHttpResponse(_watched_async(payment, _slices_async(response.content)))
    return _take_after(stream, response)


class _SlicedResponse(HttpResponse):
    """A large answer for a WSGI server: its content is there as ever, and is sent in slices."""

    def __init__(self, payment: Payment, original: HttpResponse) -> None:
        super().__init__(original.content)
        self._payment = payment
        _take_after(self, original)

    def __iter__(self) -> Iterator[bytes]:
        return _watched(self._payment, _slices(self.content))


def _take_after(response: HttpResponseBase, original: HttpResponseBase) -> HttpResponseBase:
    """Give ``response`` everything of ``original`` but its content."""
    response.status_code = original.status_code
    response.reason_phrase = original.reason_phrase
    response.headers = original.headers
    response.cookies = original.cookies
    response._resource_closers += original._resource_closers  # type: ignore[attr-defined]
    if isinstance(original, HttpResponse) and not original.has_header("Content-Length"):
        response["Content-Length"] = str(len(original.content))
    return response


def _slices(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), SLICE):
        yield content[start : start + SLICE]


async def _slices_async(content: bytes) -> AsyncIterator[bytes]:
    for part in _slices(content):
        yield part


def _watched(payment: Payment, chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except GeneratorExit:
        _mark_owed(payment, counted=True)
        raise
    except BaseException:
        _mark_owed(payment, counted=False)
        raise
    _mark_delivered(payment)


async def _watched_async(payment: Payment, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            yield chunk
    except GeneratorExit:
        await sync_to_async(_mark_owed)(payment, counted=True)
        raise
    except BaseException:
        await sync_to_async(_mark_owed)(payment, counted=False)
        raise
    await sync_to_async(_mark_delivered)(payment)


def _mark_delivered(payment: Payment) -> None:
    try:
        annotate(payment, delivered_at=clock.now(), delivery_started_at=None)
    except DatabaseTrouble:
        # The bytes are out; the worst that follows is that the payer may fetch them once more.
        logger.exception("Payment %s could not be marked as delivered.", payment.public_id)
        close_old_connections()


def _mark_owed(payment: Payment, *, counted: bool) -> None:
    """The response did not arrive. ``counted``: the client left, which it may do so often only.

    What broke on our side is not counted, and was not the last delivery after all.
    """
    fields: dict[str, Any] = {"delivery_started_at": None}
    if not counted:
        fields |= {"delivered_at": None, "deliveries": max(payment.deliveries - 1, 0)}
    try:
        annotate(payment, **fields)
    except DatabaseTrouble:
        # Then the payer waits until X402["CLAIM_TIMEOUT"] has passed.
        logger.exception("Payment %s could not be marked as owed.", payment.public_id)
        close_old_connections()
