"""One day of the ledger, added up.

==========  ==============================================  =================================
what        rows                                            whose day it is
==========  ==============================================  =================================
sales       receipts whose payment stands                   the receipt's, as in the exports
refunds     their receipts                                  the same
latency     the same                                        the same
tops        the same                                        the same
failures    transitions to a state in which none is paid    the transition's
gas         mined transactions of our wallets               when they were signed, as in exports
==========  ==============================================  =================================

None of these days ever changes, so whatever happens to a payment later concerns the day of its
receipt and the day on which it happens, and no other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from heapq import nlargest
from itertools import groupby
from typing import Any, Final

from django.db import models, router, transaction
from django.db.models import Case, Count, DurationField, ExpressionWrapper, F, Q, Sum, Value, When
from django.db.models.functions import Cast, Coalesce, Round, StrIndex, Substr
from django.db.models.lookups import Exact, In

from x402_django import clock
from x402_django.constants import UINT256_MAX
from x402_django.desk import latency
from x402_django.desk.days import bounds
from x402_django.models import (
    ChainTransaction,
    CountedDay,
    DailyGas,
    DailySales,
    DailyTally,
    DailyTop,
    ExactSum,
    Payment,
    PaymentEvent,
    Receipt,
    RefundReceipt,
)
from x402_django.models.desk import USD_UNIT
from x402_django.payments.machine import PAID

State = Payment.State

#: Pages and payers that are kept of a merchant's day; most sites have fewer.
TOP: Final = 50
#: Reasons that are kept of a merchant's day. A facilitator's own words may be any number.
CODES: Final = 40
OTHER: Final = "other"

#: The money came. What was given back since is a refund, and does not undo the sale.
STANDING: Final = (*PAID, State.REFUNDED)
#: Nothing was paid, or what was paid is gone again.
FAILED: Final = (
    State.REJECTED,
    State.RELEASED,
    State.FAILED,
    State.EXPIRED,
    State.REVERSED,
)
_MODELS: Final[tuple[type[models.Model], ...]] = (DailySales, DailyTally, DailyTop, DailyGas)


def count_day(day: date) -> bool:
    """Count ``day`` anew if it is stale. False if it was not: somebody else has counted it.

    One transaction, which begins with the write that holds the day's row: whoever comes second
    waits, and whoever marks the day waits too. What is read, is read after that.
    """
    alias = router.db_for_write(CountedDay)
    with transaction.atomic(using=alias):
        taken = CountedDay.objects.using(alias).filter(day=day, is_stale=True)
        if not taken.update(is_stale=False, counted_at=clock.now()):
            return False
        for model in _MODELS:
            model._default_manager.using(alias).filter(day=day).delete()
        counted = [
            *(*_sales(day, alias), *_tops(day, alias)),
            *(*_failures(day, alias), *_gas(day, alias)),
        ]
        for model in _MODELS:
            rows = [row for row in counted if isinstance(row, model)]
            model._default_manager.using(alias).bulk_create(rows, batch_size=500)
    return True


#: Of the rows of a day, and not to be looked up: SQLite would take an index on either, which has
#: nearly every payment in it, for a better beginning than the day.
_IS_SALE: Final = Exact(Coalesce("payment__kind", Value("")), Payment.Kind.SALE)
_STANDS: Final = In(Coalesce("payment__state", Value("")), [str(state) for state in STANDING])


def _standing(day: date, alias: str) -> Any:
    begin, end = bounds(day)
    return (
        Receipt.objects.using(alias)
        .filter(_IS_SALE, _STANDS, issued_at__gte=begin, issued_at__lt=end)
        .order_by()
    )


#: The price in whole units; SQLite has it as a float, which is exact after rounding.
_UNITS: Final = Cast(
    Round(F("price_usd") * Value(int(1 / USD_UNIT)), output_field=models.DecimalField()),
    models.BigIntegerField(),
)
_TIME: Final = ExpressionWrapper(
    F("payment__settled_at") - F("payment__created_at"), output_field=DurationField()
)


#: What sales of a day are added up by, beside the rule.
_KEYS: Final = ("merchant_id", "network", "asset", "asset_symbol", "asset_decimals")


def _sales(day: date, alias: str) -> Iterator[models.Model]:
    within = {
        f"within_{number}": Count("pk", filter=Q(time__lte=end))
        for number, end in enumerate(latency.ends())
    }
    rows = (
        _standing(day, alias)
        .annotate(time=_TIME, rule_name=F("payment__rule_name"))
        .values(*_KEYS, "rule_name")
        .annotate(
            paid=Count("pk"),
            sum=ExactSum("amount"),
            usd=ExactSum(_UNITS),
            unpriced=Count("pk", filter=Q(price_usd__isnull=True)),
            **within,
        )
    )
    bins: dict[int, Counter[int]] = defaultdict(Counter)
    sales: dict[tuple[Any, ...], DailySales] = {}
    for row in rows:
        below = 0
        for number, name in enumerate(within):
            bins[row["merchant_id"]][number] += row[name] - below
            below = row[name]
        bins[row["merchant_id"]][latency.BINS - 1] += row["paid"] - below
        line = _line(sales, day, row)
        line.paid, line.unpriced = row["paid"], row["unpriced"]
        line.amount, line.usd = _atomic(row["sum"]), _units(row["usd"])
    for row in _refunds(day, alias):
        line = _line(sales, day, row)
        line.refunds, line.refunded = row["count"], _atomic(row["sum"])
        line.refunded_usd = _units(row["usd"])
    yield from sales.values()
    for merchant, counts in bins.items():
        for number, count in counts.items():
            if count:
                yield _tally(day, merchant, DailyTally.Subject.LATENCY, str(number), count)


def _line(
    sales: dict[tuple[Any, ...], DailySales], day: date, row: Mapping[str, Any]
) -> DailySales:
    """The line of ``sales`` that ``row`` belongs to, with nothing in it if it is new."""
    values = {name: row[name] for name in (*_KEYS, "rule_name")}
    key = tuple(values.values())
    if key not in sales:
        sales[key] = DailySales(day=day, **values, paid=0, amount=0, usd=0, unpriced=0)
    return sales[key]


def _refunds(day: date, alias: str) -> Any:
    begin, end = bounds(day)
    return (
        RefundReceipt.objects.using(alias)
        .filter(issued_at__gte=begin, issued_at__lt=end)
        .order_by()
        .annotate(rule_name=F("refund__payment__rule_name"))
        .values(*_KEYS, "rule_name")
        .annotate(count=Count("pk"), sum=ExactSum("amount"), usd=ExactSum(_UNITS))
    )


def _atomic(total: int) -> int:
    """A sum for a column. No honest token has so much of it, but a merchant may name any token."""
    return min(total, UINT256_MAX)


def _units(total: int | None) -> int:
    """Dollars for a column, of which the same is true: 92 billion of them on a day."""
    return min(total or 0, models.BigIntegerField.MAX_BIGINT)


def _tops(day: date, alias: str) -> Iterator[models.Model]:
    pages = _with_path(_standing(day, alias))
    for subject, rows, name in (
        (DailyTop.Subject.VIEW, pages, "path"),
        (DailyTop.Subject.PAYER, _standing(day, alias), "payer"),
    ):
        found = (
            rows.values("merchant_id", name)
            .annotate(paid=Count("pk"), usd=ExactSum(_UNITS))
            .order_by("merchant_id")
            .values_list("merchant_id", "usd", "paid", name)
        )
        for merchant, group in groupby(found.iterator(), key=lambda row: row[0]):
            best = nlargest(TOP, group, key=lambda row: (row[1] or 0, *row[2:]))
            for _merchant, usd, paid, called in best:
                yield DailyTop(
                    day=day,
                    merchant_id=merchant,
                    subject=subject,
                    name=called,
                    paid=paid,
                    usd=_units(usd),
                )


def _with_path(rows: Any) -> Any:
    """With the ``path`` of ``resource_url``: without origin and query."""
    text = models.CharField()
    after_scheme = Substr("resource_url", StrIndex("resource_url", Value("://")) + 3)
    return (
        rows.annotate(_rest=after_scheme)
        .annotate(_path=Substr("_rest", StrIndex("_rest", Value("/"))))
        .annotate(_query=StrIndex("_path", Value("?")))
        .annotate(
            path=Substr(
                Case(
                    When(_query__gt=0, then=Substr("_path", 1, F("_query") - 1)),
                    default=F("_path"),
                    output_field=text,
                ),
                1,
                500,
            )
        )
    )


def _failures(day: date, alias: str) -> Iterator[models.Model]:
    begin, end = bounds(day)
    rows = (
        PaymentEvent.objects.using(alias)
        .filter(_IS_SALE, at__gte=begin, at__lt=end, to_state__in=FAILED)
        .values_list("payment__merchant_id", "code")
        .annotate(count=Count("pk"))
        .order_by("payment__merchant_id", "-count", "code")
    )
    for merchant, group in groupby(rows, key=lambda row: row[0]):
        for code, count in _bounded((code, count) for _merchant, code, count in group):
            yield _tally(day, merchant, DailyTally.Subject.FAILURE, code, count)


def _bounded(counts: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """The first ``CODES`` of them by name, and all others together."""
    kept: Counter[str] = Counter()
    for code, count in counts:
        name = (code or OTHER) if len(kept) < CODES or code in kept else OTHER
        kept[name] += count
    yield from kept.items()


def _tally(day: date, merchant: int, subject: str, name: str, count: int) -> DailyTally:
    return DailyTally(day=day, merchant_id=merchant, subject=subject, name=name, count=count)


def _gas(day: date, alias: str) -> Iterator[models.Model]:
    """Fees are multiplied here, by price: SQLite has no integers that are wide enough."""
    begin, end = bounds(day)
    rows = (
        ChainTransaction.objects.using(alias)
        .filter(
            created_at__gte=begin,
            created_at__lt=end,
            gas_used__isnull=False,
            effective_gas_price__isnull=False,
        )
        .order_by()
        .values_list("network", "wallet", "effective_gas_price")
        .annotate(gas=Sum("gas_used"), count=Count("pk"), settled=Sum("payments_count"))
    )
    totals: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for network, wallet, price, gas, count, settled in rows:
        total = totals[network, wallet]
        total[0] += count
        total[1] += settled
        total[2] += int(gas) * price
    for (network, wallet), (count, settled, wei) in totals.items():
        yield DailyGas(
            day=day,
            network=network,
            wallet=wallet,
            transactions=count,
            payments=settled,
            fee=_atomic(wei),
        )
