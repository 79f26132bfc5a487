"""The transitions a payment can make, and the only function that makes them.

    claimed ─▶ verified ─▶ settling ─▶ settled ─▶ final ─▶ refunded
       │           │           │          └─▶ reversed ─▶ settling
       ▼           ▼           ├─▶ failed
    rejected    released,      ├─▶ expired
                waived         │
                               └─▶ released, or verified    provably nothing was sent

    failed, rejected, released ─▶ settled                   found on chain after all

``waived``: the view has charged nothing (the scheme ``upto``); the authorization is spent here all
the same. ``released`` and ``rejected`` may be claimed again: the payer was not charged.

Some arrows go beyond the first design. *settling → released*: the facilitator could not be
reached at all, or the outbox wrote nothing, so nothing can have moved and the payer may simply
retry; *settling → verified*: the same, but what was sold is delivered already (the flow
``deferred``), so the payment waits for the next batch. *… → settled*: a facilitator that was
shown a signed authorization said no, or was let go, and settled all the same; the money is here,
so the payer is owed.

A transition is one conditional UPDATE. It takes the row's lock and compares state and attempt in
the same statement, which is what SELECT FOR UPDATE, re-check, save would do in three, and holds
on SQLite too, where SELECT FOR UPDATE does nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.db import router
from django.db.models import F, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact

from x402_django import clock
from x402_django.exceptions import InvalidTransition
from x402_django.models import Payment, PaymentEvent, Receipt
from x402_django.models.statements import Guard, durable_statement, move
from x402_django.payments.announcements import announce

logger = logging.getLogger("x402_django.payments")

State = Payment.State

TRANSITIONS: Final[dict[str, frozenset[str]]] = {
    State.CLAIMED: frozenset({State.VERIFIED, State.REJECTED, State.RELEASED}),
    State.VERIFIED: frozenset({State.SETTLING, State.RELEASED, State.WAIVED}),
    State.SETTLING: frozenset(
        {State.SETTLED, State.FAILED, State.EXPIRED, State.RELEASED, State.VERIFIED}
    ),
    State.SETTLED: frozenset({State.FINAL, State.REVERSED, State.REFUNDED}),
    State.FINAL: frozenset({State.REFUNDED}),
    State.REVERSED: frozenset({State.SETTLING}),
    State.FAILED: frozenset({State.SETTLED}),
    State.RELEASED: frozenset({State.CLAIMED, State.SETTLED}),
    State.REJECTED: frozenset({State.CLAIMED, State.SETTLED}),
    State.EXPIRED: frozenset(),
    State.REFUNDED: frozenset(),
    State.WAIVED: frozenset(),
}


#: The money has arrived.
PAID: Final = (State.SETTLED, State.FINAL)
#: What the chain may still change by itself.
OPEN: Final = (State.SETTLING, State.SETTLED, State.REVERSED)


@dataclass(frozen=True, slots=True)
class Step:
    """One transition to make, and why. ``code`` is machine-readable, ``reason`` a sentence."""

    to: str
    reason: str = ""
    code: str = ""


def advance(
    payment: Payment,
    *steps: Step,
    actor: str,
    receipt: Receipt | None = None,
    new_attempt: bool = False,
    guard: Guard | None = None,
    beside: Callable[[], bool] | None = None,
    **fields: Any,
) -> None:
    """Make ``steps`` one after another, durably, bring ``payment`` up to date, send the signals.

    ``fields`` are saved with the row; ``receipt`` is inserted in the same transaction;
    ``new_attempt`` starts a new attempt, which locks out whoever held the row before; ``guard``
    is a further condition on the database, checked in the same statement; ``beside`` writes more
    in the same transaction, and undoes all of it by returning False.

    Raises InvalidTransition when the machine does not draw a step, the row has moved on in the
    database (then ``payment`` is stale) or the guard does not hold; nothing was written then.
    """
    now = clock.now()
    events = _events(payment, steps, actor, now)
    attempt = payment.attempt + 1 if new_attempt else payment.attempt
    values = {"state": steps[-1].to, "state_changed_at": now, "attempt": attempt, **fields}
    rows = events if receipt is None else [*events, receipt]
    if not move(router.db_for_write(Payment), payment, values, rows, guard, beside):
        raise InvalidTransition(
            f"Payment {payment.public_id} is no longer {payment.state} (attempt "
            f"{payment.attempt}); another worker has it."
        )
    delivered = payment.delivered_at is None and values.get("delivered_at") is not None
    for name, value in values.items():
        setattr(payment, name, value)
    announce(payment, [(e.from_state, e.to_state) for e in events], delivered=delivered)


def _events(payment: Payment, steps: tuple[Step, ...], actor: str, now: Any) -> list[PaymentEvent]:
    events = []
    state = payment.state
    for step in steps:
        if step.to not in TRANSITIONS[state]:
            raise InvalidTransition(f"A payment cannot go from {state} to {step.to}.")
        events.append(
            PaymentEvent(
                payment=payment,
                at=now,
                from_state=state,
                to_state=step.to,
                code=step.code,
                reason=step.reason[:500],
                actor=actor,
            )
        )
        state = step.to
    return events


def annotate(payment: Payment, **fields: Any) -> bool:
    """Save ``fields`` without a transition, if the row is still as ``payment`` says.

    For facts beside the state (delivery, an unknown outcome, a stored response). What is settled
    may become final at any moment; that is no reason to forget what was delivered. What is
    delivered already is not delivered again. Returns whether the row was written; ``payment`` is
    brought up to date if so.
    """
    alias = router.db_for_write(Payment)
    states = PAID if payment.state in PAID else (payment.state,)
    rows = Payment.objects.using(alias).filter(
        _is_row(payment), pk=payment.pk, state__in=states, attempt=payment.attempt
    )
    delivered = payment.delivered_at is None and fields.get("delivered_at") is not None
    if delivered:
        rows = rows.filter(delivered_at__isnull=True)
    with durable_statement(alias):
        written = rows.update(**fields)
    if written:
        for name, value in fields.items():
            setattr(payment, name, value)
        announce(payment, (), delivered=delivered)
    return bool(written)


def take_over(payment: Payment, **fields: Any) -> bool:
    """Start a new attempt in the present state: whoever worked on the row before is locked out.

    Only one of several callers with the same view of the row succeeds.
    """
    alias = router.db_for_write(Payment)
    with durable_statement(alias):
        written = (
            Payment.objects.using(alias)
            .filter(
                _is_row(payment),
                pk=payment.pk,
                state=payment.state,
                attempt=payment.attempt,
                delivered_at__isnull=True,
                refunding_at__isnull=True,
            )
            .update(attempt=F("attempt") + 1, **fields)
        )
    if written:
        payment.attempt += 1
        for name, value in fields.items():
            setattr(payment, name, value)
    return bool(written)


def _is_row(payment: Payment) -> Exact:
    """Whether the row with the key of ``payment`` is its row.

    A database server that failed may have lost a claim (see ``claims``) and with it the knowledge
    that a key was taken; the next claim may have got the same one. Written so that no index is
    used for it: the key finds the row.
    """
    return Exact(Coalesce("public_id", Value("")), payment.public_id)
