"""Outgoing webhooks: who is told what happened to the money, and how the telling went."""

from __future__ import annotations

from typing import Final

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from x402_django.constants import DEFAULT_MERCHANT
from x402_django.models.ledger import AppendOnly
from x402_django.models.merchant import Merchant

#: The types of event, as they stand in a message's ``type``.
EVENT_TYPES: Final = (
    "payment.settled",
    "payment.final",
    "payment.reversed",
    "payment.failed",
    "receipt.issued",
    "refund.requested",
    "refund.sent",
    "refund.final",
    "refund.rejected",
    "refund.failed",
)


def validate_event_types(value: object) -> None:
    """A list of event types; an empty one means all."""
    if not isinstance(value, list) or not all(one in EVENT_TYPES for one in value):
        raise ValidationError(
            _("Write a list of these: %(known)s."), params={"known": ", ".join(EVENT_TYPES)}
        )


class WebhookEndpoint(models.Model):
    """An address that is told. Its secrets are encrypted with a key derived from SECRET_KEY."""

    name = models.CharField(
        _("name"), max_length=100, unique=True, help_text=_("Whose address it is, for people.")
    )
    url = models.CharField(
        _("address"),
        max_length=500,
        help_text=_("Where messages are posted to, such as https://shop.example/hooks/x402."),
    )
    events = models.JSONField(
        _("events"),
        default=list,
        blank=True,
        validators=[validate_event_types],
        help_text=_(
            "What it is told, such as [“payment.final”, “receipt.issued”]. Empty: everything. "
            "Ship goods on payment.final: what is settled can still be reversed by the chain."
        ),
    )
    is_active = models.BooleanField(
        _("active"),
        default=True,
        help_text=_(
            "While it is off nothing new is written for it; what waits is sent once it is on again."
        ),
    )
    merchant = models.ForeignKey(
        Merchant,
        verbose_name=_("merchant"),
        default=DEFAULT_MERCHANT,
        on_delete=models.PROTECT,
        related_name="webhook_endpoints",
    )
    sealed_secret = models.TextField(editable=False)
    #: After a rotation the secret before it signs too, for a while.
    sealed_previous = models.TextField(blank=True, editable=False)
    previous_until = models.DateTimeField(
        _("the secret before it signs until"), null=True, blank=True, editable=False
    )
    failing_since = models.DateTimeField(_("failing since"), null=True, blank=True, editable=False)
    off_reason = models.CharField(
        _("turned off because"), max_length=100, blank=True, editable=False
    )
    created_at = models.DateTimeField(_("created"), editable=False)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        verbose_name = _("webhook endpoint")
        verbose_name_plural = _("webhook endpoints")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def wants(self, event_type: str) -> bool:
        """Whether it asked for events of this type."""
        return not self.events or event_type in self.events


class WebhookMessage(models.Model):
    """What happened, once: the very bytes that every endpoint is sent."""

    class Subject(models.TextChoices):
        EVENT = "event", _("transition of a payment")
        RECEIPT = "receipt", _("receipt")
        REFUND = "refund", _("transition of a refund")

    message_id = models.CharField(_("message"), max_length=64, unique=True)
    event_type = models.CharField(_("event"), max_length=32)
    #: The row of the ledger that it tells of, and its key there. No foreign key: the ledger may
    #: forget what was never charged, the message stays.
    subject = models.CharField(max_length=8, choices=Subject)
    subject_id = models.PositiveBigIntegerField()
    body = models.TextField(_("body"))
    created_at = models.DateTimeField(_("written"))

    class Meta:
        verbose_name = _("webhook message")
        verbose_name_plural = _("webhook messages")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["subject", "subject_id"], name="x402_webhook_message_subject_uniq"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} {self.message_id}"


class WebhookDelivery(models.Model):
    """One message for one endpoint. ``attempts`` counts since it was last queued."""

    class State(models.TextChoices):
        PENDING = "pending", _("waiting")
        DELIVERED = "delivered", _("delivered")
        GIVEN_UP = "given_up", _("given up")

    message = models.ForeignKey(
        WebhookMessage,
        verbose_name=_("message"),
        on_delete=models.PROTECT,
        related_name="deliveries",
        db_index=False,
    )
    endpoint = models.ForeignKey(
        WebhookEndpoint,
        verbose_name=_("endpoint"),
        on_delete=models.PROTECT,
        related_name="deliveries",
    )
    state = models.CharField(_("state"), max_length=16, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    #: While somebody sends it: when others may, because that one must be dead.
    next_attempt_at = models.DateTimeField(_("next attempt"))
    #: Who holds it. Counts every taking and queueing, never reset.
    lease = models.PositiveIntegerField(default=0)
    last_status = models.PositiveSmallIntegerField(_("last status"), null=True, blank=True)
    last_error = models.CharField(_("last error"), max_length=64, blank=True)

    class Meta:
        verbose_name = _("webhook delivery")
        verbose_name_plural = _("webhook deliveries")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["message", "endpoint"], name="x402_webhook_delivery_uniq"
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                condition=Q(state="pending"),
                name="x402_webhook_due_idx",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pk} ({self.get_state_display()})"


class WebhookAttempt(AppendOnly):
    """One try at a delivery, written once. ``answer`` is the receiver's text: escape it."""

    delivery = models.ForeignKey(
        WebhookDelivery,
        verbose_name=_("delivery"),
        on_delete=models.PROTECT,
        related_name="attempt_log",
    )
    at = models.DateTimeField(_("at"))
    status = models.PositiveSmallIntegerField(_("status"), null=True, blank=True)
    milliseconds = models.PositiveIntegerField(_("milliseconds"))
    error_code = models.CharField(_("error"), max_length=64, blank=True)
    answer = models.CharField(_("answer begins with"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("webhook attempt")
        verbose_name_plural = _("webhook attempts")
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.status or self.error_code}"


class WebhookCursor(models.Model):
    """How far the ledger's append-only rows were read for messages."""

    subject = models.CharField(max_length=8, choices=WebhookMessage.Subject, unique=True)
    position = models.PositiveBigIntegerField(default=0)

    class Meta:
        verbose_name = _("webhook cursor")
        verbose_name_plural = _("webhook cursors")

    def __str__(self) -> str:
        return f"{self.subject}: {self.position}"
