"""When nobody waits for a settlement any more, so that the periodic tasks may finish it."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q

from x402_django import clock
from x402_django.conf import x402
from x402_django.models import Payment
from x402_django.payments.entitlements import dead_since

State = Payment.State


def stale_settling() -> Q:
    """Payments whose outcome is unknown, or whose worker must have died, as a condition."""
    return Q(state=State.SETTLING) & (
        Q(outcome_unknown_at__isnull=False, state_changed_at__lt=looked_at_before())
        | Q(state_changed_at__lt=dead_since())
    )


def is_stale(payment: Payment) -> bool:
    """``stale_settling`` of one payment."""
    if payment.state != State.SETTLING:
        return False
    unknown = payment.outcome_unknown_at is not None
    return (unknown and payment.state_changed_at < looked_at_before()) or (
        payment.state_changed_at < dead_since()
    )


def looked_at_before() -> datetime:
    """What was looked at since then needs no second look in this run."""
    return clock.now() - timedelta(seconds=x402.confirmation_interval / 2)
