"""How much gas settling may use per hour: of the whole facilitator, and for one payer.

Counted in gas, not in money: what a transaction may use (its limit) until it is mined, what it
used after that, shared equally by the payments in it. Limits of prudence, not of accounting:
requests at the same moment do not see each other.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.db.models import F, QuerySet, Sum
from django.db.models.functions import Coalesce

from x402_django import clock
from x402_django.chain.storing import alias
from x402_django.exceptions import FacilitatorUnavailable
from x402_django.models import ChainTransaction, ChainTransactionItem

_WINDOW: Final = timedelta(hours=1)


def refuse_over(
    network: str,
    facilitator: str,
    payer: str,
    *,
    gas_per_hour: int | None,
    gas_per_payer: int | None,
) -> None:
    """Raise FacilitatorUnavailable if the last hour has used the budget up. None is no limit."""
    items = (
        ChainTransactionItem.objects.using(alias())
        .filter(network=network, facilitator=facilitator, created_at__gt=clock.now() - _WINDOW)
        .filter(chain_transaction__isnull=False)
        .exclude(chain_transaction__status=ChainTransaction.Status.DROPPED)
    )
    if gas_per_hour is not None and _gas(items) >= gas_per_hour:
        raise FacilitatorUnavailable("The gas that may be used per hour is used up.")
    if gas_per_payer is not None and _gas(items.filter(payment__payer=payer)) >= gas_per_payer:
        raise FacilitatorUnavailable("The gas that may be used per hour for you is used up.")


def _gas(items: QuerySet[ChainTransactionItem]) -> int:
    row = "chain_transaction__"
    share = Coalesce(F(f"{row}gas_used"), F(f"{row}gas_limit")) / F(f"{row}payments_count")
    return int(items.aggregate(gas=Sum(share))["gas"] or 0)
