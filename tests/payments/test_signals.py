"""Outward events: after the commit, once for each write, and never in money's way."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from tests.payments.hearing import NAMES, hearing
from tests.payments.support import ago, stored
from x402_django import clock, signals
from x402_django.exceptions import InvalidTransition, SettlementFailed
from x402_django.models import Payment, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.machine import Step, advance, annotate
from x402_django.testing.instant import InstantFacilitator

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def heard():
    """(signal, state in the database) of all that is sent."""
    heard: list[tuple[str, str]] = []

    def hear(name, payment):
        heard.append((name, Payment.objects.get(pk=payment.pk).state))

    with hearing(hear):
        yield heard


def test_a_purchase_is_announced_in_its_order(buyer, heard):
    assert buyer.pay("GET", "/weather/").status_code == 200
    assert heard == [("verified", "settling"), ("settled", "settled"), ("delivered", "settled")]

    buyer.get("/weather/", headers=buyer.last_headers)
    assert len(heard) == 3


def test_upfront_delivery_is_announced_when_the_view_has_answered(buyer, heard):
    assert buyer.pay("GET", "/flaky/").status_code == 500
    assert heard == [("verified", "settling"), ("settled", "settled")]
    assert buyer.get("/flaky/", headers=buyer.last_headers).status_code == 200
    assert heard[2:] == [("delivered", "settled")]


def test_a_stream_is_delivered_when_it_was_taken(buyer, heard):
    response = buyer.pay("GET", "/stream/")
    assert [name for name, _ in heard] == ["verified", "settled"]
    assert response.getvalue() == b"one two three"
    assert [name for name, _ in heard] == ["verified", "settled", "delivered"]


def test_a_failed_settlement_is_announced(buyer, heard):
    InstantFacilitator.script["settle"] = [SettlementFailed()]
    assert buyer.pay("GET", "/weather/").status_code == 402
    assert heard == [("verified", "settling"), ("failed", "failed")]


def test_what_is_released_or_rejected_is_not_announced(buyer, heard):
    buyer.pay("GET", "/broken/")
    assert Payment.objects.get().state == "released"
    assert heard == []


@pytest.mark.parametrize(
    ("start", "end", "name"),
    [
        ("settled", "final", "confirmed"),
        ("settled", "reversed", "reversed"),
        ("settling", "expired", "failed"),
    ],
)
def test_what_the_chain_decides_is_announced(heard, start, end, name):
    advance(stored(start), Step(end), actor="test")
    assert heard == [(name, end)]


def test_back_to_the_queue_is_not_verified_again(heard):
    advance(stored("settling"), Step("verified"), actor="test")
    assert heard == []


def test_what_was_not_written_is_not_announced(heard):
    stale = stored("settled")
    advance(Payment.objects.get(), Step("reversed"), actor="test")
    heard.clear()
    with pytest.raises(InvalidTransition):
        advance(stale, Step("final"), actor="test")
    assert annotate(stale, delivered_at=clock.now()) is False
    assert heard == []


def test_two_processes_that_deliver_at_once_announce_it_once(heard):
    stored("settled")
    first, second = Payment.objects.get(), Payment.objects.get()
    assert annotate(first, delivered_at=clock.now())
    assert not annotate(second, delivered_at=clock.now() + timedelta(seconds=1))
    assert heard == [("delivered", "settled")]
    assert Payment.objects.get().delivered_at == first.delivered_at


def test_delivery_is_announced_once(heard):
    payment = stored("settled")
    annotate(payment, delivered_at=clock.now())
    annotate(payment, delivered_at=clock.now())
    annotate(payment, response_status=200)
    assert heard == [("delivered", "settled")]


def test_confirmation_announces(heard, chain_says):
    stored("settled", state_changed_at=ago(100))
    chain_says.paid(confirmations=3)
    confirm_pending_payments()
    assert heard == [("confirmed", "final")]


def test_a_receiver_that_fails_is_logged_and_breaks_nothing(buyer, caplog, heard):
    def fail(**kwargs):
        raise RuntimeError("the receiver fails")

    connected = [getattr(signals, f"payment_{name}") for name in NAMES]
    for signal in connected:
        signal.connect(fail)
    try:
        with caplog.at_level(logging.ERROR, "django.dispatch"):
            response = buyer.pay("GET", "/weather/")
    finally:
        for signal in connected:
            signal.disconnect(fail)
    assert response.status_code == 200
    assert Receipt.objects.count() == 1
    assert len(heard) == 3
    assert len([r for r in caplog.records if r.name == "django.dispatch"]) == 3
