"""The part of a price rule that asks less of good customers."""

from __future__ import annotations

from typing import Any, Final

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

#: Discounts below the whole price; what is free is a rule that lets in free of charge.
_MOST: Final = 95


def validate_tiers(value: Any) -> None:
    """Pairs of a number of purchases and a discount in percent, both rising."""
    problem = ValidationError(
        _("Write pairs of purchases and percent, both rising: [[10, 5], [100, 20]].")
    )
    if not isinstance(value, list):
        raise problem
    last = (0, 0)
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(n) is int for n in pair)):
            raise problem
        purchases, percent = pair
        if purchases <= last[0] or not last[1] < percent <= _MOST:
            raise problem
        last = (purchases, percent)


class HasDiscounts(models.Model):
    """Columns of ``PriceRule``."""

    holder_discount = models.PositiveSmallIntegerField(
        _("discount for pass holders in percent"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(_MOST)],
        help_text=_("For wallets that hold a pass of yours which does not open this page."),
    )
    volume_tiers = models.JSONField(
        _("discounts by volume"),
        default=list,
        blank=True,
        validators=[validate_tiers],
        help_text=_(
            "From so many purchases of yours in the last 30 days on, a wallet pays so much "
            "percent less."
        ),
    )

    class Meta:
        abstract = True
