"""The days of a ledger counted the slow way: every row, in Python, in one pass."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date, datetime
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from django.conf import settings

from x402_django.desk.latency import EDGES
from x402_django.models import (
    ChainTransaction,
    DailyGas,
    DailySales,
    DailyTally,
    DailyTop,
    PaymentEvent,
    Receipt,
    RefundReceipt,
)

STANDING = ("settled", "final", "refunded")
FAILED = ("rejected", "released", "failed", "expired", "reversed")


def day_of(moment: datetime) -> date:
    return moment.astimezone(ZoneInfo(settings.TIME_ZONE)).date()


def fresh() -> dict[str, dict[Any, Any]]:
    """What ought to be counted, of all rows that there are."""
    sales: dict[Any, list[int]] = defaultdict(lambda: [0] * 7)
    tops: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    tallies: Counter[Any] = Counter()
    gas: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0])
    for receipt in Receipt.objects.select_related("payment"):
        payment, day = receipt.payment, day_of(receipt.issued_at)
        if payment.state not in STANDING or payment.kind != "sale":
            continue
        usd = 0 if receipt.price_usd is None else round(receipt.price_usd * 10**8)
        token = (receipt.network, receipt.asset, receipt.asset_symbol, receipt.asset_decimals)
        line = sales[(day, receipt.merchant_id, *token, payment.rule_name)]
        for place, value in enumerate((1, receipt.amount, usd, receipt.price_usd is None)):
            line[place] += value
        path = urlsplit(receipt.resource_url).path
        for subject, name in (("view", path), ("payer", receipt.payer)):
            top = tops[day, receipt.merchant_id, subject, name]
            top[0] += 1
            top[1] += usd
        seconds = (payment.settled_at - payment.created_at).total_seconds()
        number = sum(seconds > edge for edge in EDGES)
        tallies[day, receipt.merchant_id, "latency", str(number)] += 1
    for back in RefundReceipt.objects.select_related("refund__payment"):
        usd = 0 if back.price_usd is None else round(back.price_usd * 10**8)
        token = (back.network, back.asset, back.asset_symbol, back.asset_decimals)
        rule = back.refund.payment.rule_name
        line = sales[(day_of(back.issued_at), back.merchant_id, *token, rule)]
        for place, value in enumerate((1, back.amount, usd), start=4):
            line[place] += value
    for event in PaymentEvent.objects.select_related("payment"):
        if event.to_state in FAILED and event.payment.kind == "sale":
            key = (day_of(event.at), event.payment.merchant_id, "failure", event.code or "other")
            tallies[key] += 1
    for row in ChainTransaction.objects.exclude(gas_used=None):
        line = gas[day_of(row.created_at), row.network, row.wallet]
        for place, value in enumerate(
            (1, row.payments_count, row.gas_used * row.effective_gas_price)
        ):
            line[place] += value
    return {
        "sales": {key: tuple(line) for key, line in sales.items()},
        "tops": {key: tuple(line) for key, line in tops.items()},
        "tallies": dict(tallies),
        "gas": {key: tuple(line) for key, line in gas.items()},
    }


def counted() -> dict[str, dict[Any, Any]]:
    """What the rows of the days say."""
    token = ("network", "asset", "asset_symbol", "asset_decimals")
    return {
        "sales": {
            tuple(row[:7]): tuple(row[7:])
            for row in DailySales.objects.values_list(
                *("day", "merchant_id", *token, "rule_name", "paid", "amount", "usd", "unpriced"),
                *("refunds", "refunded", "refunded_usd"),
            )
        },
        "tops": {
            tuple(row[:4]): tuple(row[4:])
            for row in DailyTop.objects.values_list(
                "day", "merchant_id", "subject", "name", "paid", "usd"
            )
        },
        "tallies": {
            tuple(row[:4]): row[4]
            for row in DailyTally.objects.values_list(
                "day", "merchant_id", "subject", "name", "count"
            )
        },
        "gas": {
            tuple(row[:3]): tuple(row[3:])
            for row in DailyGas.objects.values_list(
                "day", "network", "wallet", "transactions", "payments", "fee"
            )
        },
    }
