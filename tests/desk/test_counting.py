"""Days are the sums of the ledger's rows, whatever happens later, and whoever is killed."""

from __future__ import annotations

import re
import threading
from datetime import date, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client

from tests.admin.rows import START, make_event, make_payment, make_receipt, new_payment
from tests.desk.books import counted, fresh
from tests.desk.histories import Life, give_back, later, settle
from tests.desk.rows import PAGE
from x402_django import clock
from x402_django.desk import counting, following
from x402_django.desk.following import count_days
from x402_django.models import (
    CountedDay,
    DailySales,
    DailyTally,
    DailyTop,
    DeskCursor,
    Merchant,
    Payment,
    PaymentEvent,
    PeriodicRun,
)
from x402_django.payments.machine import Step, advance
from x402_django.payments.pruning import prune
from x402_django.tasks import count_days as task

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def merchants(db: None) -> list[Merchant]:
    return [Merchant.objects.get(), Merchant.objects.create(name="Another")]


def sell(number: int = 1, **changes: Any) -> Payment:
    """A settled sale with its receipt and its event."""
    payment = make_payment(number, **changes)
    make_receipt(payment, merchant=payment.merchant)
    make_event(payment)
    return payment


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/St_Johns"])
@pytest.mark.parametrize("seed", range(4))
def test_after_any_history_the_days_are_those_of_a_fresh_count(
    seed: int, zone: str, merchants: list[Merchant], settings: Any
) -> None:
    settings.TIME_ZONE = zone
    life = Life(seed, merchants)
    for hours in range(0, 24 * 5, 9):
        with later(START, hours=hours):
            life.happen(25)
            if life.dice.random() < 0.6:
                count_days()
                assert counted() == fresh()
    with later(START, hours=24 * 5):
        count_days()
        assert counted() == fresh()
        assert any(counted()[part] for part in ("sales", "tallies", "gas"))
        following.rebuild()
        count_days()
        assert counted() == fresh()


def test_a_reversal_is_taken_from_the_day_of_the_receipt(merchants: list[Merchant]) -> None:
    with later(START):
        payment = sell()
        count_days()
        assert DailySales.objects.get().paid == 1
    with later(START, days=3):
        advance(payment, Step("reversed", "", "reorganised"), actor="test")
        count_days()
        assert not DailySales.objects.exists()
        failure = DailyTally.objects.get(subject="failure")
        assert (failure.day, failure.name) == (date(2026, 3, 4), "reorganised")
        assert not DailyTop.objects.exists()
        assert not DailyTally.objects.filter(subject="latency").exists()
    with later(START, days=5):
        advance(payment, Step("settling"), actor="test")
        settle(payment)
        count_days()
        assert DailySales.objects.get().day == date(2026, 3, 1)


def test_what_was_found_on_chain_after_all_counts_where_its_receipt_is(
    merchants: list[Merchant],
) -> None:
    with later(START):
        payment = make_payment(1, state="failed", transaction="", settled_at=None)
        make_event(payment, to_state="failed", code="invalid_transaction_state")
        count_days()
        assert not DailySales.objects.exists()
    with later(START, days=2):
        settle(payment)
        count_days()
        found = DailySales.objects.get()
        assert (found.day, found.paid, found.usd) == (date(2026, 3, 3), 1, 10**6)
        # It failed then, and that remains so.
        assert DailyTally.objects.get(subject="failure").day == date(2026, 3, 1)


def test_a_refund_is_of_the_day_on_which_it_arrives(merchants: list[Merchant]) -> None:
    with later(START):
        payment = sell(rule_name="Articles")
        count_days()
    with later(START, days=2):
        give_back(payment, 4_000, Decimal("0.004"))
        advance(payment, Step("final"), actor="test")
        advance(payment, Step("refunded"), actor="test")
        count_days()
        assert counted() == fresh()
        days = DailySales.objects.order_by("day").values_list(
            "day", "rule_name", "paid", "usd", "refunds", "refunded", "refunded_usd"
        )
        assert list(days) == [
            (date(2026, 3, 1), "Articles", 1, 10**6, 0, 0, 0),  # the sale stands
            (date(2026, 3, 3), "Articles", 0, 0, 1, 4_000, 400_000),
        ]


def test_what_is_pruned_is_gone_from_its_days(merchants: list[Merchant]) -> None:
    with later(START):
        for number in (1, 2):
            payment = make_payment(
                number, state="failed", transaction="", settled_at=None, delivered_at=None,
                valid_before=1, merchant=merchants[number - 1],
            )  # fmt: skip
            make_event(payment, to_state="failed", code="insufficient_funds")
        sell(3)
        count_days()
        assert DailyTally.objects.filter(subject="failure").count() == 2
    with later(START, days=90):
        assert prune(uncharged=timedelta(days=30), personal=None).uncharged == 2
        count_days()
        assert counted() == fresh()
        assert not DailyTally.objects.filter(subject="failure").exists()
        assert DailySales.objects.get().paid == 1


