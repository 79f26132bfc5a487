"""Rows of the ledger become messages, each exactly once.

The ledger's append-only rows are the outbox: a transition and its event are one commit, so what
was committed is told and what was rolled back is not, and who pays waits for nothing here. A
periodic sweep reads them in the order of their keys (``payments.following``); what has its message
is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from django.db import router, transaction
from django.db.models import Exists, F, Min, OuterRef, QuerySet
from django.utils.crypto import salted_hmac

from x402_django import clock
from x402_django.models import (
    Payment,
    PaymentEvent,
    Receipt,
    RefundEvent,
    WebhookCursor,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookMessage,
)
from x402_django.payments.following import OVERLAP, last_before
from x402_django.webhooks import payloads

Subject = WebhookMessage.Subject
Row = PaymentEvent | Receipt | RefundEvent

#: Rows per transaction.
CHUNK: Final = 200


def write_messages() -> int:
    """Write what happened since the last time, for the endpoints that want it. How many."""
    endpoints = list(WebhookEndpoint.objects.all())
    if not endpoints:
        # Whoever is entered next is told of what happens from then on.
        WebhookCursor.objects.all().delete()
        return 0
    written = 0
    for subject, rows, moment in (
        (Subject.EVENT, _events(), "at"),
        (Subject.RECEIPT, _receipts(), "issued_at"),
        (Subject.REFUND, _refunds(), "at"),
    ):
        written += _sweep(subject, rows, moment, endpoints)
    return written


def _events() -> QuerySet[Any]:
    rows = PaymentEvent.objects.filter(to_state__in=list(payloads.TYPES))
    rows = rows.exclude(from_state=F("to_state"))  # a note, and no transition
    return rows.filter(payment__kind=Payment.Kind.SALE).select_related("payment")


def _receipts() -> QuerySet[Any]:
    return Receipt.objects.select_related("payment")


def _refunds() -> QuerySet[Any]:
    rows = RefundEvent.objects.filter(to_state__in=list(payloads.REFUND_TYPES))
    return rows.select_related("refund__payment")


def _sweep(
    subject: str, rows: QuerySet[Any], moment: str, endpoints: Sequence[WebhookEndpoint]
) -> int:
    before = clock.now() - OVERLAP
    position = _position(subject, rows.model, moment)
    told = WebhookMessage.objects.filter(subject=subject, subject_id=OuterRef("pk"))
    last, written = position, 0
    while True:
        chunk = list(rows.filter(~Exists(told), pk__gt=last).order_by("pk")[:CHUNK])
        if not chunk:
            break
        written += _write(subject, chunk, moment, endpoints)
        last = chunk[-1].pk
    _move_on(subject, rows.model, moment, before)
    return written


def _write(
    subject: str, chunk: Iterable[Any], moment: str, endpoints: Sequence[WebhookEndpoint]
) -> int:
    """Messages and their deliveries, in one transaction. Two sweeps at once write each once."""
    wanted: dict[str, list[WebhookEndpoint]] = {}
    messages = []
    for row in chunk:
        kind = _type(row)
        at, merchant = getattr(row, moment), _merchant(row)
        takers = [one for one in endpoints if one.merchant_id == merchant and _takes(one, kind, at)]
        if takers:
            message = _message(subject, row, kind)
            wanted[message.message_id] = takers
            messages.append(message)
    if not messages:
        return 0
    with transaction.atomic(using=router.db_for_write(WebhookMessage)):
        WebhookMessage.objects.bulk_create(messages, ignore_conflicts=True)
        keys = WebhookMessage.objects.filter(message_id__in=list(wanted))
        now = clock.now()
        WebhookDelivery.objects.bulk_create(
            [
                WebhookDelivery(message_id=pk, endpoint=endpoint, next_attempt_at=now)
                for pk, name in keys.values_list("pk", "message_id")
                for endpoint in wanted[name]
            ],
            ignore_conflicts=True,
        )
    return len(messages)


def _takes(endpoint: WebhookEndpoint, kind: str, at: datetime) -> bool:
    return endpoint.is_active and endpoint.created_at <= at and endpoint.wants(kind)


def _merchant(row: Row) -> int | None:
    """Whose sale it tells of: nobody else hears of it (threat 26)."""
    if isinstance(row, RefundEvent):
        return row.refund.merchant_id
    return row.merchant_id if isinstance(row, Receipt) else row.payment.merchant_id


def _type(row: Row) -> str:
    if isinstance(row, Receipt):
        return payloads.RECEIPT_ISSUED
    if isinstance(row, RefundEvent):
        return payloads.REFUND_TYPES[row.to_state]
    return payloads.TYPES[row.to_state]


def _body(row: Row) -> str:
    if isinstance(row, Receipt):
        return payloads.receipt_body(row)
    return payloads.refund_body(row) if isinstance(row, RefundEvent) else payloads.event_body(row)


def _message(subject: str, row: Row, kind: str) -> WebhookMessage:
    body = _body(row)
    # Of the row and so the same from whoever writes it; not to be guessed by who knows a key.
    name = salted_hmac("x402_django.webhooks.message", f"{subject}:{row.pk}", algorithm="sha256")
    return WebhookMessage(
        message_id=f"msg_{name.hexdigest()[:40]}",
        event_type=kind,
        subject=subject,
        subject_id=row.pk,
        body=body,
        created_at=clock.now(),
    )


def _position(subject: str, model: Any, moment: str) -> int:
    """The key after which rows are to be read; before the first endpoint's time to begin with."""
    cursor = WebhookCursor.objects.filter(subject=subject).first()
    if cursor is not None:
        return cursor.position
    first = WebhookEndpoint.objects.aggregate(at=Min("created_at"))["at"] or clock.now()
    position = last_before(model, moment, first - OVERLAP)
    WebhookCursor.objects.get_or_create(subject=subject, defaults={"position": position})
    return position


def _move_on(subject: str, model: Any, moment: str, before: datetime) -> None:
    position = last_before(model, moment, before)
    WebhookCursor.objects.filter(subject=subject, position__lt=position).update(position=position)
