"""The transitions that a refund can make; each is one conditional write with its event."""

from __future__ import annotations

from typing import Any, Final

from django.db import router, transaction

from x402_django import clock
from x402_django.exceptions import InvalidTransition
from x402_django.models import Payment, Refund, RefundEvent

State = Refund.State

TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    State.REQUESTED: frozenset({State.APPROVED, State.REJECTED}),
    State.APPROVED: frozenset({State.SENDING, State.SENT, State.REJECTED}),
    State.SENDING: frozenset({State.SENT, State.FINAL, State.FAILED}),
    State.SENT: frozenset({State.SENDING, State.FINAL, State.FAILED}),
    State.FINAL: frozenset(),
    State.REJECTED: frozenset(),
    State.FAILED: frozenset(),
}


def move(
    refund: Refund, to: str, *, actor: str, reason: str = "", code: str = "", **fields: Any
) -> None:
    """Move ``refund`` on, with its event, in one transaction, and bring it up to date.

    What is over without having moved money no longer stands in the way of delivery. Raises
    InvalidTransition where the arrow is not drawn or somebody else has moved it; nothing was
    written then.
    """
    if to not in TRANSITIONS[refund.state]:
        raise InvalidTransition(f"A refund cannot go from {refund.state} to {to}.")
    alias = router.db_for_write(Refund)
    now = clock.now()
    values = {"state": to, "state_changed_at": now, **fields}
    with transaction.atomic(using=alias):
        rows = Refund.objects.using(alias).filter(pk=refund.pk, state=refund.state)
        if not rows.update(**values):
            raise InvalidTransition(f"Refund {refund.public_id} is no longer {refund.state}.")
        write_event(refund, refund.state, to, actor=actor, reason=reason, code=code)
        if to in (State.REJECTED, State.FAILED) and refund.ends_debt:
            Payment.objects.using(alias).filter(pk=refund.payment_id).update(refunding_at=None)
    for name, value in values.items():
        setattr(refund, name, value)


def write_event(
    refund: Refund, before: str, after: str, *, actor: str, reason: str = "", code: str = ""
) -> None:
    """Write a transition down; in the transaction that makes it."""
    RefundEvent.objects.using(router.db_for_write(RefundEvent)).create(
        refund=refund,
        at=clock.now(),
        from_state=before,
        to_state=after,
        code=code,
        reason=reason[:500],
        actor=actor[:150],
    )
