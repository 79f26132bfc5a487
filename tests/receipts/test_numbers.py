"""Numbers of receipts: none missing, none twice, whoever numbers and whatever is killed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from tests.admin.rows import make_payment, make_receipt
from x402_django.models import Merchant, NumberSeries, Receipt, ReceiptNumber
from x402_django.receipts import numbers
from x402_django.receipts.numbers import number_of, number_receipts

pytestmark = pytest.mark.django_db(transaction=True)


def sold(count: int, *, first: int = 1, **changes: Any) -> list[Receipt]:
    merchant = changes.pop("merchant", None)
    more = {"merchant": merchant} if merchant else {}
    return [
        make_receipt(make_payment(first + number, **more), **more, **changes)
        for number in range(count)
    ]


def given(**of: Any) -> list[str]:
    rows = ReceiptNumber.objects.filter(**of).order_by("year", "number")
    return [str(row) for row in rows]


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    barrier = Barrier(count)

    def run(number: int) -> Any:
        try:
            barrier.wait(30)
            return work(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_in_the_order_of_sale_from_one(settings) -> None:
    rows = sold(3, issued_at=datetime(2026, 5, 1, tzinfo=UTC))
    assert number_receipts() == 3
    assert [number_of(row) for row in rows] == ["2026-000001", "2026-000002", "2026-000003"]
    assert number_receipts() == 0
    (more,) = sold(1, first=10, issued_at=datetime(2026, 5, 2, tzinfo=UTC))
    assert number_of(more) == "2026-000004"


def test_each_year_and_merchant_has_its_own(settings) -> None:
    settings.TIME_ZONE = "America/New_York"
    other = Merchant.objects.create(name="Other")
    # Two o'clock in the night of New Year in UTC is the old year there.
    night = datetime(2027, 1, 1, 2, tzinfo=UTC)
    sold(1, issued_at=night)
    sold(1, first=2, issued_at=night + timedelta(hours=12))
    sold(2, first=3, merchant=other, issued_at=night)
    number_receipts()
    assert given(merchant=1) == ["2026-000001", "2027-000001"]
    assert given(merchant=other) == ["2026-000001", "2026-000002"]


def test_a_late_receipt_is_numbered_in_its_own_year() -> None:
    sold(2, issued_at=datetime(2026, 12, 31, tzinfo=UTC))
    sold(1, first=3, issued_at=datetime(2027, 1, 1, tzinfo=UTC))
    number_receipts()
    (late,) = sold(1, first=4, issued_at=datetime(2026, 12, 31, 23, tzinfo=UTC))
    assert number_of(late) == "2026-000003"


def test_sixteen_at_once_leave_no_gap_and_no_double(monkeypatch) -> None:
    monkeypatch.setattr(numbers, "CHUNK", 3)
    rows = sold(40, issued_at=datetime(2026, 5, 1, tzinfo=UTC))

    def work(number: int) -> Any:
        return number_of(rows[number]) if number % 2 else number_receipts()

    at_once(16, work)
    number_receipts()
    assert given() == [f"2026-{number:06d}" for number in range(1, 41)]
    assert ReceiptNumber.objects.values("receipt").distinct().count() == 40


def test_a_killed_process_leaves_no_gap(monkeypatch) -> None:
    class Killed(BaseException):
        pass

    def die(*args: Any, **kwargs: Any) -> None:
        raise Killed

    sold(5, issued_at=datetime(2026, 5, 1, tzinfo=UTC))
    with monkeypatch.context() as patch:
        # After the numbers are written, before the commit.
        patch.setattr("x402_django.receipts.numbers.clock.now", die)
        with pytest.raises(Killed):
            numbers.number_some(1, "sale")
    assert not ReceiptNumber.objects.exists()
    number_receipts()
    assert given() == [f"2026-{number:06d}" for number in range(1, 6)]


def test_what_is_committed_late_is_not_passed_over() -> None:
    """Its key is below ones that were numbered already."""
    early, late = sold(2, issued_at=timezone.now())
    Receipt.objects.filter(pk=early.pk)._raw_delete("default")
    number_receipts()
    early._state.adding = True
    early.save(force_insert=True)
    assert number_of(early).endswith("-000002")
    assert number_of(late).endswith("-000001")


def test_old_receipts_are_not_read_again() -> None:
    sold(3, issued_at=datetime(2026, 5, 1, tzinfo=UTC))
    number_receipts()
    number_receipts()
    newest = Receipt.objects.order_by("-pk")[0].pk
    assert NumberSeries.objects.get(kind="sale").position == newest


def test_a_number_is_never_changed() -> None:
    (row,) = sold(1)
    number_of(row)
    numbered = ReceiptNumber.objects.get()
    numbered.number = 7
    with pytest.raises(TypeError, match="append-only"):
        numbered.save()
    with pytest.raises(TypeError, match="append-only"):
        numbered.delete()
    with pytest.raises(TypeError, match="append-only"):
        ReceiptNumber.objects.update(number=7)
    with pytest.raises(TypeError, match="append-only"):
        ReceiptNumber.objects.all().delete()
