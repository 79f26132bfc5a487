"""The parts of the dashboard: numbers in words, charts, and tables of who and what."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from x402_django.admin import display
from x402_django.desk import charts, figures, latency, live, words
from x402_django.desk.figures import Period, Sales
from x402_django.models import SettlementWallet
from x402_django.protocol import networks

_WEI_DECIMALS: Final = 18
_PAYMENTS: Final = "admin:x402_django_payment_changelist"


def panels(period: Period, merchant: str, *, with_wallets: bool) -> dict[str, Any]:
    """Everything below the choice of days, for the template ``desk.html``.

    ``merchant`` is the key of a chosen one, for links into the lists; empty: none was chosen.
    """
    sales = figures.sales(period)
    asked = figures.challenges(period)
    tallies = figures.tallies(period)
    tops = figures.tops(period)
    stale, counted_at = figures.to_be_counted()
    wallets = live.wallets() if with_wallets else None
    return {
        "tiles": _tiles(period, sales, asked, tallies),
        "now": [*_owed_now(period, merchant), *_gas_money(wallets)],
        "revenue": _revenue(period, sales),
        "paid": _paid(period, sales),
        "conversion": _conversion(period, sales, asked),
        "times": _times(tallies),
        "failures": _failures(tallies),
        "pages": _tops(tops["view"], _page_name),
        "payers": _tops(tops["payer"], _payer_name),
        "tokens": _tokens(sales),
        "rules": _rules(asked),
        "wallets": _wallets(period, wallets) if wallets is not None else None,
        "is_empty": not (sales.total_paid or asked.total or tallies.failed),
        "unpriced": sales.unpriced,
        "unpriced_shown": words.number(sales.unpriced),
        "stale": stale,
        "counted_at": counted_at,
    }


def _tiles(
    period: Period, sales: Sales, asked: figures.Asked, tallies: figures.Tallies
) -> list[dict[str, Any]]:
    half = latency.quantile(tallies.times, 0.5)
    most = latency.quantile(tallies.times, 0.95)
    return [
        {
            "name": _("Revenue"),
            "value": words.usd_short(sales.total_usd),
            "note": _against(period, sales.total_usd, sales.usd_before),
        },
        {
            "name": _("Paid requests"),
            "value": words.number(sales.total_paid),
            "note": _against(period, Decimal(sales.total_paid), Decimal(sales.paid_before)),
        },
        {
            "name": _("Conversion"),
            "value": words.percent(figures.conversion(sales.total_paid, asked.total)),
            "note": ngettext(
                "of %(asked)s that was asked to pay", "of %(asked)s that were asked to pay",
                asked.total,
            ) % {"asked": words.number(asked.total)},
        },
        {
            "name": _("Time to settle"),
            "value": words.seconds(half),
            "note": _("half within; 95 %% within %(time)s") % {"time": words.seconds(most)},
        },
    ]  # fmt: skip


def _against(period: Period, new: Decimal, old: Decimal) -> str:
    """How it compares with as many days before."""
    days = {"days": period.length}
    if not old:
        return _("nothing in the %(days)d days before") % days
    change = float(new / old) - 1
    share = {**days, "share": words.percent(abs(change))}
    if abs(change) < 0.0005:
        return _("as in the %(days)d days before") % days
    if change > 0:
        return _("▲ %(share)s against the %(days)d days before") % share
    return _("▼ %(share)s against the %(days)d days before") % share


def _owed_now(period: Period, merchant: str) -> list[dict[str, Any]]:
    """What is so now, each with a link to the list of those payments."""
    tiles = []
    for name, owed, attention, note in (
        (
            _("Delivered, not settled yet"),
            live.unsettled(period.merchants),
            "unsettled",
            _("owed by payers"),
        ),
        (
            _("Paid, not delivered yet"),
            live.undelivered(period.merchants),
            "owed",
            _("owed to payers"),
        ),
    ):
        count = words.number(min(owed.count, live.LIMIT))
        payments = (
            _("more than %(count)s payments")
            if owed.is_more
            else ngettext("%(count)s payment", "%(count)s payments", owed.count)
        ) % {"count": count}
        query = {"attention": attention, **({"merchant": merchant} if merchant else {})}
        tiles.append(
            {
                "name": name,
                "value": words.usd_short(owed.usd),
                "note": f"{payments}, {note}" if owed.count else _("none"),
                "link": f"{reverse(_PAYMENTS)}?{urlencode(query)}" if owed.count else "",
                "needs_attention": attention == "owed" and owed.count > 0,
            }
        )
    return tiles


def _gas_money(wallets: list[SettlementWallet] | None) -> list[dict[str, Any]]:
    """Whether the site's own wallets can go on settling; nothing where it has none."""
    if not wallets:
        return []
    low = sum(wallet.is_low for wallet in wallets)
    counts = {"low": words.number(low), "all": words.number(len(wallets))}
    return [
        {
            "name": _("Settlement wallets"),
            "value": _("%(low)s low") % counts if low else _("Enough gas"),
            "note": ngettext("%(all)s wallet", "%(all)s wallets", len(wallets)) % counts,
            "link": reverse("admin:x402_django_settlementwallet_changelist"),
            "needs_attention": low > 0,
        }
    ]


