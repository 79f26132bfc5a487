"""Who may use the facilitator service, how much, and what they sell.

An API key is shown once, when it is made; here is its digest. Rows are kept when a key is
revoked: payments name them.
"""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from x402_django.models.origins import is_origin


def validate_origins(value: object) -> None:
    """A list of origins, such as ``https://api.example``."""
    if not isinstance(value, list) or not all(is_origin(one) for one in value):
        raise ValidationError(_("Write a list of origins, such as [“https://api.example”]."))


class FacilitatorKey(models.Model):
    """An API key of the facilitator service: a seller, or one of a seller's servers."""

    name = models.CharField(
        _("name"), max_length=100, unique=True, help_text=_("Whose key it is, for people.")
    )
    #: The first characters of the key, which tell keys apart and open nothing.
    prefix = models.CharField(_("begins with"), max_length=24, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    #: After a rotation, the key before it is good for a while.
    previous_digest = models.CharField(max_length=64, blank=True, editable=False)
    previous_until = models.DateTimeField(
        _("the key before it is good until"), null=True, blank=True, editable=False
    )
    requests_per_minute = models.PositiveIntegerField(
        _("requests per minute"),
        null=True,
        blank=True,
        default=600,
        validators=[MinValueValidator(1)],
        help_text=_("To verify and to settle, together. Empty: no limit."),
    )
    gas_per_hour = models.PositiveBigIntegerField(
        _("gas per hour"),
        null=True,
        blank=True,
        default=20_000_000,
        validators=[MinValueValidator(1)],
        help_text=_(
            "What settling may use; a transfer uses some 80,000. What one may use at the most "
            "(MAX_GAS, 500,000) must be left for it to begin. Empty: no limit."
        ),
    )
    succeeds_once = models.BooleanField(
        _("report success once"),
        default=False,
        help_text=_(
            "For servers without a ledger of payments, such as the official middlewares: a "
            "payment presented to them many times at once is reported as settled to one request, "
            "and to the others as a duplicate. Otherwise a repeated request gets the same answer."
        ),
    )
    origins = models.JSONField(
        _("listed origins"),
        default=list,
        blank=True,
        validators=[validate_origins],
        help_text=_(
            "What is paid for under these addresses, such as [“https://api.example”], is listed "
            "for buyers at discovery/resources. Empty: nothing is."
        ),
    )
    created_at = models.DateTimeField(_("created"), editable=False)
    rotated_at = models.DateTimeField(_("rotated"), null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("facilitator API key")
        verbose_name_plural = _("facilitator API keys")
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["digest"], name="x402_facilitator_key_uniq"),
        ]
        indexes = [
            models.Index(
                fields=["previous_digest"],
                condition=~Q(previous_digest=""),
                name="x402_facilitator_previous_idx",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class FacilitatorUsage(models.Model):
    """What a key has used in one window of time. The row is the counter: no process has its own."""

    class Measure(models.TextChoices):
        REQUESTS = "requests", _("requests")
        GAS = "gas", _("gas")

    key = models.ForeignKey(
        FacilitatorKey, verbose_name=_("API key"), on_delete=models.CASCADE, related_name="usage"
    )
    measure = models.CharField(_("measure"), max_length=8, choices=Measure)
    begins_at = models.DateTimeField(_("from"))
    used = models.PositiveBigIntegerField(_("used"), default=0)

    class Meta:
        verbose_name = _("use of a facilitator API key")
        verbose_name_plural = _("use of facilitator API keys")
        ordering = ["-begins_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["key", "measure", "begins_at"], name="x402_facilitator_usage_uniq"
            ),
        ]
        indexes = [models.Index(fields=["begins_at"], name="x402_facilitator_usage_idx")]

    def __str__(self) -> str:
        return f"{self.key_id}: {self.used} {self.measure}"


class ListedResource(models.Model):
    """Something that was paid for through the service, as buyers may find it.

    The address is canonical and of one of the key's origins; the price is what the seller asked
    of the service. Nothing of it is a buyer's text.
    """

    key = models.ForeignKey(
        FacilitatorKey, verbose_name=_("API key"), on_delete=models.PROTECT, related_name="listed"
    )
    url = models.CharField(_("address"), max_length=500)
    x402_version = models.PositiveSmallIntegerField(_("x402 version"))
    accepts = models.JSONField(_("accepted payments"))
    hidden = models.BooleanField(
        _("hidden"), default=False, help_text=_("Keep it out of the public list.")
    )
    first_paid_at = models.DateTimeField(_("first paid"))
    last_paid_at = models.DateTimeField(_("last paid"))

    class Meta:
        verbose_name = _("listed resource")
        verbose_name_plural = _("listed resources")
        ordering = ["-last_paid_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["key", "url"], name="x402_listed_resource_uniq"),
        ]
        indexes = [
            models.Index(
                fields=["-last_paid_at", "-id"],
                condition=Q(hidden=False),
                name="x402_listed_resource_idx",
            ),
        ]

    def __str__(self) -> str:
        return self.url
