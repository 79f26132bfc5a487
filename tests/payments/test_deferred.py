"""Settling in the background: each payment once, whatever dies, whoever else is at it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from threading import Barrier

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.test import Client

from tests.payments.support import ago, history, offer, signed_payment, soon, stored, unsaved
from tests.payments.test_kills import Killed, chain, reaping  # noqa: F401 - chain is a fixture
from tests.settings import X402
from x402_django import clock, tasks
from x402_django.chain import evidence
from x402_django.chain.evidence import Evidence
from x402_django.exceptions import (
    ConfigurationError,
    FacilitatorUnavailable,
    InvalidTransition,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.models import Payment, Receipt
from x402_django.models.exposure import exposure_guard
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.deferred import settle_deferred
from x402_django.payments.maintenance import release_stale_claims
from x402_django.protocol.types import Settlement
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import PayingClient, settlement_of

pytestmark = pytest.mark.django_db(transaction=True)


class BatchFacilitator(InstantFacilitator):
    """Settles many together, and remembers how many."""

    batches: list[list[int]] = []
    answers: list[object] = []

    def settle_many(self, batch):
        self.batches.append([payment.pk for _, payment in batch])
        assert {payment.state for _, payment in batch} == {"settling"}
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer
        return super().settle_many(batch)


@pytest.fixture
def batching(settings):
    BatchFacilitator.batches, BatchFacilitator.answers = [], []
    path = "tests.payments.test_deferred.BatchFacilitator"
    settings.X402 = {**X402, "FACILITATORS": {"default": {"BACKEND": path}}}
    return BatchFacilitator


def owed(signed=None, **changes) -> Payment:
    """Delivered under ``deferred``, not settled."""
    defaults = {"flow": "deferred", "delivered_at": ago(5), "state_changed_at": ago(5)}
    return stored(changes.pop("state", "verified"), signed, **{**defaults, **changes})


def states() -> Counter[str]:
    return Counter(Payment.objects.values_list("state", flat=True))


def test_oldest_first_in_batches_of_one_facilitator_and_network(batching, monkeypatch):
    monkeypatch.setattr("x402_django.payments.batches.BATCH_SIZE", 3)
    rows = [owed(state_changed_at=ago(age)) for age in (10, 50, 30, 40, 20)]
    stored("verified", flow="authorization")

    assert settle_deferred(limit=4).settled == 4

    assert batching.batches == [[rows[1].pk, rows[3].pk, rows[2].pk], [rows[4].pk]]
    assert states() == {"settled": 4, "verified": 2}
    assert settle_deferred().settled == 1
    assert history(rows[1]) == [("verified", "settling"), ("settling", "settled")]
    assert Receipt.objects.count() == 5
    # Who settles one by one is given one by one, or the last would be taken for dead.
    assert InstantFacilitator.calls["settle"] == 5


def test_each_payment_of_a_batch_is_judged_by_itself(batching, chain_says):
    rows = [owed() for _ in range(5)]
    batching.answers = [
        [
            Settlement("0x" + "1" * 64, 1, "0x" + "2" * 64, 0),
            SettlementFailed(code="insufficient_funds"),
            SettlementUnknown(transaction="0x" + "3" * 64),
            FacilitatorUnavailable(),
            ConfigurationError("The wallet is gone."),
        ]
    ]

    report = settle_deferred()

    assert str(report) == "settled: 1, failed: 1, unknown: 2, waiting: 1"
    for row in rows:
        row.refresh_from_db()
    assert [row.state for row in rows] == [
        "settled", "failed", "settling", "verified", "settling",
    ]  # fmt: skip
    assert rows[1].failure_code == "insufficient_funds"
    assert rows[2].transaction == "0x" + "3" * 64
    assert [row.outcome_unknown_at is not None for row in rows] == [False, False, True, False, True]
    assert history(rows[3])[-1] == ("settling", "verified")
    assert all(row.delivered_at is not None for row in rows)


def test_a_lie_about_success_settles_nothing(batching, chain_says, untrusted):
    batching.answers = [[Settlement("0x" + "1" * 64, 1, None, 0)]]
    row = owed()
    began = time.monotonic()
    assert settle_deferred().unknown == 1
    assert time.monotonic() - began < 2  # nobody waits for the chain here
    row.refresh_from_db()
    assert (row.state, row.transaction) == ("settling", "0x" + "1" * 64)
    assert not Receipt.objects.exists()


@pytest.mark.parametrize("answer", [RuntimeError("broken"), [], [SettlementFailed()] * 3])
def test_a_batch_that_breaks_off_is_of_unknown_outcome(batching, chain_says, answer):
    batching.answers = [answer]
    for _ in range(2):
        owed()
    assert settle_deferred().unknown == 2
    assert Payment.objects.filter(state="settling", outcome_unknown_at__isnull=False).count() == 2


def test_a_facilitator_out_of_reach_is_asked_once_and_its_payments_wait():
    for _ in range(5):
        owed()
    InstantFacilitator.script["settle"] = [FacilitatorUnavailable()]
    assert str(settle_deferred()) == "settled: 0, failed: 0, unknown: 0, waiting: 5"
    assert InstantFacilitator.calls["settle"] == 1
    assert states() == {"verified": 5}
    assert settle_deferred().settled == 5


def test_a_facilitator_that_is_no_longer_configured_holds_up_nobody_else(caplog):
    owed(facilitator="gone")
    owed()
    with caplog.at_level(logging.ERROR, "x402_django.payments"):
        assert str(settle_deferred()) == "settled: 1, failed: 0, unknown: 0, waiting: 1"
    assert "'gone'" in caplog.text
    assert states() == {"verified": 1, "settled": 1}


def test_an_unknown_outcome_is_resolved_from_the_chain(chain_says, settings):
    settings.X402 = {**X402, "CONFIRMATION_INTERVAL": 0}
    row = owed()
    InstantFacilitator.script["settle"] = [SettlementUnknown()]
    assert settle_deferred().unknown == 1
    chain_says.paid(confirmations=1)
    assert settle_deferred().settled == 0
    confirm_pending_payments()
    row.refresh_from_db()
    assert row.state in ("settled", "final")
    assert Receipt.objects.get().payment == row
    assert InstantFacilitator.calls["settle"] == 1


def test_what_a_dead_worker_took_is_settled_together(batching, chain_says, monkeypatch):
    """One after another each would wait for a block of its own, and some would expire."""
    monkeypatch.setattr("x402_django.payments.batches.BATCH_SIZE", 4)
    rows = [owed(state="settling", state_changed_at=ago(100 - age)) for age in range(9)]
    alive = owed(state="settling")
    paid_elsewhere = owed(state="settling", state_changed_at=ago(200))
    one_of_them = chain_says.find_settlement

    def find_settlement(signed, **where):
        if signed.nonce == paid_elsewhere.nonce:
            return Evidence("0x" + "ab" * 32, 100, "0x" + "cd" * 32, 0, 1)
        return one_of_them(signed, **where)

    monkeypatch.setattr(evidence, "find_settlement", find_settlement)
    report = confirm_pending_payments()

    assert (report.settled, report.still_unknown) == (10, 0)
    keys = [row.pk for row in rows]
    assert batching.batches == [keys[:4], keys[4:8], keys[8:]]
    assert states() == {"settled": 10, "settling": 1}
    alive.refresh_from_db()
    assert (alive.attempt, alive.outcome_unknown_at) == (1, None)
    assert Receipt.objects.count() == 10


def test_each_of_those_is_judged_by_itself(batching, chain_says):
    rows = [owed(state="settling", state_changed_at=ago(100 - age)) for age in range(3)]
    batching.answers = [
        [
            SettlementFailed(code="insufficient_funds"),
            FacilitatorUnavailable(),
            Settlement("0x" + "1" * 64, 1, "0x" + "2" * 64, 0),
        ]
    ]
    report = confirm_pending_payments()
    assert (report.settled, report.failed, report.still_unknown) == (1, 1, 1)
    for row in rows:
        row.refresh_from_db()
    assert [row.state for row in rows] == ["failed", "settling", "settled"]


def test_one_too_late_is_judged_by_the_chain_alone(chain_says):
    def late(seconds):
        return owed(signed_payment(valid_before=soon(-seconds)))

    row = late(200)
    assert settle_deferred().failed == 1
    row.refresh_from_db()
    assert (row.state, row.failure_code) == (
        "expired",
        "invalid_exact_evm_payload_authorization_valid_before",
    )
    row = late(10)
    assert settle_deferred().unknown == 1
    row.refresh_from_db()
    assert row.state == "settling"
    row = late(200)
    chain_says.paid()
    assert settle_deferred().settled == 1  # submitted by somebody else, in time
    assert InstantFacilitator.calls["settle"] == 0


@pytest.mark.parametrize("workers", [2, 6])
def test_several_workers_at_once_settle_each_payment_once(batching, workers, monkeypatch):
    monkeypatch.setattr("x402_django.payments.batches.BATCH_SIZE", 4)
    for _ in range(30):
        owed()
    barrier = Barrier(workers)

    def work(_):
        try:
            barrier.wait(20)
            return settle_deferred().settled
        finally:
            connections.close_all()

    with ThreadPoolExecutor(workers) as pool:
        assert sum(pool.map(work, range(workers))) == 30
    assert states() == {"settled": 30}
    assert Counter(InstantFacilitator.settled).most_common(1)[0][1] == 1
    assert len(InstantFacilitator.settled) == Receipt.objects.count() == 30


def test_the_worker_may_be_killed_anywhere(chain):  # noqa: F811
    kills = 0
    while True:
        Payment.objects.exclude(state__in=("settled", "final")).update(state="released")
        rows = [owed(signed_payment(valid_before=soon(10**6))) for _ in range(2)]
        with reaping(chain, kills + 1):
            try:
                settle_deferred()
                killed = False
            except Killed:
                killed = True
        if not killed:
            break
        kills += 1
        for hours in range(1, 4):
            with clock.shifted(timedelta(seconds=1000 * hours)):
                release_stale_claims()
                settle_deferred()
                confirm_pending_payments()
        for row in rows:
            row.refresh_from_db()
            assert row.state in ("settled", "final"), f"killed at point {kills}"
            assert chain.moved[row.nonce] == 1
            assert Receipt.objects.filter(payment=row).count() == 1
    assert kills >= 8


@pytest.mark.urls("tests.http.deferred_views")
def test_the_request_may_be_killed_anywhere(chain, settings):  # noqa: F811
    settings.X402 = {**X402, "DEFERRED_MIN_SETTLED": 0}
    kills = 0
    while True:
        client = PayingClient()
        headers = client.payer.headers_for(Client().get("/tick/"), validBefore=str(soon(10**6)))
        with reaping(chain, kills + 1):
            try:
                client.get("/tick/", headers=headers)
                killed = False
            except Killed:
                killed = True
        if not killed:
            break
        kills += 1
        told = []
        for hours in range(4):
            with clock.shifted(timedelta(seconds=500 * hours)):
                response = client.get("/tick/", headers=headers)
                told.append(response.status_code)
                if response.status_code == 200:
                    break
                release_stale_claims()
        note = f"killed at point {kills}, told {told}"
        assert response.content.startswith(b"tick"), note
        assert 402 not in told, note
        payment = Payment.objects.first()
        assert (payment.state, chain.moved[payment.nonce]) == ("verified", 0), note
        settle_deferred()
        payment.refresh_from_db()
        assert (payment.state, chain.moved[payment.nonce]) == ("settled", 1), note
        assert settlement_of(client.get("/tick/", headers=headers))["success"] is True
    assert kills >= 3


def test_what_is_owed_is_summed_from_an_index_of_its_own(payer):
    """The admission of a payment must not cost more as the ledger grows."""
    Payment.objects.bulk_create(
        unsaved(signed_payment(payer), state="released", flow="deferred") for _ in range(300)
    )
    guard = exposure_guard(
        owed(signed_payment(payer)), Decimal("0.01"), connection=connection,
        per_payer=Decimal(1), total=Decimal(1), min_settled=1, failed_since=ago(10),
    )  # fmt: skip
    explain = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        if connection.vendor == "postgresql":
            # What the planner likes depends on how full it believes the table; that the index
            # alone can answer does not.
            cursor.execute("SET enable_seqscan = off")
            cursor.execute("SET enable_bitmapscan = off")
        cursor.execute(f"{explain} SELECT 1 WHERE {guard.condition}", guard.parameters)
        plan = " ".join(str(row) for row in cursor.fetchall())
        if connection.vendor == "postgresql":
            cursor.execute("RESET enable_seqscan")
            cursor.execute("RESET enable_bitmapscan")
    covering = "Index Only Scan using" if connection.vendor == "postgresql" else "COVERING INDEX"
    assert plan.count(f"{covering} x402_payment_exposed_idx") == 2, plan
    assert "x402_payment_failed_idx" in plan
    assert "x402_receipt_payer_idx" in plan
    assert "Seq Scan" not in plan


def test_the_task_and_the_command_say_what_they_did(capsys):
    owed()
    assert tasks.settle_deferred() == "settled: 1, failed: 0, unknown: 0, waiting: 0"
    owed()
    owed()
    call_command("x402_settle", limit=1)
    assert capsys.readouterr().out == "settled: 1, failed: 0, unknown: 0, waiting: 0\n"
    assert tasks.beat_schedule()["x402_django.settle_deferred"]["schedule"] == 10


def test_a_batch_has_the_price_of_its_payments_and_not_todays():
    row = owed(signed_payment(of=offer(amount=777)), amount=777)
    settle_deferred()
    assert Receipt.objects.get(payment=row).amount == 777


def test_a_payment_taken_over_meanwhile_is_left_alone(monkeypatch, chain_says):
    from x402_django.payments import deferred

    row = owed()

    def taken_over(payment, *args, **kwargs):
        raise InvalidTransition("another worker has it")

    monkeypatch.setattr(deferred, "judge", taken_over)
    assert settle_deferred().unknown == 1
    row.refresh_from_db()
    assert row.state == "settling"
