"""The state machine: what is drawn happens, durably and once; nothing else does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import IntegrityError, connections, transaction

from tests.payments.support import STATES, ago, history, snapshot, stored
from x402_django import clock
from x402_django.exceptions import InvalidTransition
from x402_django.models import Payment, PaymentEvent, Receipt
from x402_django.payments.machine import TRANSITIONS, Step, advance, annotate, take_over

#: DESIGN section 5, and the arrows that ``machine`` gives reasons for.
DRAWN = {
    ("claimed", "verified"),
    ("claimed", "rejected"),
    ("claimed", "released"),
    ("verified", "settling"),
    ("verified", "released"),
    ("verified", "waived"),
    ("settling", "settled"),
    ("settling", "failed"),
    ("settling", "expired"),
    ("settling", "released"),
    ("settling", "verified"),
    ("settled", "final"),
    ("settled", "reversed"),
    ("settled", "refunded"),
    ("final", "refunded"),
    ("reversed", "settling"),
    ("failed", "settled"),
    ("released", "settled"),
    ("rejected", "settled"),
    ("released", "claimed"),
    ("rejected", "claimed"),
}
NEEDED = {"settled": {"transaction": "0x1", "settled_at": clock.now()}}


def test_the_table_is_the_drawing():
    assert {(a, b) for a, targets in TRANSITIONS.items() for b in targets} == DRAWN
    assert set(TRANSITIONS) == set(STATES)


@pytest.mark.django_db
@pytest.mark.parametrize("start", STATES)
@pytest.mark.parametrize("end", STATES)
def test_only_what_is_drawn_happens(start, end):
    payment = stored(start, state_changed_at=ago(100))
    before = snapshot()
    fields = NEEDED.get(end, {})

    if (start, end) in DRAWN:
        advance(payment, Step(end, "Because.", "why"), actor="test", **fields)
        read = Payment.objects.get()
        assert (read.state, payment.state) == (end, end)
        assert read.state_changed_at == payment.state_changed_at > ago(50)
        event = PaymentEvent.objects.get()
        assert (event.from_state, event.to_state) == (start, end)
        assert (event.reason, event.code, event.actor) == ("Because.", "why", "test")
    else:
        with pytest.raises(InvalidTransition):
            advance(payment, Step(end), actor="test", **fields)
        assert snapshot() == before
        assert payment.state == start
        assert PaymentEvent.objects.count() == 0


@pytest.mark.django_db
def test_several_steps_are_one_write_and_several_events():
    payment = stored()
    advance(payment, Step("verified"), Step("settling"), actor="test")
    assert history(payment) == [("claimed", "verified"), ("verified", "settling")]

    with pytest.raises(InvalidTransition):
        advance(payment, Step("released"), Step("final"), actor="test")
    assert Payment.objects.get().state == "settling"
    assert PaymentEvent.objects.count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize("change", [{"state": "released"}, {"attempt": 2}])
def test_a_stale_holder_cannot_write(change):
    payment = stored()
    Payment.objects.update(**change)
    before = snapshot()

    with pytest.raises(InvalidTransition):
        advance(payment, Step("verified"), actor="test", failure_code="x")
    assert annotate(payment, failure_code="x") is False
    assert take_over(payment, failure_code="x") is False

    assert snapshot() == before
    assert (payment.state, payment.attempt, payment.failure_code) == ("claimed", 1, "")
    assert PaymentEvent.objects.count() == 0


@pytest.mark.django_db
def test_a_new_attempt_locks_out_the_old_holder():
    old = stored("released")
    new = Payment.objects.get()
    advance(new, Step("claimed"), actor="test", new_attempt=True)
    assert new.attempt == 2

    assert annotate(old, failure_code="late") is False
    old.state = "claimed"
    with pytest.raises(InvalidTransition):
        advance(old, Step("verified"), actor="late")
    assert Payment.objects.get().failure_code == ""


@pytest.mark.django_db
def test_delivery_is_recorded_though_the_payment_became_final_meanwhile():
    holder = stored("settled")
    advance(Payment.objects.get(), Step("final"), actor="confirmation")

    assert annotate(holder, delivered_at=clock.now()) is True

    read = Payment.objects.get()
    assert (read.state, read.delivered_at is None) == ("final", False)


@pytest.mark.django_db
@pytest.mark.parametrize("state", ["reversed", "refunded"])
def test_delivery_is_not_recorded_on_what_is_no_longer_paid(state):
    holder = stored("settled")
    advance(Payment.objects.get(), Step(state), actor="confirmation")
    assert annotate(holder, delivered_at=clock.now()) is False
    assert Payment.objects.get().delivered_at is None


@pytest.mark.django_db(transaction=True)
def test_nothing_is_written_inside_somebody_elses_transaction():
    payment = stored("settled")
    before = snapshot()
    for write in (
        lambda: advance(payment, Step("final"), actor="test"),
        lambda: annotate(payment, failure_code="x"),
        lambda: take_over(payment, failure_code="x"),
    ):
        with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
            write()
    assert snapshot() == before
    assert PaymentEvent.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_a_failed_receipt_undoes_the_transition():
    payment = stored("settling")
    before = snapshot()
    incomplete = Receipt(payment=payment)
    with pytest.raises(IntegrityError):
        advance(payment, Step("settled"), actor="test", receipt=incomplete, **NEEDED["settled"])
    assert snapshot() == before
    assert payment.state == "settling"
    assert PaymentEvent.objects.count() == 0


@pytest.mark.django_db
def test_long_reasons_are_cut_to_the_column():
    payment = stored()
    advance(payment, Step("released", "x" * 2000), actor="test")
    assert len(PaymentEvent.objects.get().reason) == 500


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "work",
    [
        lambda payment: advance(payment, Step("final"), actor="test") is None,
        lambda payment: take_over(payment, delivery_started_at=clock.now()),
    ],
    ids=["advance", "take_over"],
)
def test_of_twelve_workers_at_once_one_writes(work):
    stored("settled")
    barrier = Barrier(12)

    def run(_):
        try:
            payment = Payment.objects.get()
            barrier.wait(20)
            try:
                return bool(work(payment))
            except InvalidTransition:
                return False
        finally:
            connections.close_all()

    with ThreadPoolExecutor(12) as pool:
        assert sorted(pool.map(run, range(12))) == [False] * 11 + [True]
