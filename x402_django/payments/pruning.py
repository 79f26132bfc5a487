"""What may be forgotten, and when. Receipts never are, nor what was charged, nor who owes whom.

==============  ============================================================================
responses       stored for replay, past ``RESPONSE_STORE_TTL``: emptied, as the periodic task does
uncharged       payments that were rejected, released, failed or expired: deleted, with their
                history. Only where the authorization's time is over, so that no chain can take it
                any more, nothing was delivered for it, and nothing in the books names it
personal        of payments that were charged and are final: what came with them beside the
                receipt's facts (signatures, extensions): emptied
webhooks        messages that every endpoint has got, or none will: their text and what was
                answered. That there was a message stays, so that none is written twice
==============  ============================================================================

Each step is a few hundred rows in a transaction of its own: it may be killed and run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import router, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from x402_django import clock
from x402_django.conf import x402
from x402_django.models import (
    ChainTransaction,
    ChainTransactionItem,
    CountedDay,
    Payment,
    PaymentEvent,
    Receipt,
    WebhookAttempt,
    WebhookDelivery,
    WebhookMessage,
)
from x402_django.models.desk import day_of
from x402_django.payments.maintenance import purge_stored_responses

State = Payment.State

#: Rows per transaction.
CHUNK: Final = 500
#: Seconds after an authorization's end until no reorganisation can bring it back.
_OVER_FOR: Final = 24 * 3600
#: The mark of a payload that was emptied.
PRUNED: Final = "pruned"

_UNCHARGED: Final = (State.REJECTED, State.RELEASED, State.FAILED, State.EXPIRED)
_CLOSED: Final = (State.FINAL, State.REFUNDED, State.WAIVED)
#: Of a payload, what only its payer could make.
_SECRETS: Final = ("signature", "transaction", "extensions")


@dataclass(slots=True)
class Pruned:
    """How many responses were emptied, payments deleted, payloads and messages emptied."""

    responses: int = 0
    uncharged: int = 0
    personal: int = 0
    webhooks: int = 0

    def __str__(self) -> str:
        return (
            f"stored responses emptied: {self.responses}, uncharged payments deleted: "
            f"{self.uncharged}, payloads of charged ones emptied: {self.personal}, "
            f"webhook messages emptied: {self.webhooks}"
        )


def least_age() -> timedelta:
    """How old an uncharged payment must be: who failed lately is remembered (threat 9)."""
    return timedelta(seconds=max(_OVER_FOR, x402.failed_payer_memory))


def count(
    *, uncharged: timedelta, personal: timedelta | None, webhooks: timedelta | None = None
) -> Pruned:
    """What ``prune`` would do, without doing it."""
    now = clock.now()
    return Pruned(
        responses=Payment.objects.filter(response_expires_at__lt=now).count(),
        uncharged=_uncharged(now - uncharged).count(),
        personal=0 if personal is None else _personal(now - personal).count(),
        webhooks=0 if webhooks is None else _webhooks(now - webhooks).count(),
    )


def prune(
    *,
    uncharged: timedelta,
    personal: timedelta | None,
    webhooks: timedelta | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Pruned:
    """Forget what is older than that.

    ``personal`` None: keep what came with charged payments; ``webhooks`` None: keep messages.

    ``progress`` gets the rows done so far. Raises ValueError for an ``uncharged`` below
    ``least_age``.
    """
    if uncharged < least_age():
        raise ValueError(f"Uncharged payments are kept for {least_age().days} days at least.")
    done = Pruned()
    now = clock.now()
    while emptied := purge_stored_responses():
        done.responses += emptied
    for keys in _chunks(_uncharged(now - uncharged)):
        done.uncharged += _delete(keys, now - uncharged)
        progress(done.uncharged)
    if personal is not None:
        for keys in _chunks(_personal(now - personal)):
            done.personal += _empty(keys)
            progress(done.uncharged + done.personal)
    if webhooks is not None:
        for keys in _chunks(_webhooks(now - webhooks)):
            done.webhooks += _empty_messages(keys)
            progress(done.uncharged + done.personal + done.webhooks)
    return done


def is_pruned(payload: dict[str, Any]) -> bool:
    """Whether what the payer signed is no longer there."""
    return PRUNED in payload


def _uncharged(before: datetime) -> QuerySet[Payment]:
    named = (
        Receipt.objects.filter(payment=OuterRef("pk")),
        ChainTransactionItem.objects.filter(payment=OuterRef("pk")),
        ChainTransaction.objects.filter(Q(payments=OuterRef("pk")) | Q(prepares=OuterRef("pk"))),
        Payment.objects.filter(superseded_by=OuterRef("pk")),
    )
    rows = Payment.objects.filter(
        state__in=_UNCHARGED,
        state_changed_at__lt=before,
        valid_before__lt=clock.timestamp() - _OVER_FOR,
        settled_at__isnull=True,
        delivered_at__isnull=True,
    )
    for names in named:
        rows = rows.filter(~Exists(names))
    return rows


def _personal(before: datetime) -> QuerySet[Payment]:
    # Who is owed what was paid for gets it by presenting the payment again, as it was.
    return Payment.objects.exclude(
        state=State.FINAL, delivered_at__isnull=True, kind=Payment.Kind.SALE
    ).filter(
        state__in=_CLOSED,
        state_changed_at__lt=before,
        valid_before__lt=clock.timestamp() - _OVER_FOR,
        **{f"payload__{PRUNED}__isnull": True},
    )


def _webhooks(before: datetime) -> QuerySet[WebhookMessage]:
    waiting = WebhookDelivery.objects.filter(
        message=OuterRef("pk"), state=WebhookDelivery.State.PENDING
    )
    rows = WebhookMessage.objects.filter(created_at__lt=before).exclude(body="")
    return rows.filter(~Exists(waiting))


def _chunks(rows: QuerySet[Any]) -> Iterator[list[int]]:
    """The keys of ``rows``, some hundred at a time, each once."""
    last = 0
    while True:
        keys = list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:CHUNK])
        if not keys:
            return
        yield keys
        last = keys[-1]


def _delete(keys: list[int], before: datetime) -> int:
    """Delete those of ``keys`` that are still uncharged. The history goes with its payment."""
    alias = router.db_for_write(Payment)
    with transaction.atomic(using=alias):
        # Locked, where the database can: nobody claims one of them again meanwhile.
        rows = _uncharged(before).using(alias).filter(pk__in=keys)
        if transaction.get_connection(alias).features.has_select_for_update:
            rows = rows.order_by("pk").select_for_update(of=("self",))
        held = list(rows.values_list("pk", flat=True))
        history: QuerySet[PaymentEvent] = QuerySet(PaymentEvent, using=alias)
        gone = history.filter(payment__in=held)
        CountedDay.mark(gone.order_by().values_list(day_of("at"), flat=True).distinct())
        gone._raw_delete(alias)
        Payment.objects.using(alias).filter(pk__in=held).delete()
    return len(held)


def _empty(keys: list[int]) -> int:
    alias = router.db_for_write(Payment)
    rows = list(Payment.objects.using(alias).filter(pk__in=keys).only("payload", "extensions"))
    for row in rows:
        kept = {name: value for name, value in row.payload.items() if name not in _SECRETS}
        row.payload = {**kept, PRUNED: True}
        row.extensions = {}
    with transaction.atomic(using=alias):
        return Payment.objects.using(alias).bulk_update(rows, ["payload", "extensions"])


def _empty_messages(keys: list[int]) -> int:
    """Empty those of ``keys`` for which no delivery waits: one may be queued again meanwhile."""
    alias = router.db_for_write(WebhookMessage)
    with transaction.atomic(using=alias):
        log: QuerySet[WebhookAttempt] = QuerySet(WebhookAttempt, using=alias)
        deliveries = WebhookDelivery.objects.using(alias).filter(message__in=keys)
        if transaction.get_connection(alias).features.has_select_for_update:
            deliveries = deliveries.order_by("pk").select_for_update()
        waiting = {
            held.message_id
            for held in deliveries.only("message_id", "state")
            if held.state == WebhookDelivery.State.PENDING
        }
        done = [key for key in keys if key not in waiting]
        log.filter(delivery__message__in=done)._raw_delete(alias)
        return WebhookMessage.objects.using(alias).filter(pk__in=done).update(body="")
