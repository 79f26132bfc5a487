"""What the dashboard shows, added up by day: rows that can be thrown away and counted anew.

The ledger is the truth. A day's rows here are written in one transaction with the mark that the
day is counted (``CountedDay``), so they are all of one counting or not there. Days are those of
the site's ``TIME_ZONE``. Dollars are whole numbers of ``USD_UNIT``: sums are exact on every
database. ``ChallengeCount`` alone is of nothing else, and survives a counting anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from django.db import models, router, transaction
from django.db.models.functions import TruncDate
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from x402_django.models.fields import Uint256Field
from x402_django.models.merchant import Merchant

if TYPE_CHECKING:
    from django.db.models import QuerySet

#: US dollars of one unit in the columns ``usd``: prices have eight decimals.
USD_UNIT: Final = Decimal("0.00000001")


def day_of(moment: str) -> TruncDate:
    """The day of the column ``moment`` in the site's time zone."""
    return TruncDate(moment, tzinfo=timezone.get_default_timezone())


class CountedDay(models.Model):
    """Whether a day's rows are those of the ledger. The row that is held while it is counted."""

    day = models.DateField(_("day"))
    is_stale = models.BooleanField(_("to be counted"), default=True)
    counted_at = models.DateTimeField(_("counted"), null=True, blank=True)

    class Meta:
        verbose_name = _("counted day")
        verbose_name_plural = _("counted days")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["day"], name="x402_counted_day_uniq")]
        indexes = [
            models.Index(
                fields=["-day"], condition=models.Q(is_stale=True), name="x402_counted_stale_idx"
            )
        ]

    def __str__(self) -> str:
        return str(self.day)

    @staticmethod
    def mark(days: Iterable[date]) -> None:
        """Have ``days`` counted anew. Waits for whoever counts one of them right now.

        Unconditionally: with ``is_stale=False`` in the condition, a database that shows the state
        of before that counting would pass over the row, and the mark be lost.
        """
        wanted = sorted(set(days))
        if not wanted:
            return
        with transaction.atomic(using=router.db_for_write(CountedDay)):
            CountedDay.objects.bulk_create(
                [CountedDay(day=day) for day in wanted], ignore_conflicts=True
            )
            held: QuerySet[Any] = CountedDay.objects.filter(day__in=wanted)
            if transaction.get_connection(held.db).features.has_select_for_update:
                # In the order of days, so that no two who mark wait for each other.
                list(held.order_by("day").select_for_update().values_list("pk"))
            held.update(is_stale=True)


class DeskCursor(models.Model):
    """How far the ledger was read for days to count. A single row."""

    #: Always 1.
    single = models.PositiveSmallIntegerField(default=1, editable=False)
    #: The key of the last ``PaymentEvent`` that need not be looked at again.
    event = models.PositiveBigIntegerField(default=0)
    #: Nor need what was mined, or given back, before then.
    since = models.DateTimeField()
    #: In which days are cut. Another one, and all are counted anew.
    time_zone = models.CharField(max_length=64)

    class Meta:
        verbose_name = _("dashboard cursor")
        verbose_name_plural = _("dashboard cursors")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["single"], name="x402_desk_cursor_uniq")]

    def __str__(self) -> str:
        return f"{self.event}"


class _OfDay(models.Model):
    """Something of a merchant on a day."""

    day = models.DateField(_("day"))
    merchant = models.ForeignKey(
        Merchant,
        verbose_name=_("merchant"),
        on_delete=models.CASCADE,
        db_index=False,  # named in Meta
        related_name="+",
    )

    class Meta:
        abstract = True
        default_permissions = ()


