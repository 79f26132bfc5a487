"""What rules cost before: kept when a price is edited, so that it still pays for a while.

Written with the edit, in one transaction and whoever makes it: the admin, a shell, an ``update``.
So every process learns of a new price and of the one before it from the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from django.db import models, router, transaction
from django.utils.translation import gettext_lazy as _

from x402_django import clock
from x402_django.models.fields import Uint256Field
from x402_django.models.rule_grants import GRANT_FIELDS, SellsGrants

if TYPE_CHECKING:
    from x402_django.models.prices import PriceRule

#: What a price consists of, and what it buys: who pays an earlier price gets what that bought.
PRICE_FIELDS: Final = ("price_usd", "token_amount", "unit_price_usd", *GRANT_FIELDS)


class PreviousPrice(SellsGrants, models.Model):
    """A price that a rule had until ``ended_at``, and what it bought. Append-only.

    It pays for ``X402["PRICE_GRACE"]`` seconds longer (``pricing.grace``), and is the rule's
    history after that.
    """

    rule = models.ForeignKey(
        "x402_django.PriceRule",
        verbose_name=_("price rule"),
        on_delete=models.CASCADE,
        related_name="previous_prices",
        db_index=False,  # named in Meta, with ended_at
    )
    price_usd = models.DecimalField(
        _("price in US dollars"), max_digits=18, decimal_places=8, null=True
    )
    token_amount = Uint256Field(_("price in token units"), null=True)
    unit_price_usd = models.DecimalField(
        _("price of one unit in US dollars"), max_digits=24, decimal_places=16, null=True
    )
    ended_at = models.DateTimeField(_("until"))

    class Meta:
        verbose_name = _("previous price")
        verbose_name_plural = _("previous prices")
        ordering = ["-ended_at", "-pk"]
        indexes = [
            models.Index(fields=["rule", "ended_at"], name="x402_previous_rule_idx"),
            models.Index(fields=["ended_at"], name="x402_previous_ended_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.rule_id} until {self.ended_at}"


class PriceRuleQuerySet(models.QuerySet["PriceRule"]):
    """Rules; an ``update`` (and so ``bulk_update``) keeps the prices that it replaces."""

    def update(self, **kwargs: Any) -> int:
        """As ``QuerySet.update``."""
        if not set(PRICE_FIELDS) & set(kwargs):
            return super().update(**kwargs)
        with transaction.atomic(using=self.db):
            rows = list(self.order_by().select_for_update().values("pk", *PRICE_FIELDS))
            _keep(rows, self.db)
            return super().update(**kwargs)

    update.alters_data = True  # type: ignore[attr-defined]


@contextmanager
def keeping_price(
    rule: PriceRule, using: str | None, update_fields: Iterable[str] | None
) -> Iterator[None]:
    """Around a ``save`` of ``rule``: keep the price that is stored, if another is to be stored."""
    saves_price = update_fields is None or set(PRICE_FIELDS) & set(update_fields)
    if rule.pk is None or not saves_price:
        yield
        return
    alias = using or router.db_for_write(type(rule), instance=rule)
    with transaction.atomic(using=alias):
        stored = type(rule)._default_manager.using(alias).filter(pk=rule.pk)
        for row in stored.select_for_update().values("pk", *PRICE_FIELDS):
            if any(row[name] != getattr(rule, name) for name in PRICE_FIELDS):
                _keep([row], alias)
        yield


def _keep(rows: Iterable[dict[str, Any]], alias: str) -> None:
    now = clock.now()
    PreviousPrice.objects.using(alias).bulk_create(
        PreviousPrice(rule_id=row["pk"], ended_at=now, **{name: row[name] for name in PRICE_FIELDS})
        for row in rows
    )
