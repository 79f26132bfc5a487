"""Numbers, dollars, times and days as people read them, in the language of the request."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from django.utils import formats
from django.utils.translation import gettext as _

from x402_django.pricing.money import format_amount

#: What stands where there is nothing to show.
EMPTY = "—"


def number(value: float | Decimal, places: int = 0) -> str:
    """``12,345``"""
    exact = Decimal(value) if isinstance(value, int) else value  # not through a float
    rounded = f"{exact:.{places}f}"  # Django's function would cut
    return formats.number_format(rounded, decimal_pos=places, use_l10n=True, force_grouping=True)


def usd(value: Decimal) -> str:
    """Exact: ``$1,234.50``, ``$0.0001``; at least two decimals, and no more zeros than that."""
    _sign, digits, exponent = value.normalize().as_tuple()
    del digits
    places = max(2, -int(exponent))
    return f"${number(value.quantize(Decimal(1).scaleb(-places)), places)}"


def usd_short(value: Decimal) -> str:
    """For large letters: whole cents from a dollar on, and exact below."""
    if value >= 1:
        return f"${number(value.quantize(Decimal('0.01'), ROUND_HALF_UP), 2)}"
    return usd(value)


def amount(atomic: int, decimals: int, symbol: str) -> str:
    """An atomic amount in its token, exact: ``6,029.803 USDC``."""
    whole, _point, rest = format_amount(atomic, decimals, symbol).partition(".")
    if not rest:
        return f"{number(atomic)} {symbol}".rstrip()
    return f"{number(int(whole))}{formats.get_format('DECIMAL_SEPARATOR')}{rest}"


def usd_tick(value: Decimal) -> str:
    """For an axis: ``$1.5k``, ``$20``, ``$0.005``."""
    return f"${tick(value)}"


def tick(value: Decimal | float) -> str:
    """For an axis: ``1.5k``, ``2M``."""
    value = Decimal(str(value)) if isinstance(value, float) else Decimal(value)
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{_trimmed(value / size)}{letter}"
    return _trimmed(value)


def percent(share: float | None) -> str:
    """``12.3 %``; an em dash where there is nothing to be a share of."""
    return EMPTY if share is None else f"{number(round(share * 100, 1), 1)}\u00a0%"


def seconds(value: float | None) -> str:
    """``0.35 s``, ``4.2 s``, ``3 min``."""
    if value is None:
        return EMPTY
    if value >= 120:
        return _minutes(number(value / 60))
    return _seconds(number(value, 2 if value < 1 else 1 if value < 10 else 0))


def edge(value: float) -> str:
    """An end of a bin of times, as short as it is exact: ``0.25 s``, ``30 min``."""
    if value >= 60:
        return _minutes(_trimmed(Decimal(str(value)) / 60))
    return _seconds(_trimmed(Decimal(str(value))))


def _minutes(text: str) -> str:
    return _unbroken(_("%(minutes)s min") % {"minutes": text})


def _seconds(text: str) -> str:
    return _unbroken(_("%(seconds)s s") % {"seconds": text})


def _unbroken(text: str) -> str:
    """A number stays on the line of its unit."""
    return text.replace(" ", "\u00a0")


def day(value: date) -> str:
    """A day in full, for tables."""
    return formats.date_format(value, "DATE_FORMAT")


def short_day(value: date) -> str:
    """A day on an axis: ``Mar 4``."""
    return formats.date_format(value, "M j")


def month(value: date) -> str:
    """``Mar 2026``"""
    return formats.date_format(value, "M Y")


def _trimmed(value: Decimal) -> str:
    text = f"{value.normalize():f}"
    whole, _point, fraction = text.partition(".")
    return f"{whole}.{fraction[:4].rstrip('0')}".rstrip(".")