class DailySales(_OfDay):
    """What stands of the receipts that were issued on a day, by where and how it was paid.

    And the refunds that arrived on it, which are of any day's sales: they are not taken from them.
    """

    network = models.CharField(_("network"), max_length=64)
    asset = models.CharField(_("token contract"), max_length=44)
    asset_symbol = models.CharField(_("token"), max_length=16)
    asset_decimals = models.PositiveSmallIntegerField()
    #: As it was at the time; empty for a price in code.
    rule_name = models.CharField(_("rule name"), max_length=100, blank=True)
    paid = models.PositiveBigIntegerField(_("paid requests"))
    amount = Uint256Field(_("amount"))
    usd = models.BigIntegerField(_("US dollars, in units of 0.00000001"))
    #: How many of ``paid`` have no price in dollars and are not in ``usd``.
    unpriced = models.PositiveBigIntegerField(_("without a price in US dollars"))
    refunds = models.PositiveBigIntegerField(_("refunds"), default=0)
    refunded = Uint256Field(_("amount given back"), default=0)
    refunded_usd = models.BigIntegerField(
        _("given back, in units of 0.00000001 US dollars"), default=0
    )

    class Meta(_OfDay.Meta):
        verbose_name = _("sales of a day")
        verbose_name_plural = _("sales by day")
        constraints = [
            models.UniqueConstraint(
                fields=[
                    *("day", "merchant", "network", "asset"),
                    *("asset_symbol", "asset_decimals", "rule_name"),
                ],
                name="x402_daily_sales_uniq",
            )
        ]
        indexes = [models.Index(fields=["merchant", "day"], name="x402_daily_sales_merchant_idx")]

    def __str__(self) -> str:
        return f"{self.day}: {self.paid}"


class DailyTally(_OfDay):
    """How often something happened on a day."""

    class Subject(models.TextChoices):
        #: A payment that came to nothing; ``name`` is the code.
        FAILURE = "failure", _("failed")
        #: From a claim to its settlement; ``name`` is the number of a bin of ``desk.latency``.
        LATENCY = "latency", _("settled within")

    subject = models.CharField(max_length=8, choices=Subject)
    name = models.CharField(max_length=100)
    count = models.PositiveBigIntegerField()

    class Meta(_OfDay.Meta):
        verbose_name = _("tally of a day")
        verbose_name_plural = _("tallies by day")
        constraints = [
            models.UniqueConstraint(
                fields=["day", "merchant", "subject", "name"], name="x402_daily_tally_uniq"
            )
        ]
        indexes = [models.Index(fields=["merchant", "day"], name="x402_daily_tally_merchant_idx")]

    def __str__(self) -> str:
        return f"{self.day}: {self.name} {self.count}"


class DailyTop(_OfDay):
    """Who and what brought most on a day: a bounded number for each merchant."""

    class Subject(models.TextChoices):
        PAYER = "payer", _("payer")
        VIEW = "view", _("page")

    subject = models.CharField(max_length=8, choices=Subject)
    #: An address, or the path of a page.
    name = models.CharField(max_length=500)
    paid = models.PositiveBigIntegerField(_("paid requests"))
    usd = models.BigIntegerField(_("US dollars, in units of 0.00000001"))

    class Meta(_OfDay.Meta):
        verbose_name = _("top of a day")
        verbose_name_plural = _("tops by day")
        constraints = [
            models.UniqueConstraint(
                fields=["day", "merchant", "subject", "name"], name="x402_daily_top_uniq"
            )
        ]
        indexes = [models.Index(fields=["merchant", "day"], name="x402_daily_top_merchant_idx")]

    def __str__(self) -> str:
        return f"{self.day}: {self.name}"


class DailyGas(models.Model):
    """What the transactions that a wallet signed on a day have cost, once they were mined."""

    day = models.DateField(_("day"))
    network = models.CharField(_("network"), max_length=64)
    wallet = models.CharField(_("wallet"), max_length=42)
    transactions = models.PositiveBigIntegerField(_("transactions"))
    payments = models.PositiveBigIntegerField(_("payments they settled"))
    fee = Uint256Field(_("fees, in wei"))

    class Meta:
        verbose_name = _("gas of a day")
        verbose_name_plural = _("gas by day")
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["day", "network", "wallet"], name="x402_daily_gas_uniq")
        ]

    def __str__(self) -> str:
        return f"{self.day}: {self.wallet}"


class ChallengeCount(_OfDay):
    """How many requests were answered 402 on a day, by the rule that priced them and the reason."""

    rule_name = models.CharField(_("rule name"), max_length=100, blank=True)
    code = models.CharField(_("code"), max_length=100)
    count = models.PositiveBigIntegerField(_("challenges"), default=0)

    class Meta(_OfDay.Meta):
        verbose_name = _("challenges of a day")
        verbose_name_plural = _("challenges by day")
        constraints = [
            models.UniqueConstraint(
                fields=["day", "merchant", "rule_name", "code"], name="x402_challenge_count_uniq"
            )
        ]
        indexes = [models.Index(fields=["merchant", "day"], name="x402_challenge_merchant_idx")]

    def __str__(self) -> str:
        return f"{self.day}: {self.count}"


class Desk(DailySales):
    """The dashboard, for an entry of its own in the admin."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("dashboard")
        verbose_name_plural = _("dashboard")
