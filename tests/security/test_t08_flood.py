"""Threat 8: a flood of payments of which most will fail makes views run for nothing."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from django.db import connection, connections

from tests.payments.support import ago, signed_payment, stored
from tests.shop.runs import runs
from x402_django.models import Payment
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer, PayingClient

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bounded(settings):
    def bound(**values):
        settings.X402 = {**settings.X402, **values}

    return bound


def refused(response) -> bool:
    return (
        response.status_code == 429
        and response.json()["error"] == "too_many_payments_in_flight"
        and response["Retry-After"] == "2"
        and response["Cache-Control"] == "no-store"
    )


def test_t08_a_payer_has_so_many_payments_on_their_way_and_no_more(bounded, payer):
    bounded(MAX_IN_FLIGHT_PER_PAYER=3)
    for state in ("claimed", "verified", "settling"):
        stored(state, signed_payment(payer))
    buyer = PayingClient(payer=payer, automatic=False)

    assert refused(buyer.pay("GET", "/weather/"))
    assert (runs["weather"], Payment.objects.count()) == (0, 3)
    assert InstantFacilitator.settled == []
    stranger = PayingClient(automatic=False).pay("GET", "/weather/")
    assert (stranger.status_code, runs["weather"]) == (200, 1)

    Payment.objects.filter(state="verified").update(state="released")
    assert buyer.pay("GET", "/weather/").status_code == 200


def test_t08_a_refused_payment_is_taken_later(bounded, payer):
    bounded(MAX_IN_FLIGHT_PER_PAYER=1)
    first = stored("settling", signed_payment(payer))
    buyer = PayingClient(payer=payer, automatic=False)
    headers = payer.headers_for(buyer.get("/weather/"))
    assert refused(buyer.get("/weather/", headers=headers))

    Payment.objects.filter(pk=first.pk).update(state="failed", state_changed_at="2020-01-01T00:00Z")
    assert buyer.get("/weather/", headers=headers).status_code == 200


def test_t08_what_was_let_go_is_no_way_around_it(bounded, payer):
    """A released payment is claimed again without being inserted."""
    bounded(MAX_IN_FLIGHT_PER_PAYER=1)
    buyer = PayingClient(payer=payer, automatic=False, raise_request_exception=False)
    headers = payer.headers_for(buyer.get("/broken/"))
    assert buyer.get("/broken/", headers=headers).status_code == 500
    assert Payment.objects.get().state == "released"
    stored("verified", signed_payment(payer))

    assert refused(buyer.get("/broken/", headers=headers))
    assert runs["broken"] == 1


def test_t08_what_is_delivered_or_done_is_not_on_its_way(bounded, payer):
    bounded(MAX_IN_FLIGHT_PER_PAYER=1, MAX_IN_FLIGHT=1)
    for state in ("settled", "final", "released", "rejected"):
        stored(state, signed_payment(payer))
    deferred = stored("verified", signed_payment(payer), flow="deferred")
    Payment.objects.filter(pk=deferred.pk).update(delivered_at=deferred.created_at)
    assert PayingClient(payer=payer, automatic=False).pay("GET", "/weather/").status_code == 200


def test_t08_all_payers_together_have_a_bound_too(bounded):
    bounded(MAX_IN_FLIGHT=4)
    for _ in range(4):
        stored("verified", signed_payment(Payer()))
    assert refused(PayingClient(automatic=False).pay("GET", "/weather/"))
    assert (runs["weather"], Payment.objects.count()) == (0, 4)


def test_t08_a_facilitator_that_is_down_does_not_close_the_shop(bounded):
    """Nobody works on what is unknown; it counts against its payer alone."""
    bounded(MAX_IN_FLIGHT=2, MAX_IN_FLIGHT_PER_PAYER=2)
    unlucky = Payer()
    for _ in range(2):
        stored("settling", signed_payment(unlucky), outcome_unknown_at=ago(60))
    assert refused(PayingClient(payer=unlucky, automatic=False).pay("GET", "/weather/"))
    assert PayingClient(automatic=False).pay("GET", "/weather/").status_code == 200


def test_t08_a_flood_runs_the_view_as_often_as_is_bound(bounded, payer, monkeypatch):
    """Sixteen at once, while the view of each waits: what arrives later is refused before it."""
    bounded(MAX_IN_FLIGHT_PER_PAYER=4)
    buyer = PayingClient(payer=payer, automatic=False)
    offered = [payer.headers_for(buyer.get("/weather/")) for _ in range(16)]
    gate = threading.Semaphore(1)  # one claim after the other: what the bound promises exactly

    def buy(headers):
        try:
            client = PayingClient(payer=payer, automatic=False)
            return client.get("/weather/", headers=headers).status_code
        finally:
            connections.close_all()

    def hold(facilitator, *arguments):
        gate.release()
        assert done.wait(20)
        return settle(facilitator, *arguments)

    done = threading.Event()
    settle = InstantFacilitator.settle
    monkeypatch.setattr(InstantFacilitator, "settle", hold)
    with ThreadPoolExecutor(16) as pool:
        answers = []
        for headers in offered:
            assert gate.acquire(timeout=20)
            answer = pool.submit(buy, headers)
            answer.add_done_callback(lambda _: gate.release())
            answers.append(answer)
        assert gate.acquire(timeout=20)
        done.set()
        statuses = sorted(answer.result() for answer in answers)
    assert statuses == [200] * 4 + [429] * 12
    assert runs["weather"] == 4


def test_t08_dear_views_are_paid_before_they_run(bounded, payer):
    bounded(UPFRONT_ABOVE="0.01")
    buyer = PayingClient(payer=payer, automatic=False)
    assert buyer.pay("GET", "/weather/").status_code == 200
    assert Payment.objects.latest("pk").flow == "authorization"  # a cent is not above a cent

    bounded(UPFRONT_ABOVE=Decimal("0.009"))
    assert buyer.pay("GET", "/weather/").status_code == 200
    assert Payment.objects.latest("pk").flow == "upfront"


def test_t08_the_bound_is_read_from_an_index(payer):
    """SQLite may choose another one, for want of statistics."""
    from x402_django.models.in_flight import condition

    columns = {field.name: field.column for field in Payment._meta.local_concrete_fields}
    where = condition((True, True), payment=Payment._meta.db_table, **columns)
    explain = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET enable_seqscan = off")
        cursor.execute(f"{explain} SELECT 1 WHERE 1=1 {where}", [payer.address, 64, 64, 9, 9])
        plan = " ".join(str(row) for row in cursor.fetchall())
        if connection.vendor == "postgresql":
            cursor.execute("RESET enable_seqscan")
    assert "x402_payment_in_flight_idx" in plan or connection.vendor == "sqlite", plan
    assert not re.search(r"SCAN x402_django_payment|Seq Scan|x402_payment_kind_idx", plan), plan