def test_what_was_settled_for_others_is_nobodys_sale(merchants: list[Merchant]) -> None:
    from x402_django.models import FacilitatorKey

    key = FacilitatorKey.objects.create(name="Other", created_at=START)
    with later(START):
        sell(1, kind="service", service_key=key)
        sell(2)
        count_days()
        assert DailySales.objects.get().paid == 1
        assert counted() == fresh()


def test_days_are_cut_in_the_sites_time_zone(merchants: list[Merchant], settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Kolkata"  # half an hour beside the others
    at = START.replace(hour=18, minute=29)
    with later(START, days=1):
        for number, minutes in ((1, 0), (2, 1)):
            moment = at + timedelta(minutes=minutes)
            sell(number, created_at=moment, settled_at=moment)
        count_days()
        assert list(DailySales.objects.order_by("day").values_list("day", "paid")) == [
            (date(2026, 3, 1), 1),
            (date(2026, 3, 2), 1),
        ]
        settings.TIME_ZONE = "UTC"  # of itself, all is cut anew
        count_days()
        assert DailySales.objects.get().paid == 2
        assert counted() == fresh()
        assert DeskCursor.objects.get().time_zone == "UTC"


class TestKilled:
    """Killed before any of its statements, a run leaves what the next one makes good."""

    def test_anywhere(self, merchants: list[Merchant]) -> None:
        class Killed(BaseException):
            pass

        with later(START):
            payment = sell()
            count_days()
        with later(START, days=2, hours=1):
            sell(2, created_at=clock.now(), settled_at=clock.now())
            advance(payment, Step("reversed"), actor="test")
            cursor = DeskCursor.objects.get()
            counted_before = counted()
            for point in range(1, 200):
                DeskCursor.objects.update(event=cursor.event, since=cursor.since)
                CountedDay.objects.update(is_stale=False)
                left = [point]

                def reaper(execute: Any, *args: Any, left: list[int] = left) -> Any:
                    left[0] -= 1
                    if not left[0]:
                        raise Killed
                    return execute(*args)

                try:
                    with connection.execute_wrapper(reaper):
                        count_days()
                except Killed:
                    count_days()
                else:
                    break
                assert counted() == fresh() != counted_before
            assert 20 < point < 200
            assert counted() == fresh()


class TestAtOnce:
    def test_many_runs_and_a_ledger_that_moves(self, merchants: list[Merchant]) -> None:
        with later(START):
            for number in range(1, 41):
                sell(number, merchant=merchants[number % 2])
            errors: list[BaseException] = []

            def work(what: Any) -> None:
                try:
                    what()
                except BaseException as error:
                    errors.append(error)
                finally:
                    connection.close()

            def change() -> None:
                for payment in Payment.objects.order_by("pk")[:15]:
                    advance(payment, Step("reversed"), actor="test")

            runs = [count_days] * 3 + [change, following.rebuild]
            threads = [threading.Thread(target=work, args=(run,)) for run in runs]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert errors == []
            count_days()
            assert counted() == fresh()
            assert sum(DailySales.objects.values_list("paid", flat=True)) == 25

    def test_a_mark_waits_for_who_counts_and_is_not_lost(
        self, merchants: list[Merchant], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The ledger changes after it was read and before the day is counted."""
        with later(START):
            payment = sell()
            following.mark_changed()
            day = CountedDay.objects.get().day
            read, go_on = threading.Event(), threading.Event()
            original = counting._gas

            def last_part(*args: Any) -> Any:
                read.set()
                assert go_on.wait(10)
                return original(*args)

            monkeypatch.setattr(counting, "_gas", last_part)

            def count() -> None:
                counting.count_day(day)
                connection.close()

            def mark() -> None:
                CountedDay.mark([day])
                connection.close()

            counter = threading.Thread(target=count)
            counter.start()
            assert read.wait(10)
            if connection.vendor == "postgresql":  # SQLite has one writer at a time
                advance(payment, Step("reversed"), actor="test")
            marker = threading.Thread(target=mark)
            marker.start()
            marker.join(0.3)
            assert marker.is_alive()
            go_on.set()
            counter.join()
            marker.join()
            assert CountedDay.objects.get(day=day).is_stale
            monkeypatch.undo()
            count_days()
            assert counted() == fresh()

    def test_a_row_that_becomes_visible_late(self, merchants: list[Merchant]) -> None:
        """Its key is below others' that were read; its transaction was open all the while."""
        with later(START):
            first, second = sell(1), sell(2, created_at=START, settled_at=START)
            late = PaymentEvent.objects.get(payment=first)
            key, at = late.pk, late.at
            PaymentEvent.objects.filter(pk=key)._raw_delete("default")  # not committed yet
            Payment.objects.filter(pk=first.pk).update(state="settling", settled_at=None)
        with later(START, seconds=30):
            count_days()
            assert sum(DailySales.objects.values_list("paid", flat=True)) == 1
        with later(START, seconds=90):
            Payment.objects.filter(pk=first.pk).update(state="settled", settled_at=START)
            PaymentEvent(
                pk=key, payment=first, at=at, from_state="settling", to_state="settled"
            ).save(force_insert=True)
            count_days()
            assert sum(DailySales.objects.values_list("paid", flat=True)) == 2
            assert second.pk


class TestBounds:
    def test_absurd_sums_stop_nobody(self, merchants: list[Merchant], owner: Client) -> None:
        """A merchant sells for ten billion dollars, in a token of its own."""
        with later(START, hours=1):
            for number in range(12):
                sell(number + 1, price_usd=Decimal("9999999999.99999999"), amount=2**255 + 1)
            sell(20, payer="0x" + "44" * 20, asset_symbol="USDC2")
            assert count_days().days == 1
            absurd = DailySales.objects.get(paid=12)
            assert (absurd.amount, absurd.usd) == (2**256 - 1, 2**63 - 1)
            answer = owner.get(PAGE)
            assert [one["name"] for one in answer.context["pages"]] == ["/weather/"]
            assert answer.context["payers"][0]["usd"] == "$92,233,720,368.55"
            whole, fraction = divmod(2**256 - 1 + 10_000, 10**6)
            assert answer.context["tokens"][0]["amount"] == f"{whole:,}.{fraction} USDC"

    def test_tops_and_reasons_of_a_day_are_bounded(
        self, merchants: list[Merchant], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(counting, "TOP", 3)
        monkeypatch.setattr(counting, "CODES", 2)
        with later(START, hours=1):
            for number in range(1, 8):
                sell(number, payer=f"0x{number:040x}", price_usd=Decimal(number))
            for number, code in enumerate(["a", "a", "b", "c", "d"], start=20):
                failed = make_payment(number, state="failed", transaction="", settled_at=None)
                make_event(failed, to_state="failed", code=code)
            count_days()
        payers = DailyTop.objects.filter(subject="payer").order_by("-usd")
        assert list(payers.values_list("name", "usd")) == [
            (f"0x{number:040x}", number * 10**8) for number in (7, 6, 5)
        ]
        failures = DailyTally.objects.filter(subject="failure")
        assert dict(failures.values_list("name", "count")) == {"a": 2, "b": 1, "other": 2}

    def test_a_long_count_goes_on_in_the_next_run(self, merchants: list[Merchant]) -> None:
        with later(START, days=9):
            for number in range(5):
                moment = START + timedelta(days=number)
                sell(number + 1, created_at=moment, settled_at=moment)
            newest = CountedDay.objects.filter(is_stale=False)
            assert str(count_days(budget=0)) == "days counted: 1, to be counted: 4"
            assert newest.get().day == date(2026, 3, 5)
            assert task() == "days counted: 4, to be counted: 0"
            assert counted() == fresh()
            assert PeriodicRun.objects.get(name="count_days").finished_at is not None

    def test_a_day_on_which_nothing_changed_is_left_alone(self, merchants: list[Merchant]) -> None:
        with later(START):
            sell()
            count_days()
        with later(START, days=1):
            count_days()  # looks once more at what was new a moment ago
            assert count_days().days == 0
            sell(2, created_at=clock.now(), settled_at=clock.now())
            assert count_days().days == 1


def test_the_command(merchants: list[Merchant]) -> None:
    with later(START):
        Payment.objects.bulk_create([new_payment(1)])
        make_receipt(Payment.objects.get())
        out = StringIO()
        call_command("x402_desk", stdout=out)
        assert out.getvalue() == "days counted: 1, to be counted: 0\n"
        DailySales.objects.update(paid=99)  # somebody's mistake
        call_command("x402_desk", stdout=out)
        assert DailySales.objects.get().paid == 99
        call_command("x402_desk", "--rebuild", stdout=out)
        assert DailySales.objects.get().paid == 1


@pytest.mark.skipif("sqlite" not in connection.vendor, reason="SQLite has no statistics to mislead")
def test_no_statement_reads_the_whole_ledger_on_sqlite(merchants: list[Merchant]) -> None:
    """What an index gives is a day; never all sales, or all that are final."""
    with later(START):
        sell()
        following.mark_changed()
        statements = []

        def note(execute: Any, sql: str, params: Any, *rest: Any) -> Any:
            statements.append((sql, params))
            return execute(sql, params, *rest)

        with connection.execute_wrapper(note):
            count_days()
    plans = []
    for sql, params in statements:
        if sql.startswith("SELECT") and "x402_django_payment" in sql:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {sql}", params)
                plans.append(" ".join(str(row) for row in cursor.fetchall()))
    used = {name for plan in plans for name in re.findall(r"(?:INDEX|KEY) (\w*)", plan)}
    assert used >= {"x402_receipt_issued_idx", "x402_event_at_idx"}
    assert not used & {"x402_payment_kind_idx", "x402_payment_state_idx"}
    assert not used & {"x402_payment_merchant_idx", "x402_receipt_merchant_idx"}
    assert not [plan for plan in plans if "SCAN x402_django_payment'" in plan]
