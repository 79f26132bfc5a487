"""The numbers of receipts, for the books: without gaps, by merchant, series and year."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from x402_django.models.ledger import AppendOnly, Receipt
from x402_django.models.merchant import Merchant
from x402_django.models.querysets import AppendOnlyQuerySet
from x402_django.models.refunds import RefundReceipt


class NumberSeries(models.Model):
    """How far a merchant's receipts are numbered; the row that is locked to number more.

    ``position`` is a key below which every receipt has its number.
    """

    class Kind(models.TextChoices):
        SALE = "sale", _("receipts")
        REFUND = "refund", _("refunds")

    merchant = models.ForeignKey(Merchant, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=8, choices=Kind)
    position = models.PositiveBigIntegerField(default=0)

    class Meta:
        verbose_name = _("series of receipt numbers")
        verbose_name_plural = _("series of receipt numbers")
        constraints = [
            models.UniqueConstraint(fields=["merchant", "kind"], name="x402_number_series_uniq"),
        ]

    def __str__(self) -> str:
        return f"{self.merchant_id} {self.kind}"


class ReceiptNumber(AppendOnly):
    """One number. The unique constraint and the lock of the series are why there is no other."""

    merchant = models.ForeignKey(
        Merchant,
        on_delete=models.PROTECT,
        db_index=False,  # in the constraint
        related_name="+",
    )
    kind = models.CharField(max_length=8, choices=NumberSeries.Kind)
    year = models.PositiveSmallIntegerField(_("year"))
    number = models.PositiveBigIntegerField(_("number"))
    receipt = models.OneToOneField(
        Receipt, null=True, blank=True, on_delete=models.PROTECT, related_name="numbered"
    )
    refund_receipt = models.OneToOneField(
        RefundReceipt, null=True, blank=True, on_delete=models.PROTECT, related_name="numbered"
    )

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        verbose_name = _("receipt number")
        verbose_name_plural = _("receipt numbers")
        constraints = [
            models.UniqueConstraint(
                fields=["merchant", "kind", "year", "number"], name="x402_receipt_number_uniq"
            ),
            models.CheckConstraint(
                condition=Q(kind="sale", receipt__isnull=False, refund_receipt__isnull=True)
                | Q(kind="refund", receipt__isnull=True, refund_receipt__isnull=False),
                name="x402_receipt_number_of_one",
            ),
            models.CheckConstraint(condition=Q(number__gt=0), name="x402_receipt_number_positive"),
        ]

    def __str__(self) -> str:
        letter = "R-" if self.kind == NumberSeries.Kind.REFUND else ""
        return f"{self.year}-{letter}{self.number:06d}"
