"""A period's numbers, as the dashboard shows them: read from the days that are counted.

Each function is one query over rows of days, so their number grows with the days and with what is
sold in how many ways, never with the payments.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Count, F, FloatField, Max, Sum, Window
from django.db.models.functions import Cast, RowNumber

from x402_django.constants import Code
from x402_django.desk import latency
from x402_django.desk.days import days_between, today
from x402_django.models import (
    ChallengeCount,
    CountedDay,
    DailyGas,
    DailySales,
    DailyTally,
    DailyTop,
    ExactSum,
)
from x402_django.models.desk import USD_UNIT

if TYPE_CHECKING:
    from django.db.models import QuerySet

#: Days of which one may choose.
LENGTHS: Final = (7, 30, 90, 365)
STEPS: Final = ("day", "week", "month")
#: Lines of the lists of views, payers and reasons.
LISTED: Final = 10


@dataclass(frozen=True, slots=True)
class Period:
    """The last ``length`` days, today included, and how they are taken together.

    ``merchants`` are the keys of those whose figures they are; None: everybody's.
    """

    length: int
    step: str
    merchants: frozenset[int] | None
    last: date = field(default_factory=today)

    @property
    def first(self) -> date:
        return self.last - timedelta(days=self.length - 1)

    @property
    def before(self) -> date:
        """The first of as many days before them."""
        return self.first - timedelta(days=self.length)

    def begin_of(self, day: date) -> date:
        """The first day of the bar that ``day`` is in: weeks begin on Mondays."""
        if self.step == "week":
            return day - timedelta(days=day.weekday())
        return day.replace(day=1) if self.step == "month" else day

    @property
    def bars(self) -> list[date]:
        """The first days of all bars."""
        return sorted({self.begin_of(day) for day in days_between(self.first, self.last)})

    def rows(self, model: Any, since: date | None = None) -> QuerySet[Any]:
        """The rows of ``model`` on its days, of its merchants."""
        rows: QuerySet[Any] = model.objects.filter(day__gte=since or self.first, day__lte=self.last)
        rows = rows.order_by()
        return rows if self.merchants is None else rows.filter(merchant__in=self.merchants)


@dataclass(slots=True)
class Token:
    """What came in one token on one network."""

    network: str
    asset: str
    symbol: str
    decimals: int
    paid: int = 0
    amount: int = 0
    usd: Decimal = Decimal(0)
    unpriced: int = 0
    refunded: int = 0


@dataclass(slots=True)
class Sales:
    """Receipts that stand, and refunds that arrived; dollars as priced."""

    tokens: list[Token] = field(default_factory=list)
    #: By the first day of a bar, in their order, then by token.
    usd: dict[date, dict[tuple[str, str], Decimal]] = field(default_factory=dict)
    paid: dict[date, int] = field(default_factory=dict)
    total_usd: Decimal = Decimal(0)
    total_paid: int = 0
    unpriced: int = 0
    refunds: int = 0
    refunded_usd: Decimal = Decimal(0)
    #: Of as many days before.
    usd_before: Decimal = Decimal(0)
    paid_before: int = 0


def sales(period: Period) -> Sales:
    """What was sold, and in the same time before."""
    bars = period.bars
    found = Sales(usd={bar: defaultdict(Decimal) for bar in bars}, paid=dict.fromkeys(bars, 0))
    tokens: dict[tuple[str, str], Token] = {}
    rows = (
        period.rows(DailySales, period.before)
        .values_list("day", "network", "asset", "asset_symbol", "asset_decimals")
        .annotate(Sum("paid"), ExactSum("amount"), ExactSum("usd"), Sum("unpriced"))
        .annotate(Sum("refunds"), ExactSum("refunded"), ExactSum("refunded_usd"))
    )
    for day, network, asset, symbol, decimals, paid, amount, units, unpriced, *back in rows:
        usd = dollars(units)
        if day < period.first:
            found.usd_before += usd
            found.paid_before += int(paid)
            continue
        bar, key = period.begin_of(day), (network, asset)
        token = tokens.setdefault(key, Token(network, asset, symbol, decimals))
        token.paid += int(paid)
        token.amount += amount
        token.usd += usd
        token.unpriced += int(unpriced)
        token.refunded += back[1]
        found.refunds += int(back[0])
        found.refunded_usd += dollars(back[2])
        found.usd[bar][key] += usd
        found.paid[bar] += int(paid)
    found.tokens = sorted(tokens.values(), key=lambda one: (-one.usd, -one.paid, one.network))
    found.total_usd = sum((one.usd for one in found.tokens), Decimal(0))
    found.total_paid = sum(one.paid for one in found.tokens)
    found.unpriced = sum(one.unpriced for one in found.tokens)
    return found


@dataclass(slots=True)
class RuleLine:
    """What a price rule brought; ``name`` is empty for prices in code.

    ``asked`` are requests that came without a payment and were answered 402.
    """

    name: str
    asked: int = 0
    paid: int = 0
    usd: Decimal = Decimal(0)

    @property
    def conversion(self) -> float | None:
        """Paid requests of those that were asked to pay; None where none was counted."""
        return conversion(self.paid, self.asked)


@dataclass(slots=True)
class Asked:
    """Challenges, and what came of them."""

    rules: list[RuleLine] = field(default_factory=list)
    asked: dict[date, int] = field(default_factory=dict)
    total: int = 0


def conversion(paid: int, asked: int) -> float | None:
    """Which share of ``asked`` has paid: at most all. None where none was counted.

    More may have been paid than asked: a client that knows the price pays without being asked.
    """
    return min(paid / asked, 1.0) if asked else None


def challenges(period: Period) -> Asked:
    """Who was asked to pay, by rule, beside what those rules sold."""
    lines: dict[str, RuleLine] = {}
    found = Asked(asked=dict.fromkeys(period.bars, 0))
    counts = period.rows(ChallengeCount).filter(code=Code.PAYMENT_REQUIRED)
    for day, rule, count in counts.values_list("day", "rule_name").annotate(Sum("count")):
        found.asked[period.begin_of(day)] += int(count)
        found.total += int(count)
        lines.setdefault(rule, RuleLine(rule)).asked += int(count)
    sold = period.rows(DailySales).values_list("rule_name").annotate(Sum("paid"), ExactSum("usd"))
    for rule, paid, units in sold:
        line = lines.setdefault(rule, RuleLine(rule))
        line.paid, line.usd = int(paid), dollars(units)
    found.rules = sorted(lines.values(), key=lambda one: (-one.usd, -one.paid, -one.asked))
    return found


@dataclass(slots=True)
class Tallies:
    """Reasons of failures with their numbers, the most frequent first; bins of times."""

    failures: list[tuple[str, int]] = field(default_factory=list)
    times: list[int] = field(default_factory=lambda: [0] * latency.BINS)

    @property
    def failed(self) -> int:
        return sum(count for _code, count in self.failures)


def tallies(period: Period) -> Tallies:
    """Why payments failed, and how long the others took."""
    found = Tallies()
    rows = period.rows(DailyTally).values_list("subject", "name").annotate(Sum("count"))
    for subject, name, count in rows:
        if subject == DailyTally.Subject.LATENCY:
            found.times[int(name)] += int(count)
        else:
            found.failures.append((name, int(count)))
    found.failures.sort(key=lambda one: (-one[1], one[0]))
    return found


@dataclass(frozen=True, slots=True)
class Top:
    """A payer or a page, with what it brought."""

    name: str
    paid: int
    usd: Decimal


def tops(period: Period) -> dict[str, list[Top]]:
    """By subject (``DailyTop.Subject``), the most dollars first.

    Of each day a bounded number is kept. Who was never among them is not here, and who was only on
    some days has those days' numbers.
    """
    found: dict[str, list[Top]] = {subject: [] for subject in DailyTop.Subject.values}
    sums = (
        period.rows(DailyTop).values("subject", "name").annotate(p=Sum("paid"), u=ExactSum("usd"))
    )
    # SQLite gives exact sums as text, which has another order.
    sums = sums.annotate(order=Sum(Cast("usd", FloatField())))
    best_first = [F("order").desc(), F("p").desc(), F("name").asc()]
    rank = Window(RowNumber(), partition_by=[F("subject")], order_by=best_first)
    best = sums.annotate(rank=rank).filter(rank__lte=LISTED).order_by("subject", "rank")
    for row in best:
        found[row["subject"]].append(Top(row["name"], int(row["p"]), dollars(row["u"])))
    return found


@dataclass(slots=True)
class Gas:
    """What a wallet has spent; ``fee`` in wei."""

    network: str
    wallet: str
    transactions: int
    payments: int
    fee: int


def gas(period: Period) -> list[Gas]:
    """What the site's own wallets have spent on gas."""
    rows = DailyGas.objects.filter(day__gte=period.first, day__lte=period.last).order_by()
    found = rows.values_list("network", "wallet").annotate(
        Sum("transactions"), Sum("payments"), ExactSum("fee")
    )
    return sorted(
        (Gas(name, wallet, int(n), int(paid), fee) for name, wallet, n, paid, fee in found),
        key=lambda one: (one.network, one.wallet),
    )


def to_be_counted() -> tuple[int, Any]:
    """How many days are still to be counted, and when one was counted last (None: never)."""
    stale, newest = 0, None
    rows = (
        CountedDay.objects.order_by()
        .values_list("is_stale")
        .annotate(Count("pk"), Max("counted_at"))
    )
    for is_stale, count, at in rows:
        stale += count if is_stale else 0
        newest = max((one for one in (newest, at) if one is not None), default=None)
    return stale, newest


def dollars(units: Any) -> Decimal:
    """Units of ``USD_UNIT`` as dollars."""
    return int(units or 0) * USD_UNIT
