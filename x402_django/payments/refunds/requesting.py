"""A refund is asked for, approved and rejected, by people.

What is asked for is checked and written under the lock of the payment's row, so that no number of
clicks at once asks for more than was paid. A refund above ``X402["REFUND_APPROVAL_ABOVE"]`` waits
for somebody else than who asked for it. Small ones add up: what one person has asked for on one
payment, and in one day, counts together.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from django.db import router, transaction
from django.db.models import F, Sum

from x402_django import clock
from x402_django.conf import x402
from x402_django.exceptions import RefundRefused
from x402_django.models import ExactSum, Payment, Refund
from x402_django.payments.entitlements import is_response_kept
from x402_django.payments.refunds.moving import move, write_event

State = Refund.State
_PAID: Final = (Payment.State.SETTLED, Payment.State.FINAL)
_DAY: Final = timedelta(days=1)
_PLACES: Final = Decimal("0.00000001")


def refundable(payment: Payment) -> int:
    """What may still be asked back of ``payment``, in atomic units; 0 where it is not paid."""
    if payment.kind != Payment.Kind.SALE or not payment.is_paid:
        return 0
    live = Refund.objects.filter(payment=payment, state__in=Refund.LIVE)
    return int(payment.amount - (live.aggregate(total=ExactSum("amount"))["total"] or 0))


def request_refund(payment: Payment, amount: int, *, user: Any, reason: str = "") -> Refund:
    """Ask for ``amount`` atomic units of ``payment`` to go back. Approved at once if it is small.

    A whole refund of what was not delivered ends the debt: the payment opens nothing any more.

    Raises RefundRefused, with a sentence for who asked.
    """
    alias = router.db_for_write(Refund)
    with transaction.atomic(using=alias):
        # Takes the row's lock on every database: nobody else asks, or delivers, until the commit.
        rows = Payment.objects.using(alias).filter(
            pk=payment.pk, state__in=_PAID, kind=Payment.Kind.SALE
        )
        if not rows.update(state=F("state")):
            raise RefundRefused("This payment has no money to give back.", code="not_refundable")
        row = Payment.objects.using(alias).defer("response_body").get(pk=payment.pk)
        left = refundable(row)
        if not 0 < amount <= left:
            raise RefundRefused(
                "That is more than is left of this payment." if amount > 0 else "That is nothing.",
                code="refund_too_large" if amount > 0 else "refund_of_nothing",
            )
        is_whole = amount == left
        ends_debt = is_whole and row.delivered_at is None
        if ends_debt:
            _end_debt(row, alias)
        usd = _worth(row, amount)
        waits = _needs_approval(row, usd, user)
        refund = Refund.objects.using(alias).create(
            payment=row,
            merchant=row.merchant,
            state=State.REQUESTED if waits else State.APPROVED,
            state_changed_at=clock.now(),
            amount=amount,
            price_usd=usd,
            network=row.network,
            asset=row.asset,
            asset_symbol=row.asset_symbol,
            asset_decimals=row.asset_decimals,
            payer=row.payer,
            is_whole=is_whole,
            ends_debt=ends_debt,
            reason=reason,
            requested_by=user,
            requested_name=user.get_username(),
            created_at=clock.now(),
        )
        write_event(refund, "", refund.state, actor=user.get_username(), reason=reason)
    return refund


def approve(refund: Refund, *, user: Any) -> None:
    """Let a refund go that waits for a second person.

    Raises RefundRefused for who has asked for it, and InvalidTransition if it does not wait.
    """
    if refund.requested_by_id == user.pk:
        raise RefundRefused(
            "Somebody else must approve what you have asked for.", code="same_person"
        )
    move(
        refund,
        State.APPROVED,
        actor=user.get_username(),
        approved_by=user,
        approved_name=user.get_username(),
    )


def reject(refund: Refund, *, user: Any, reason: str = "") -> None:
    """End a refund that is not on its way. Raises InvalidTransition if it is, or is over."""
    move(refund, State.REJECTED, actor=user.get_username(), reason=reason)


def _end_debt(payment: Payment, alias: str) -> None:
    """What was paid for is not owed any more; whoever began to deliver it is locked out."""
    started = payment.delivery_started_at
    is_running = started is not None and started > clock.now() - timedelta(
        seconds=x402.claim_timeout
    )
    if is_running or is_response_kept(payment):
        raise RefundRefused(
            "This is being delivered at this moment, or may be fetched by the payer. Try again in "
            "a few minutes, or refund a part.",
            code="being_delivered",
        )
    rows = Payment.objects.using(alias).filter(pk=payment.pk, delivered_at__isnull=True)
    rows.update(attempt=F("attempt") + 1, refunding_at=clock.now())


def _worth(payment: Payment, amount: int) -> Decimal | None:
    """What ``amount`` of ``payment`` was worth in dollars, when it was paid."""
    if payment.price_usd is None:
        return None
    if amount == payment.amount:
        return payment.price_usd
    return (payment.price_usd * amount / int(payment.amount)).quantize(_PLACES)


def _needs_approval(payment: Payment, usd: Decimal | None, user: Any) -> bool:
    limit = x402.refund_approval_above
    if limit is None:
        return False
    if usd is None:
        return True
    alone = Refund.objects.filter(approved_by__isnull=True).exclude(
        state__in=(State.REJECTED, State.FAILED, State.REQUESTED)
    )
    on_this = alone.filter(payment=payment)
    today = alone.filter(requested_by=user, created_at__gt=clock.now() - _DAY)
    return any(
        usd + (rows.aggregate(total=Sum("price_usd"))["total"] or 0) > limit
        for rows in (on_this, today)
    )
