"""The part of a price rule that says for whom and when it applies.

Groups are kept by their keys, not by a relation: with a relation, deleting a group would leave a
rule without its condition, and so in force for everybody. As it is, nobody is in such a group.
"""

from __future__ import annotations

import re
from typing import Final

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from x402_django.constants import EFFECT_CHARGE, EFFECT_FREE

_COUNTRY: Final = re.compile(r"[A-Z]{2}")
#: Headers that must not be a condition: what is in them is a secret of the site's.
_NOT_THESE: Final = frozenset({"cookie", "authorization", "proxy-authorization"})


class Audience(models.TextChoices):
    """Who asks."""

    ANYBODY = "", _("Anybody")
    ANONYMOUS = "anonymous", _("Who is not logged in")
    USERS = "users", _("Who is logged in")
    STAFF = "staff", _("Staff")


class Effect(models.TextChoices):
    """What a rule does."""

    CHARGE = EFFECT_CHARGE, _("Ask for its price")
    FREE = EFFECT_FREE, _("Let in, free of charge")


def validate_header_name(value: str) -> None:
    """A token of RFC 9110; not one that holds credentials."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", value):
        raise ValidationError(_("That is no name of a header."))
    if value.lower() in _NOT_THESE:
        raise ValidationError(_("What is in that header is nobody's business."))


def validate_texts(value: object) -> None:
    """A list of texts that are not empty."""
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ValidationError(_("Write a list of texts."))


def validate_countries(value: object) -> None:
    """A list of two-letter codes (ISO 3166-1)."""
    validate_texts(value)
    if not all(_COUNTRY.fullmatch(one) for one in value):  # type: ignore[attr-defined]
        raise ValidationError(_("Write codes of two capital letters, such as DE."))


def validate_weekdays(value: object) -> None:
    """A list of days, 0 for Monday to 6 for Sunday."""
    if not isinstance(value, list) or not all(type(one) is int and 0 <= one <= 6 for one in value):
        raise ValidationError(_("Write days from 0, Monday, to 6, Sunday."))


class HasConditions(models.Model):
    """Columns of ``PriceRule``. All that are given must hold; none: the rule is for everybody."""

    effect = models.CharField(
        _("what it does"), max_length=8, choices=Effect, default=Effect.CHARGE,
        help_text=_(
            "A free rule above the others lets in whom it is for: your staff, a test client."
        ),
    )  # fmt: skip
    audience = models.CharField(
        _("who asks"), max_length=16, choices=Audience, blank=True, default=Audience.ANYBODY
    )
    groups = models.JSONField(
        _("groups"), default=list, blank=True, help_text=_("Members of any of them.")
    )
    permission = models.CharField(
        _("permission"),
        max_length=200,
        blank=True,
        validators=[RegexValidator(r"^[a-z_0-9]+\.[a-z_0-9]+$", _("Write app.codename."))],
        help_text=_("Who has it, such as blog.view_article."),
    )
    header_name = models.CharField(
        _("header"),
        max_length=100,
        blank=True,
        validators=[validate_header_name],
        help_text=_(
            "Anybody can send any header. Believe one only if your proxy sets it, or if its value "
            "is a secret."
        ),
    )
    header_values = models.JSONField(
        _("values of the header"),
        default=list,
        blank=True,
        validators=[validate_texts],
        help_text=_(
            "Any of them, exactly. Empty: whatever it says. A secret can be written as sha256: and "
            "its SHA-256 in hexadecimal."
        ),
    )
    countries = models.JSONField(
        _("countries"),
        default=list,
        blank=True,
        validators=[validate_countries],
        help_text=_("Two letters each, as your proxy says in X402['COUNTRY_HEADER']."),
    )
    hours_from = models.TimeField(_("from"), null=True, blank=True)
    hours_until = models.TimeField(
        _("until"),
        null=True,
        blank=True,
        help_text=_("In the site's time zone; may go over midnight, as from 22:00 until 06:00."),
    )
    weekdays = models.JSONField(
        _("days of the week"), default=list, blank=True, validators=[validate_weekdays]
    )

    #: All of ``groups`` were deleted; noted as rules are read (``pricing.rules``).
    lost_groups = False

    class Meta:
        abstract = True


#: Columns that are conditions.
CONDITION_FIELDS: Final = (
    "audience",
    "groups",
    "permission",
    "header_name",
    "header_values",
    "countries",
    "hours_from",
    "hours_until",
    "weekdays",
)


def condition_constraints() -> list[models.CheckConstraint]:
    """What must hold of these columns together."""
    return [
        models.CheckConstraint(
            condition=models.Q(hours_from__isnull=True, hours_until__isnull=True)
            | (
                models.Q(hours_from__isnull=False, hours_until__isnull=False)
                & ~models.Q(hours_from=models.F("hours_until"))
            ),
            name="x402_rule_hours",
            violation_error_message=_("Give both a beginning and another end of the hours."),
        ),
    ]
