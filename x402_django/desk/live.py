"""What is so now: who owes whom, and the wallets' money. Each is one query that an index answers.

Lists that are longer than ``LIMIT`` are counted and summed no further: then somebody should look
at the list itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from django.db.models import BooleanField, Count, Sum, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact, In

from x402_django.models import Payment, SettlementWallet
from x402_django.payments.machine import PAID

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


#: The conditions of the partial indexes, written out: SQLite looks into one only if the statement
#: has them word for word.
_EXPOSED: Final = "flow = 'deferred' AND state IN ('verified', 'settling', 'reversed')"
_INDEBTED: Final = "delivered_at IS NULL AND state IN ('settling', 'settled', 'final', 'reversed')"


def unsettled(merchants: frozenset[int] | None) -> Owed:
    """Delivered under the flow ``deferred`` and not settled: owed to the merchant."""
    return _owed(_EXPOSED, Payment.objects.all(), merchants)


def undelivered(merchants: frozenset[int] | None) -> Owed:
    """Paid and not delivered: owed to payers."""
    paid = In(Coalesce("state", Value("")), [str(state) for state in PAID])
    return _owed(_INDEBTED, Payment.objects.filter(paid), merchants)


def _owed(indexed: str, rows: QuerySet[Payment], merchants: frozenset[int] | None) -> Owed:
    """Of sales. What is not ``indexed`` is written so that no other index is taken for it."""
    among = RawSQL(indexed, (), output_field=BooleanField())  # noqa: S611 - ours, see above
    is_sale = Exact(Coalesce("kind", Value("")), Payment.Kind.SALE)
    rows = rows.filter(among, is_sale)
    if merchants is not None:
        if not merchants:
            return Owed(0, Decimal(0))
        rows = rows.filter(In(Coalesce("merchant_id", Value(0)), sorted(merchants)))
    some = rows.order_by().values("pk", "price_usd")[: LIMIT + 1]
    sums = some.aggregate(count=Count("pk"), usd=Sum("price_usd"))
    usd = Decimal(sums["usd"] or 0).quantize(Decimal("0.00000001"))
    return Owed(sums["count"], usd)


def wallets() -> list[SettlementWallet]:
    """The site's own wallets, with the balances that the periodic task saw last."""
    return list(SettlementWallet.objects.order_by("network", "address"))
