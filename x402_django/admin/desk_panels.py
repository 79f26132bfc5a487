"""The parts of the dashboard: numbers in words, charts, and tables of who and what."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from x402_django.admin import desk_tables
from x402_django.admin.desk_tables import on_network
from x402_django.desk import charts, figures, latency, live, words
from x402_django.desk.figures import Period, Sales
from x402_django.models import SettlementWallet

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
    axis = _axis(period)
    return {
        "tiles": _tiles(period, sales, asked, tallies),
        "now": [*_owed_now(period, merchant), *_gas_money(wallets)],
        "revenue": _revenue(axis, sales),
        "paid": _paid(axis, sales),
        "conversion": _conversion(axis, sales, asked),
        "times": _times(tallies),
        "failures": desk_tables.failures(tallies),
        "pages": desk_tables.tops(tops["view"], desk_tables.page_name),
        "payers": desk_tables.tops(tops["payer"], desk_tables.payer_name),
        "tokens": desk_tables.tokens(sales),
        "rules": desk_tables.rules(asked),
        "wallets": desk_tables.wallets(period, wallets) if wallets is not None else None,
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
        *_refunded(sales),
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


def _refunded(sales: Sales) -> list[dict[str, Any]]:
    """For who has given something back: revenue is before that."""
    if not sales.refunds:
        return []
    return [
        {
            "name": _("Refunded"),
            "value": words.usd_short(sales.refunded_usd),
            "note": ngettext(
                "%(count)s refund, not taken from the revenue",
                "%(count)s refunds, not taken from the revenue",
                sales.refunds,
            )
            % {"count": words.number(sales.refunds)},
        }
    ]


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


def _revenue(axis: charts.Axis, sales: Sales) -> charts.Chart:
    """Stacked by network and token; the ones that brought least together."""
    tokens = [one for one in sales.tokens if one.usd]
    single = charts.COLOURS if len(tokens) <= charts.COLOURS else charts.COLOURS - 1
    series = [
        charts.Series(
            on_network(token.symbol, token.network),
            [usd.get((token.network, token.asset), Decimal(0)) for usd in sales.usd.values()],
        )
        for token in tokens[:single]
    ]
    rest = {(one.network, one.asset) for one in tokens[single:]}
    if rest:
        series.append(
            charts.Series(
                _("all others"),
                [
                    sum((usd for key, usd in bar.items() if key in rest), Decimal(0))
                    for bar in sales.usd.values()
                ],
            )
        )
    return charts.bars(
        _("Revenue in US dollars"),
        axis,
        series or [charts.Series(_("Revenue"), [Decimal(0) for _bar in sales.usd])],
        show=words.usd,
        tick=words.usd_tick,
    )


def _paid(axis: charts.Axis, sales: Sales) -> charts.Chart:
    return charts.bars(
        _("Paid requests"),
        axis,
        [charts.Series(_("Paid requests"), list(sales.paid.values()))],
        show=words.number,
        tick=words.tick,
    )


def _conversion(axis: charts.Axis, sales: Sales, asked: figures.Asked) -> charts.Chart:
    shares = [figures.conversion(paid, asked.asked[bar]) for bar, paid in sales.paid.items()]
    return charts.line(
        _("Conversion from challenge to payment"),
        axis,
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