def _axis(period: Period) -> charts.Axis:
    bars = period.bars
    heads = {"day": _("Day"), "week": _("Week from"), "month": _("Month")}
    names = {"day": words.short_day, "week": words.short_day, "month": words.month}
    full = words.month if period.step == "month" else words.day
    return charts.Axis(
        heads[period.step], [names[period.step](one) for one in bars], [full(one) for one in bars]
    )


def _revenue(period: Period, sales: Sales) -> charts.Chart:
    """Stacked by network and token; the ones that brought least together."""
    tokens = [one for one in sales.tokens if one.usd]
    single = charts.COLOURS if len(tokens) <= charts.COLOURS else charts.COLOURS - 1
    series = [
        charts.Series(
            _on(token.symbol, token.network),
            [sales.usd[bar].get((token.network, token.asset), Decimal(0)) for bar in period.bars],
        )
        for token in tokens[:single]
    ]
    rest = {(one.network, one.asset) for one in tokens[single:]}
    if rest:
        series.append(
            charts.Series(
                _("all others"),
                [
                    sum((usd for key, usd in sales.usd[bar].items() if key in rest), Decimal(0))
                    for bar in period.bars
                ],
            )
        )
    return charts.bars(
        _("Revenue in US dollars"),
        _axis(period),
        series or [charts.Series(_("Revenue"), [Decimal(0) for _bar in period.bars])],
        show=words.usd,
        tick=words.usd_tick,
    )


def _paid(period: Period, sales: Sales) -> charts.Chart:
    return charts.bars(
        _("Paid requests"),
        _axis(period),
        [charts.Series(_("Paid requests"), [sales.paid[bar] for bar in period.bars])],
        show=words.number,
        tick=words.tick,
    )


def _conversion(period: Period, sales: Sales, asked: figures.Asked) -> charts.Chart:
    shares = [figures.conversion(sales.paid[bar], asked.asked[bar]) for bar in period.bars]
    return charts.line(
        _("Conversion from challenge to payment"),
        _axis(period),
        charts.Series(
            _("Paid of those asked"), [None if one is None else one * 100 for one in shares]
        ),
        show=lambda percent: words.percent(percent / 100),
        tick=lambda percent: f"{words.tick(percent)}%",
    )


def _times(tallies: figures.Tallies) -> charts.Chart:
    """Bins from the first to the last in which there is anything."""
    used = [number for number, count in enumerate(tallies.times) if count]
    first, last = (max(min(used) - 1, 0), min(max(used) + 1, latency.BINS - 1)) if used else (0, 5)
    numbers = range(first, last + 1)
    names = [
        words.edge(latency.EDGES[number]) if number < len(latency.EDGES) else _("more")
        for number in numbers
    ]
    return charts.bars(
        _("Time from payment to settlement"),
        charts.Axis(_("Within"), names, names),
        [charts.Series(_("Payments"), [tallies.times[number] for number in numbers])],
        show=words.number,
        tick=words.tick,
    )


def _failures(tallies: figures.Tallies) -> list[dict[str, Any]]:
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


def _tops(tops: list[figures.Top], name: Any) -> list[dict[str, Any]]:
    most = max((one.usd for one in tops), default=Decimal(0)) or Decimal(1)
    return [
        {
            **name(one.name),
            "paid": words.number(one.paid),
            "usd": words.usd_short(one.usd),
            "bar": charts.share_bar(float(one.usd / most)),
        }
        for one in tops
    ]


def _page_name(path: str) -> dict[str, Any]:
    return {"name": path, "link": ""}


def _payer_name(address: str) -> dict[str, Any]:
    return {
        "name": display.shorten(address),
        "link": f"{reverse(_PAYMENTS)}?{urlencode({'q': address})}",
    }


def _tokens(sales: Sales) -> list[dict[str, Any]]:
    total = sales.total_usd or Decimal(1)
    return [
        {
            "name": _on(token.symbol, token.network),
            "title": f"{token.asset} ({token.network})",
            "paid": words.number(token.paid),
            "amount": words.amount(token.amount, token.decimals, token.symbol),
            "usd": words.usd_short(token.usd) if token.unpriced < token.paid else words.EMPTY,
            "bar": charts.share_bar(float(token.usd / total)),
        }
        for token in sales.tokens
    ]


def _rules(asked: figures.Asked) -> list[dict[str, Any]]:
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


def _wallets(period: Period, wallets: list[SettlementWallet]) -> list[dict[str, Any]]:
    """Each wallet, with what it has and what it has spent in these days."""
    spent = {(one.network, one.wallet): one for one in figures.gas(period)}
    lines = []
    for wallet in wallets:
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


def _spent(gas: figures.Gas | None, network: str) -> dict[str, Any]:
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


def _on(symbol: str, network: str) -> str:
    return _("%(token)s on %(network)s") % {
        "token": symbol,
        "network": networks.display_name(network),
    }
