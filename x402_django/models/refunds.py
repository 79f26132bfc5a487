"""Money that goes back: refunds, how each came about, and the receipt of each that arrived.

The sum of a payment's refunds that are not over is never more than what was paid: it is checked
and inserted under the lock of the payment's row (``payments.refunds.requesting``). A refund moves
by conditional writes alone, like a payment.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from x402_django.models.chain import ChainTransaction
from x402_django.models.fields import Uint256Field
from x402_django.models.ledger import AppendOnly, Payment, new_public_id
from x402_django.models.merchant import Merchant
from x402_django.models.querysets import AppendOnlyQuerySet


class Refund(models.Model):
    """An amount that is to go back to who paid a payment, in the token that it was paid in.

    ``requested_name`` and ``approved_name`` outlive their users. ``is_whole``: together with the
    refunds before it, all that was paid.
    """

    class State(models.TextChoices):
        REQUESTED = "requested", _("waits for a second person")
        APPROVED = "approved", _("to be sent")
        SENDING = "sending", _("on its way")
        SENT = "sent", _("on chain")
        FINAL = "final", _("arrived")
        REJECTED = "rejected", _("rejected")
        FAILED = "failed", _("failed: nothing moved")

    #: Of those the money may have moved, or is still to move.
    LIVE = (State.REQUESTED, State.APPROVED, State.SENDING, State.SENT, State.FINAL)

    public_id = models.CharField(max_length=40, default=new_public_id, editable=False)
    payment = models.ForeignKey(
        Payment, verbose_name=_("payment"), on_delete=models.PROTECT, related_name="refunds"
    )
    merchant = models.ForeignKey(
        Merchant,
        verbose_name=_("merchant"),
        on_delete=models.PROTECT,
        db_index=False,  # named in Meta
        related_name="refunds",
    )
    state = models.CharField(_("state"), max_length=12, choices=State)
    state_changed_at = models.DateTimeField(_("state changed"))
    amount = Uint256Field(_("amount"))
    price_usd = models.DecimalField(
        _("in US dollars"), max_digits=18, decimal_places=8, null=True, blank=True
    )
    network = models.CharField(_("network"), max_length=64)
    asset = models.CharField(_("token contract"), max_length=44)
    asset_symbol = models.CharField(_("token"), max_length=16)
    asset_decimals = models.PositiveSmallIntegerField()
    payer = models.CharField(_("goes back to"), max_length=44)
    is_whole = models.BooleanField(_("whole"), default=False)
    #: What was paid for was owed, and is not any more.
    ends_debt = models.BooleanField(default=False)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("requested by"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    requested_name = models.CharField(_("requested by"), max_length=150)
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("approved by"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )
    approved_name = models.CharField(_("approved by"), max_length=150, blank=True)
    created_at = models.DateTimeField(_("requested"))
    #: What is in the way of sending it; nothing has moved.
    hindrance = models.CharField(_("what is in the way"), max_length=300, blank=True)

    chain_transaction = models.OneToOneField(
        ChainTransaction,
        verbose_name=_("chain transaction"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="refund",
    )
    #: Sent by the merchant's own hand, and named here.
    is_by_hand = models.BooleanField(_("sent by hand"), default=False)
    sender = models.CharField(_("sent from"), max_length=44, blank=True)
    transaction = models.CharField(_("transaction"), max_length=90, blank=True)
    block_number = models.PositiveBigIntegerField(_("block"), null=True, blank=True)
    block_hash = models.CharField(max_length=66, blank=True)
    log_index = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        verbose_name = _("refund")
        verbose_name_plural = _("refunds")
        ordering = ["-pk"]
        permissions = [("approve_refund", _("Can approve what others want to refund"))]
        constraints = [
            models.UniqueConstraint(fields=["public_id"], name="x402_refund_public_id_uniq"),
            models.UniqueConstraint(
                # One transfer on chain is one refund.
                fields=["network", "transaction", "log_index"],
                condition=Q(log_index__isnull=False),
                name="x402_refund_transfer_uniq",
            ),
            models.CheckConstraint(condition=Q(amount__gt=0), name="x402_refund_of_something"),
            models.CheckConstraint(
                condition=Q(approved_by__isnull=True)
                | Q(requested_by__isnull=True)
                | ~Q(approved_by=F("requested_by")),
                name="x402_refund_second_person",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["sent", "final"]) | ~Q(transaction=""),
                name="x402_refund_sent_has_tx",
            ),
        ]
        indexes = [
            models.Index(fields=["merchant", "-id"], name="x402_refund_merchant_idx"),
            models.Index(fields=["created_at"], name="x402_refund_created_idx"),
            models.Index(
                fields=["state", "id"],
                condition=Q(state__in=["requested", "approved", "sending", "sent"]),
                name="x402_refund_open_idx",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.public_id[:12]} ({self.get_state_display()})"

    @property
    def is_live(self) -> bool:
        """Whether it counts against what was paid."""
        return self.state in self.LIVE


class RefundEvent(AppendOnly):
    """One transition of a refund: who or what made it, and why."""

    refund = models.ForeignKey(
        Refund, verbose_name=_("refund"), on_delete=models.PROTECT, related_name="events"
    )
    at = models.DateTimeField(_("at"))
    from_state = models.CharField(_("from"), max_length=12, choices=Refund.State, blank=True)
    to_state = models.CharField(_("to"), max_length=12, choices=Refund.State)
    code = models.CharField(_("code"), max_length=100, blank=True)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    actor = models.CharField(_("actor"), max_length=150)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        verbose_name = _("refund event")
        verbose_name_plural = _("refund events")
        ordering = ["pk"]
        indexes = [models.Index(fields=["at"], name="x402_refund_event_at_idx")]

    def __str__(self) -> str:
        return f"{self.from_state} → {self.to_state}"


class RefundReceipt(AppendOnly):
    """The immutable record that money went back; written when nothing can undo it any more."""

    reference = models.CharField(
        _("reference"), max_length=40, default=new_public_id, editable=False
    )
    refund = models.OneToOneField(
        Refund, verbose_name=_("refund"), on_delete=models.PROTECT, related_name="receipt"
    )
    merchant = models.ForeignKey(
        Merchant,
        verbose_name=_("merchant"),
        on_delete=models.PROTECT,
        db_index=False,  # named in Meta
        related_name="refund_receipts",
    )
    issued_at = models.DateTimeField(_("issued"))
    network = models.CharField(_("network"), max_length=64)
    asset = models.CharField(_("token contract"), max_length=44)
    asset_symbol = models.CharField(_("token"), max_length=16)
    asset_decimals = models.PositiveSmallIntegerField()
    amount = Uint256Field(_("amount"))
    price_usd = models.DecimalField(
        _("in US dollars"), max_digits=18, decimal_places=8, null=True, blank=True
    )
    payer = models.CharField(_("went back to"), max_length=44)
    sender = models.CharField(_("sent from"), max_length=44)
    transaction = models.CharField(_("transaction"), max_length=90)
    resource_url = models.TextField(_("resource"))
    description = models.CharField(_("description"), max_length=500, blank=True)
    reason = models.CharField(_("reason"), max_length=500, blank=True)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        verbose_name = _("refund receipt")
        verbose_name_plural = _("refund receipts")
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["reference"], name="x402_refund_receipt_uniq"),
        ]
        indexes = [
            models.Index(fields=["merchant", "-id"], name="x402_refund_rcpt_merchant_idx"),
            models.Index(fields=["issued_at"], name="x402_refund_rcpt_issued_idx"),
        ]

    def __str__(self) -> str:
        return self.reference
