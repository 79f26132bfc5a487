"""Numbers without gaps. Nobody who pays waits for one.

A receipt is written with the money's own commit and gets its number afterwards: by the periodic
task, or when somebody opens it. Who numbers holds the lock of the merchant's series, takes the
receipts that have none in the order of their keys, and gives each the next number of its year; all
of it in one transaction, so a number is never skipped and never given twice.

The year is that of the day of sale in the site's time zone. A receipt whose transaction is
committed late gets the next number there is, in its own year.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.db import router, transaction
from django.db.models import F, Max
from django.utils import timezone

from x402_django import clock
from x402_django.models import Merchant, NumberSeries, Receipt, ReceiptNumber, RefundReceipt
from x402_django.payments.periodic import recorded

Kind = NumberSeries.Kind
#: Receipts that are numbered in one transaction.
CHUNK: Final = 500
#: No transaction of the ledger stays open that long: keys are given before rows are committed.
OVERLAP: Final = timedelta(minutes=5)

_MODELS: Final[dict[str, Any]] = {Kind.SALE: Receipt, Kind.REFUND: RefundReceipt}
_FIELDS: Final[dict[str, str]] = {Kind.SALE: "receipt", Kind.REFUND: "refund_receipt"}


def number_of(receipt: Receipt | RefundReceipt) -> str:
    """The number of a receipt, such as ``2026-000017``; given now if it has none."""
    kind = Kind.REFUND if isinstance(receipt, RefundReceipt) else Kind.SALE
    mine = ReceiptNumber.objects.filter(**{_FIELDS[kind]: receipt})
    found = mine.first()
    while found is None:
        number_some(receipt.merchant_id, kind)  # type: ignore[arg-type]  # never null
        found = mine.first()
    return str(found)


@recorded("number_receipts")
def number_receipts(*, limit: int = 10_000) -> int:
    """Number what has no number yet, of every merchant; how many got one."""
    done = 0
    for merchant in Merchant.objects.order_by("pk").values_list("pk", flat=True):
        for kind in Kind.values:
            while done < limit and (some := number_some(merchant, kind)):
                done += some
    return done


def number_some(merchant_id: int, kind: str) -> int:
    """Number the next few receipts of a merchant; how many. 0: all have theirs."""
    alias = router.db_for_write(ReceiptNumber)
    model, field = _MODELS[kind], _FIELDS[kind]
    NumberSeries.objects.using(alias).get_or_create(merchant_id=merchant_id, kind=kind)
    with transaction.atomic(using=alias):
        series = NumberSeries.objects.using(alias).filter(merchant_id=merchant_id, kind=kind)
        # Takes the row's lock on every database.
        series.update(position=F("position"))
        position = series.values_list("position", flat=True).get()
        rows = list(
            model.objects.using(alias)
            .filter(merchant_id=merchant_id, pk__gt=position, numbered__isnull=True)
            .only("pk", "issued_at")
            .order_by("pk")[:CHUNK]
        )
        last: dict[int, int] = {}
        numbers = []
        for row in rows:
            year = timezone.localtime(row.issued_at).year
            if year not in last:
                last[year] = _last_number(alias, merchant_id, kind, year)
            last[year] += 1
            numbers.append(
                ReceiptNumber(
                    merchant_id=merchant_id,
                    kind=kind,
                    year=year,
                    number=last[year],
                    **{f"{field}_id": row.pk},
                )
            )
        ReceiptNumber.objects.using(alias).bulk_create(numbers)
        if len(rows) < CHUNK:
            # All have theirs; and nothing can appear any more below what is old enough.
            old = model.objects.using(alias).filter(
                merchant_id=merchant_id, issued_at__lt=clock.now() - OVERLAP
            )
            newest = old.order_by("-pk").values_list("pk", flat=True).first()
            series.update(position=max(position, newest or 0))
        else:
            settled = [row for row in rows if row.issued_at < clock.now() - OVERLAP]
            if len(settled) == len(rows):
                series.update(position=rows[-1].pk)
    return len(rows)


def _last_number(alias: str, merchant_id: int, kind: str, year: int) -> int:
    numbers = ReceiptNumber.objects.using(alias).filter(
        merchant_id=merchant_id, kind=kind, year=year
    )
    return int(numbers.aggregate(last=Max("number"))["last"] or 0)
