"""Prices for good customers: for who holds a pass, and for who buys much."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING

from x402_django.exceptions import ConfigurationError
from x402_django.pricing.methods import offers_for
from x402_django.pricing.money import parse_usd

if TYPE_CHECKING:
    from x402_django.models import PriceRule
    from x402_django.pricing.methods import OfferTemplate
    from x402_django.pricing.quotes import Quote


@dataclass(frozen=True, slots=True)
class Discounts:
    """``holder`` in percent for who holds a pass; ``tiers`` are purchases and percent, rising."""

    holder: int
    tiers: tuple[tuple[int, int], ...]
    templates: tuple[OfferTemplate, ...]

    @property
    def most_purchases(self) -> int:
        """More purchases than this make no difference; 0: none do."""
        return self.tiers[-1][0] if self.tiers else 0

    def percent(self, *, holds_pass: bool, purchases: int) -> int:
        """What such a payer is let off: the greater of both."""
        reached = [percent for least, percent in self.tiers if purchases >= least]
        return max(self.holder if holds_pass else 0, *reached, 0)


def compile_discounts(rule: PriceRule, templates: tuple[OfferTemplate, ...]) -> Discounts | None:
    """The discounts of a row; None where it has none, or no price in dollars to take them off."""
    tiers = tuple((int(least), int(percent)) for least, percent in rule.volume_tiers or ())
    if not (rule.holder_discount or tiers) or rule.price_usd is None:
        return None
    return Discounts(rule.holder_discount or 0, tiers, templates)


def with_discount(quote: Quote, percent: int) -> Quote:
    """``quote`` for so much less, rounded up to what every token can say.

    The quote itself where that would be less than anything may cost.
    """
    discounts = quote.discounts
    if discounts is None or quote.price_usd is None or not 0 < percent < 100:
        return quote
    finest = min((template.decimals for template in discounts.templates), default=0)
    price = (quote.price_usd * (100 - percent) / 100).quantize(
        Decimal(1).scaleb(-min(finest, 8)), ROUND_CEILING
    )
    try:
        offers = offers_for(discounts.templates, price_usd=parse_usd(price))
    except ConfigurationError:
        return quote
    return replace(quote, offers=offers, price_usd=price)
