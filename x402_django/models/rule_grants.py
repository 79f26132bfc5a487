"""The part of a price rule that says what its price buys."""

from __future__ import annotations

from typing import Final

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from x402_django.constants import (
    GRANT_CREDITS,
    GRANT_PASS,
    GRANT_REQUEST,
    MAX_PASS_HOURS,
)

#: The columns that say what is sold.
GRANT_FIELDS: Final = (
    "grants",
    "pass_hours",
    "pass_uses",
    "pass_pages",
    "pass_for_object",
    "credits_usd",
)


class Grants(models.TextChoices):
    """What paying a rule's price buys."""

    REQUEST = GRANT_REQUEST, _("This one request")
    PASS = GRANT_PASS, _("A pass: for a time, or a number of uses")
    CREDITS = GRANT_CREDITS, _("Credits, to be spent on other requests")


class SellsGrants(models.Model):
    """Columns of ``PriceRule``, and of the prices it had before."""

    grants = models.CharField(
        _("what the price buys"), max_length=8, choices=Grants, default=Grants.REQUEST
    )
    pass_hours = models.PositiveIntegerField(
        _("pass: hours"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_PASS_HOURS)],
        help_text=_("How long the pass lasts from its payment on. 24 is a day. Empty: for ever."),
    )
    pass_uses = models.PositiveIntegerField(
        _("pass: uses"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_(
            "How many more requests it is good for; the one that buys it is not counted. "
            "Empty: as many as wanted."
        ),
    )
    pass_pages = models.JSONField(
        _("pass: also opens"),
        default=list,
        blank=True,
        help_text=_("Pages that the pass opens beside those that it is sold on."),
    )
    pass_for_object = models.BooleanField(
        _("pass: for one address only"),
        default=False,
        help_text=_(
            "The pass opens only the very address it was bought on, such as this one article, and "
            "not all pages above."
        ),
    )
    credits_usd = models.DecimalField(
        _("credits in US dollars"),
        max_digits=18,
        decimal_places=8,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text=_("How much may be spent for the price. Empty: as much as the price."),
    )
    takes_credits = models.BooleanField(
        _("can be paid with credits"),
        default=False,
        help_text=_(
            "Who has bought credits of yours may spend them here. A view that charges by use "
            "spends what it charges."
        ),
    )

    class Meta:
        abstract = True


def grant_constraints() -> list[models.CheckConstraint]:
    """What must hold of these columns together with the price."""
    return [
        models.CheckConstraint(
            condition=~Q(grants=GRANT_PASS)
            | Q(pass_hours__isnull=False)
            | Q(pass_uses__isnull=False),
            name="x402_rule_pass_ends",
            violation_error_message=_("A pass needs a number of hours, of uses, or both."),
        ),
        models.CheckConstraint(
            condition=~Q(grants=GRANT_CREDITS)
            | Q(credits_usd__isnull=False)
            | Q(price_usd__isnull=False),
            name="x402_rule_credits_amount",
            violation_error_message=_(
                "Say how many credits are bought; with a price in token units it is not known."
            ),
        ),
        models.CheckConstraint(
            condition=Q(takes_credits=False) | Q(grants=GRANT_REQUEST, price_usd__isnull=False),
            name="x402_rule_takes_credits",
            violation_error_message=_(
                "Only a single request with a price in US dollars can be paid with credits."
            ),
        ),
        models.CheckConstraint(
            condition=Q(grants=GRANT_REQUEST) | (~Q(flow="deferred") & Q(unit_price_usd=None)),
            name="x402_rule_grants_settled",
            violation_error_message=_(
                "A pass or credits are sold for a fixed price that is settled at once: leave the "
                "price of a unit empty, and do not defer."
            ),
        ),
    ]
