"""The tables of the dashboard: why payments failed, who and what brought most, and wallets."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from x402_django.admin import display
from x402_django.desk import charts, figures, words
from x402_django.desk.figures import Period, Sales
from x402_django.models import SettlementWallet
from x402_django.protocol import networks

_WEI_DECIMALS: Final = 18
_PAYMENTS: Final = "admin:x402_django_payment_changelist"

#: A line of a table, by the names that its template knows.
Line = dict[str, Any]


def failures(tallies: figures.Tallies) -> list[Line]:
    """The most frequent reasons, with their share of all failures."""
    most = max((count for _code, count in tallies.failures), default=1)
    return [
        {
            "name": code,
            "count": words.number(count),
            "share": words.percent(count / tallies.failed),
            "bar": charts.share_bar(count / most),
        }
        for code, count in tallies.failures[: figures.LISTED]
    ]


def tops(best: list[figures.Top], name: Callable[[str], Line]) -> list[Line]:
    """Who or what brought most; ``name`` says how each is shown."""
    most = max((one.usd for one in best), default=Decimal(0)) or Decimal(1)
    return [
        {
            **name(one.name),
            "paid": words.number(one.paid),
            "usd": words.usd_short(one.usd),
            "bar": charts.share_bar(float(one.usd / most)),
        }
        for one in best
    ]


def page_name(path: str) -> Line:
    """A page, by its path."""
    return {"name": path, "link": ""}


def payer_name(address: str) -> Line:
    """A payer, linked to the payments of that address."""
    return {
        "name": display.shorten(address),
        "link": f"{reverse(_PAYMENTS)}?{urlencode({'q': address})}",
    }


def tokens(sales: Sales) -> list[Line]:
    """What came in each token on each network, exactly."""
    total = sales.total_usd or Decimal(1)
    return [
        {
            "name": on_network(token.symbol, token.network),
            "title": f"{token.asset} ({token.network})",
            "paid": words.number(token.paid),
            "amount": words.amount(token.amount, token.decimals, token.symbol),
            "refunded": words.amount(token.refunded, token.decimals, token.symbol)
            if token.refunded
            else "",
            "usd": words.usd_short(token.usd) if token.unpriced < token.paid else words.EMPTY,
            "bar": charts.share_bar(float(token.usd / total)),
        }
        for token in sales.tokens
    ]


def rules(asked: figures.Asked) -> list[Line]:
    """What each price rule asked for and got."""
    return [
        {
            "name": line.name or _("Prices in code"),
            "asked": words.number(line.asked) if line.asked else words.EMPTY,
            "paid": words.number(line.paid),
            "conversion": words.percent(line.conversion),
            "bar": charts.share_bar(line.conversion or 0),
            "usd": words.usd_short(line.usd),
        }
        for line in asked.rules[: 2 * figures.LISTED]
    ]


def wallets(period: Period, rows: list[SettlementWallet]) -> list[Line]:
    """Each wallet, with what it has and what it has spent in these days."""
    spent = {(one.network, one.wallet): one for one in figures.gas(period)}
    lines = []
    for wallet in rows:
        gas = spent.pop((wallet.network, wallet.address), None)
        lines.append(
            {
                "name": display.shorten(wallet.address),
                "network": networks.display_name(wallet.network),
                "balance": _coins(wallet.balance, wallet.network),
                "is_low": wallet.is_low,
                "balance_at": wallet.balance_at,
                **_spent(gas, wallet.network),
            }
        )
    for (network, address), gas in spent.items():  # payers whose own transactions were paid for
        lines.append(
            {
                "name": display.shorten(address),
                "network": networks.display_name(network),
                "balance": words.EMPTY,
                **_spent(gas, network),
            }
        )
    return lines


def _spent(gas: figures.Gas | None, network: str) -> Line:
    if gas is None:
        return {
            "transactions": "0",
            "payments": "0",
            "fee": _coins(0, network),
            "each": words.EMPTY,
        }
    each = gas.fee // gas.payments if gas.payments else None
    return {
        "transactions": words.number(gas.transactions),
        "payments": words.number(gas.payments),
        "fee": _coins(gas.fee, network),
        "each": _coins(each, network),
    }


def _coins(wei: int | None, network: str) -> str:
    """To four digits that say something: nobody reads eighteen."""
    if wei is None:
        return words.EMPTY
    coins = Decimal(wei).scaleb(-_WEI_DECIMALS)
    rounded = coins.normalize() if not coins else round(coins, max(0, 3 - coins.adjusted()))
    return f"{display.plain(rounded)} {networks.coin_symbol(network)}"


def on_network(symbol: str, network: str) -> str:
    """``USDC on Base``"""
    return _("%(token)s on %(network)s") % {
        "token": symbol,
        "network": networks.display_name(network),
    }
