"""Payments that wait for a place in a group, in the database: what all processes share.

Who leads is a lease that outlives nobody for long. It is for efficiency alone: that a payment
rides once is the unique constraint of ``ChainTransactionItem``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta

from django.db import router
from django.db.models import Q

from x402_django import clock
from x402_django.constants import SCHEME_EXACT
from x402_django.models import ChainTransactionItem, Payment, SettlementLane

Status = ChainTransactionItem.Status
#: Of items whose owner may still take them back.
QUEUED = (Status.WAITING, Status.ALONE)
#: Of items that keep the payment from riding elsewhere.
LIVE = (*QUEUED, Status.RIDING)


def take_lane(network: str, facilitator: str, holder: str, *, seconds: float) -> bool:
    """Lead for ``seconds``, unless another one does; whether ``holder`` now leads."""
    now = clock.now()
    until = now + timedelta(seconds=seconds)
    lanes = SettlementLane.objects.using(_alias())
    lane = lanes.filter(network=network, facilitator=facilitator)
    if lane.filter(Q(holder="") | Q(held_until__lt=now)).update(holder=holder, held_until=until):
        return True
    if lane.exists():
        return False
    _, created = lanes.get_or_create(
        network=network,
        facilitator=facilitator,
        defaults={"holder": holder, "held_until": until},
    )
    return created


def leave_lane(network: str, facilitator: str, holder: str) -> None:
    """Let another one lead, if ``holder`` still does."""
    SettlementLane.objects.using(_alias()).filter(
        network=network, facilitator=facilitator, holder=holder
    ).update(holder="", held_until=clock.now())


def enqueue(network: str, facilitator: str, payment_ids: Iterable[int]) -> None:
    """Let payments be taken by whoever leads. Those that wait or ride already stay as they are."""
    now = clock.now()
    ChainTransactionItem.objects.using(_alias()).bulk_create(
        [
            ChainTransactionItem(
                payment_id=payment_id, network=network, facilitator=facilitator, created_at=now
            )
            for payment_id in payment_ids
        ],
        ignore_conflicts=True,
    )


def waiting(
    network: str, facilitator: str, *, limit: int, besides: Collection[int]
) -> list[Payment]:
    """Payments that wait, oldest first, not counting those of ``besides``."""
    if limit <= 0:
        return []
    items = (
        ChainTransactionItem.objects.using(_alias())
        .filter(network=network, facilitator=facilitator, status=Status.WAITING)
        # Whoever waited may be dead, and the payment long decided.
        .filter(payment__state=Payment.State.SETTLING, payment__scheme=SCHEME_EXACT)
        .order_by("pk")
        .values_list("payment_id", flat=True)
    )
    # Filtered here: a long NOT IN is dearer, and there are at most as many as one group takes.
    wanted = [key for key in items[: limit + len(besides)] if key not in besides][:limit]
    if not wanted:  # mostly, so the rows themselves are a second question
        return []
    found = Payment.objects.using(_alias()).defer("response_body").in_bulk(wanted)
    return [found[key] for key in wanted]


def excuse(payment_ids: Iterable[int]) -> None:
    """Leave payments that wait to their owners: they would not settle with the others."""
    ChainTransactionItem.objects.using(_alias()).filter(
        payment_id__in=list(payment_ids), status=Status.WAITING
    ).update(status=Status.ALONE)


def places(payment_ids: Iterable[int]) -> dict[int, ChainTransactionItem]:
    """The live items of payments, by payment."""
    items = ChainTransactionItem.objects.using(_alias()).filter(
        payment_id__in=list(payment_ids), status__in=LIVE
    )
    return {item.payment_id: item for item in items}


def riding(payment_ids: Iterable[int]) -> frozenset[int]:
    """Those that ride in a transaction which is not over."""
    found = places(payment_ids)
    return frozenset(key for key, item in found.items() if item.status == Status.RIDING)


def withdraw(payment_id: int) -> bool:
    """Take a payment out of the queue. False if it rides: then it may be settled yet."""
    items = ChainTransactionItem.objects.using(_alias()).filter(payment_id=payment_id)
    items.filter(status__in=QUEUED).delete()
    return not items.filter(status=Status.RIDING).exists()


def mark_missed(transaction_id: int, payment_ids: Iterable[int]) -> None:
    """The transaction is over and has not settled these payments: they may ride again."""
    ChainTransactionItem.objects.using(_alias()).filter(
        chain_transaction_id=transaction_id,
        payment_id__in=list(payment_ids),
        status=Status.RIDING,
    ).update(status=Status.MISSED)


def _alias() -> str:
    return router.db_for_write(ChainTransactionItem)
