"""Lists cost the same with twenty rows and with a million."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.admin.rows import new_payment
from x402_django.admin import change_list
from x402_django.models import Payment, PaymentEvent, Receipt
from x402_django.pricing.cache import current_rules

PAYMENTS = "admin:x402_django_payment_changelist"
BIG_COLUMNS = ("response_body", "response_headers", "payload", "requirements", '"raw"')


def fill(start: int, stop: int, **changes: Any) -> None:
    Payment.objects.bulk_create([new_payment(n, **changes) for n in range(start, stop)])
    rows = Payment.objects.order_by("pk")[start - 1 : stop - 1]
    PaymentEvent.objects.bulk_create(
        PaymentEvent(payment=p, at=p.created_at, from_state="settling", to_state="settled")
        for p in rows
    )
    names = [f.name for f in Receipt._meta.concrete_fields if hasattr(Payment, f.name)]
    Receipt.objects.bulk_create(
        Receipt(
            payment=p,
            issued_at=p.created_at,
            **{n: getattr(p, n) for n in names if n not in ("id", "payment")},
        )
        for p in rows
    )


def queries(client: Client, url: str, **params: Any) -> list[str]:
    current_rules()  # the gate of the site under test keeps its rules in memory
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url, params).status_code == 200
    return [query["sql"] for query in captured.captured_queries]


@pytest.mark.parametrize("model", ["payment", "paymentevent", "receipt"])
def test_a_hundred_times_the_rows_cost_the_same_queries(model: str, desk: Client) -> None:
    url = reverse(f"admin:x402_django_{model}_changelist")
    fill(1, 21)
    few = queries(desk, url)
    fill(21, 2021)
    many = queries(desk, url)
    shape = [re.sub(r"\d+", "", sql)[:60] for sql in few]
    assert [re.sub(r"\d+", "", sql)[:60] for sql in many] == shape
    # session and user; whether there are several merchants; bounded count; the page; both ends
    # of the dates; the totals if any, and on the list of payments whether a wallet runs low.
    assert len(many) == {"payment": 9, "paymentevent": 7, "receipt": 8}[model]


def test_nothing_reads_the_whole_table(desk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_list, "COUNT_LIMIT", 100)
    fill(1, 301)
    found = [
        sql
        for sql in queries(desk, reverse(PAYMENTS))
        if "x402_django_payment" in sql and "pg_class" not in sql
    ]
    for sql in found:
        # A count is of a bounded subquery, and so is everything else.
        assert "LIMIT" in sql
        assert "DISTINCT" not in sql
        assert "LIKE" not in sql
        assert not [column for column in BIG_COLUMNS if column in sql]
    (count,) = [sql for sql in found if "COUNT(" in sql]
    assert "LIMIT 101" in count


def test_the_offset_is_bounded_by_the_count(desk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_list, "COUNT_LIMIT", 100)
    fill(1, 301)
    answer = desk.get(reverse(PAYMENTS))
    assert answer.context["cl"].result_count == 100
    assert answer.context["cl"].paginator.num_pages == 2
    assert desk.get(reverse(PAYMENTS), {"p": 3}).status_code == 302
    assert "The first 100 are listed; there are more." in answer.content.decode() or (
        connection.vendor == "postgresql"
    )


def test_a_list_within_the_bound_says_nothing_of_it(desk: Client) -> None:
    fill(1, 61)
    answer = desk.get(reverse(PAYMENTS))
    assert answer.context["cl"].result_count == 60
    assert "there are more" not in answer.content.decode()


def test_totals_are_exact_and_only_of_money_that_arrived(desk: Client) -> None:
    fill(1, 4, amount=2**255)
    fill(4, 6, asset_symbol="EURC", asset="0x808456652fdb597867f38412077A9182bf77359F")
    Payment.objects.bulk_create([new_payment(9, state="failed", transaction="", amount=1)])
    answer = desk.get(reverse(PAYMENTS))
    whole, fraction = divmod(3 * 2**255, 10**6)
    totals = {total["amount"]: total["rows"] for total in answer.context["cl"].totals}
    assert totals == {f"{whole}.{fraction:06d} USDC".replace("0 USDC", " USDC"): 3, "0.02 EURC": 2}
    assert "0.02 EURC" in answer.content.decode()


def test_totals_follow_the_filter(desk: Client) -> None:
    fill(1, 4)
    fill(4, 6, flow="upfront")
    answer = desk.get(reverse(PAYMENTS), {"flow__exact": "upfront"})
    assert [(t["amount"], t["rows"]) for t in answer.context["cl"].totals] == [("0.02 USDC", 2)]


def test_totals_of_a_long_list_are_left_out(desk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_list, "COUNT_LIMIT", 5)
    fill(1, 11)
    answer = desk.get(reverse(PAYMENTS))
    assert answer.context["cl"].totals == []
    assert not [s for s in queries(desk, reverse(PAYMENTS)) if "SUM" in s.upper()]


class TestPeriods:
    def titles(self, client: Client, **params: Any) -> tuple[str | None, list[str], list[Any]]:
        periods = client.get(reverse(PAYMENTS), params).context["cl"].periods
        back = periods["back"]
        return (
            back and back["title"],
            [choice["title"] for choice in periods["choices"]],
            [choice["link"] for choice in periods["choices"]],
        )

    def make(self, *dates: tuple[int, int, int]) -> None:
        Payment.objects.bulk_create(
            new_payment(n, created_at=datetime(*date, 12, tzinfo=UTC))
            for n, date in enumerate(dates, start=1)
        )

    def test_years(self, desk: Client) -> None:
        self.make((2024, 12, 31), (2026, 1, 1))
        back, titles, links = self.titles(desk)
        assert (back, titles) == (None, ["2024", "2025", "2026"])
        assert links[0] == "?created_at__year=2024"

    def test_months_of_the_only_year(self, desk: Client) -> None:
        self.make((2026, 2, 27), (2026, 4, 1))
        back, titles, _links = self.titles(desk)
        assert titles == ["February 2026", "March 2026", "April 2026"]
        assert back == "All dates"

    def test_days_of_the_only_month(self, desk: Client) -> None:
        self.make((2026, 2, 26), (2026, 2, 28))
        assert self.titles(desk)[1] == ["February 26", "February 27", "February 28"]

    def test_months_of_a_chosen_year(self, desk: Client) -> None:
        self.make((2024, 12, 31), (2026, 1, 1))
        back, titles, links = self.titles(desk, created_at__year=2025)
        assert (back, len(titles)) == ("All dates", 12)
        assert links[1] == "?created_at__month=2&created_at__year=2025"

    def test_days_of_a_chosen_month(self, desk: Client) -> None:
        self.make((2024, 12, 31), (2026, 1, 1))
        back, titles, _links = self.titles(desk, created_at__year=2024, created_at__month=2)
        assert (back, len(titles)) == ("2024", 29)

    def test_a_chosen_day(self, desk: Client) -> None:
        self.make((2026, 2, 26), (2026, 2, 28))
        chosen = {"created_at__year": 2026, "created_at__month": 2, "created_at__day": 26}
        back, titles, links = self.titles(desk, **chosen)
        assert (back, titles, links) == ("February 2026", ["February 26"], [None])
        shown = desk.get(reverse(PAYMENTS), chosen).context["cl"].result_list
        assert [p.created_at.day for p in shown] == [26]

    def test_an_empty_list_has_none(self, desk: Client) -> None:
        answer = desk.get(reverse(PAYMENTS))
        assert answer.context["cl"].periods == {"show": False}

    @pytest.mark.parametrize("year", ["x", "0", "99999", "-1"])
    def test_nonsense_in_the_address(self, year: str, desk: Client) -> None:
        self.make((2026, 2, 26))
        assert desk.get(reverse(PAYMENTS), {"created_at__year": year}).status_code == 302


def test_search_is_answered_by_indexes(desk: Client) -> None:
    fill(1, 21)
    for term in (f"0x{3:064x}", "0x3C44", f"{3:040x}", "00000000"):
        for sql in queries(desk, reverse(PAYMENTS), q=term):
            assert "UPPER(" not in sql
            assert "'%" not in sql
            assert not re.search(r"LIKE '%", sql)


@pytest.mark.postgres
def test_the_estimate_of_postgresql(desk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("needs PostgreSQL: set DATABASE_URL")
    monkeypatch.setattr(change_list, "COUNT_LIMIT", 100)
    fill(1, 301)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE x402_django_payment")
    html = desk.get(reverse(PAYMENTS)).content.decode()
    assert "The newest 100 are listed, of about 300 in all." in html
