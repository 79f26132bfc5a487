"""The part of a price rule that gives some requests away, and how many were taken."""

from __future__ import annotations

from typing import Final

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

QUOTA_ADDRESS: Final = "address"
QUOTA_USER: Final = "user"
QUOTA_PAYER: Final = "payer"


class QuotaPeriod(models.TextChoices):
    """How long a number of free requests is for; periods begin with the hour, day or month."""

    HOUR = "hour", _("an hour")
    DAY = "day", _("a day")
    MONTH = "month", _("a month")


class QuotaSubject(models.TextChoices):
    """Who has them."""

    ADDRESS = QUOTA_ADDRESS, _("each address of the network (IP)")
    USER = QUOTA_USER, _("each user who is logged in")
    PAYER = QUOTA_PAYER, _("each wallet that signs in")


class HasQuota(models.Model):
    """Columns of ``PriceRule``."""

    free_requests = models.PositiveIntegerField(
        _("free requests"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("How many are answered before the price is asked for. Empty: none."),
    )
    free_period = models.CharField(
        _("in"), max_length=8, choices=QuotaPeriod, default=QuotaPeriod.DAY
    )
    free_per = models.CharField(
        _("for"), max_length=8, choices=QuotaSubject, default=QuotaSubject.ADDRESS
    )

    class Meta:
        abstract = True


class FreeQuota(models.Model):
    """How many free requests somebody has taken of a rule in one period.

    ``subject`` is a keyed hash: whose address or user it was cannot be read back (threat 23).
    """

    rule = models.ForeignKey(
        "x402_django.PriceRule",
        verbose_name=_("price rule"),
        on_delete=models.CASCADE,
        db_index=False,  # in the constraint
        related_name="+",
    )
    subject = models.CharField(max_length=64)
    begins_at = models.DateTimeField(_("begins"))
    taken = models.PositiveIntegerField(_("taken"), default=0)

    class Meta:
        verbose_name = _("free quota")
        verbose_name_plural = _("free quotas")
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "subject", "begins_at"], name="x402_free_quota_uniq"
            ),
            models.CheckConstraint(condition=Q(taken__gte=0), name="x402_free_quota_taken"),
        ]
        indexes = [models.Index(fields=["begins_at"], name="x402_free_quota_begins_idx")]

    def __str__(self) -> str:
        return f"{self.rule_id}: {self.taken}"
