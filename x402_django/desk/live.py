"""What is so now: who owes whom, and the wallets' money. Each is one query that an index answers.

Lists that are longer than ``LIMIT`` are counted and summed no further: then somebody should look
at the list itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from django.db.models import Count, Sum

from x402_django.models import Payment, SettlementWallet

if TYPE_CHECKING:
    from django.db.models import QuerySet

#: Payments that are counted at the most.
LIMIT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Owed:
    """Payments that are owed by somebody; ``usd`` as priced."""

    count: int
    usd: Decimal

    @property
    def is_more(self) -> bool:
        """Whether there are more than were counted."""
        return self.count > LIMIT


def unsettled(merchants: frozenset[int] | None) -> Owed:
    """Delivered under the flow ``deferred`` and not settled: owed to the merchant."""
    return _owed(Payment.objects.sales().unsettled(), merchants)


def undelivered(merchants: frozenset[int] | None) -> Owed:
    """Paid and not delivered: owed to payers."""
    return _owed(Payment.objects.debts(), merchants)


def _owed(rows: QuerySet[Payment], merchants: frozenset[int] | None) -> Owed:
    if merchants is not None:
        rows = rows.filter(merchant__in=merchants)
    some = rows.order_by().values("pk", "price_usd")[: LIMIT + 1]
    sums = some.aggregate(count=Count("pk"), usd=Sum("price_usd"))
    usd = Decimal(sums["usd"] or 0).quantize(Decimal("0.00000001"))
    return Owed(sums["count"], usd)


def wallets() -> list[SettlementWallet]:
    """The site's own wallets, with the balances that the periodic task saw last."""
    return list(SettlementWallet.objects.order_by("network", "address"))
