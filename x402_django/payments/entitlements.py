"""What a payment that was presented before entitles its owner to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import FLOW_DEFERRED, Code
from x402_django.exceptions import PaymentRefused
from x402_django.models import Payment
from x402_django.payments.machine import take_over

State = Payment.State


class Entitlement(Enum):
    """What presenting a payment entitles this request to."""

    VERIFY = "verify"  # ours, newly: verify it and go on
    DELIVER = "deliver"  # paid and owed: run the view, free
    REPLAY = "replay"  # done: the stored response
    RESOLVE = "resolve"  # its outcome is unknown: look at the chain
    WAIT = "wait"  # another worker has it: 409


@dataclass(slots=True)
class Claim:
    """The outcome of ``claims.claim``. ``payment`` may be an earlier one than was presented."""

    entitlement: Entitlement
    payment: Payment


def dead_since() -> datetime:
    """A settling row untouched since before this belongs to a process that has died."""
    return clock.now() - timedelta(seconds=x402.presumed_dead_after)


def entitlement_of(payment: Payment) -> Claim:
    """What the owner of ``payment`` may have, presenting it once more on the same request."""
    if _is_delivered_on_trust(payment):
        return _entitlement_of_delivered(payment)
    if payment.state in (State.CLAIMED, State.VERIFIED):
        return Claim(Entitlement.WAIT, payment)
    if payment.state == State.SETTLING:
        unknown = payment.outcome_unknown_at is not None
        dead = payment.state_changed_at < dead_since()
        return Claim(Entitlement.RESOLVE if unknown or dead else Entitlement.WAIT, payment)
    if payment.state == State.REVERSED:
        return Claim(Entitlement.RESOLVE, payment)
    if payment.is_paid:
        return _entitlement_of_paid(payment)
    if payment.state == State.WAIVED:
        return _entitlement_of_delivered(payment)
    if payment.state == State.REFUNDED:
        raise PaymentRefused(
            "This payment was given back. Pay again for what it was for.",
            code=Code.PAYMENT_REFUNDED,
        )
    raise PaymentRefused(
        "This payment can no longer be used. Sign a new one.",
        code=payment.failure_code or Code.ALREADY_USED,
    )


def _is_delivered_on_trust(payment: Payment) -> bool:
    """Whether it was delivered under the flow ``deferred`` and waits for its settlement."""
    return (
        payment.flow == FLOW_DEFERRED
        and payment.delivered_at is not None
        and payment.state in (State.VERIFIED, State.SETTLING, State.REVERSED)
    )


def _entitlement_of_paid(payment: Payment) -> Claim:
    if payment.refunding_at is not None:
        raise PaymentRefused(
            "This payment is being given back. Pay again for what it was for.",
            code=Code.PAYMENT_REFUNDED,
        )
    if payment.delivered_at is not None or is_response_kept(payment):
        return _entitlement_of_delivered(payment)
    return take_delivery(payment)


def _entitlement_of_delivered(payment: Payment) -> Claim:
    if is_response_kept(payment):
        return Claim(Entitlement.REPLAY, payment)
    raise PaymentRefused(
        "What this payment bought was delivered. Pay again for another copy.",
        code=Code.ALREADY_USED,
    )


def is_response_kept(payment: Payment) -> bool:
    """Whether its stored response may still be handed out."""
    kept_until = payment.response_expires_at
    return kept_until is not None and kept_until >= clock.now()


def has_session_access(payment: Payment) -> bool:
    """Whether ``payment`` lets its owner in now: paid, not undone, and not too long ago."""
    if not payment.is_paid or payment.settled_at is None:
        return False
    return clock.now() < payment.settled_at + timedelta(seconds=payment.session_access)


def take_delivery(payment: Payment) -> Claim:
    """Become the one worker that runs the view for a paid, undelivered payment."""
    started = payment.delivery_started_at
    if started is not None and started > clock.now() - timedelta(seconds=x402.claim_timeout):
        return Claim(Entitlement.WAIT, payment)
    if take_over(payment, delivery_started_at=clock.now()):
        return Claim(Entitlement.DELIVER, payment)
    return Claim(Entitlement.WAIT, payment)
