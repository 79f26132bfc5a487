"""How much gas settling may use per hour: of the whole facilitator, and for one payer.

Counted in gas, not in money: what a transaction may use (its limit) until it is mined, what it
used after that, shared equally by the payments in it. Deploying a payer's wallet counts as well.
Limits of prudence, not of accounting: requests at the same moment do not see each other.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.db.models import F, QuerySet, Sum
from django.db.models.functions import Coalesce

from x402_django import clock
from x402_django.chain.storing import alias
from x402_django.exceptions import FacilitatorUnavailable
from x402_django.models import ChainTransaction, ChainTransactionItem, Payment

_WINDOW: Final = timedelta(hours=1)
#: Of a transaction that one has to itself, and of a place in one that is shared.
_WHOLE: Final = Coalesce(F("gas_used"), F("gas_limit"))
_SHARE: Final = Coalesce(F("chain_transaction__gas_used"), F("chain_transaction__gas_limit")) / F(
    "chain_transaction__payments_count"
)


def refuse_over(
    network: str,
    facilitator: str,
    payer: str,
    *,
    gas_per_hour: int | None,
    gas_per_payer: int | None,
) -> None:
    """Raise FacilitatorUnavailable if the last hour has used the budget up. None is no limit."""
    if gas_per_hour is not None and gas_used(network, facilitator) >= gas_per_hour:
        raise FacilitatorUnavailable("The gas that may be used per hour is used up.")
    if gas_per_payer is not None and gas_used(network, facilitator, payer) >= gas_per_payer:
        raise FacilitatorUnavailable("The gas that may be used per hour for you is used up.")


def refuse_gift_over(network: str, wallet: str, wei: int, *, per_hour: int) -> None:
    """Raise FacilitatorUnavailable if ``wallet`` would give payers more than ``per_hour`` wei.

    Gifts of gas for approvals (``chain.approvals``) cost money that no gas counts, and new
    addresses are free: what is given to all of them together is limited.
    """
    gifts = (
        ChainTransaction.objects.using(alias())
        .filter(network=network, wallet=wallet, prepares__isnull=False)
        .filter(created_at__gt=clock.now() - _WINDOW)
        .exclude(status=ChainTransaction.Status.DROPPED)
    )
    if sum(gifts.values_list("value", flat=True)) + wei > per_hour:
        raise FacilitatorUnavailable("The gas that may be given to payers per hour is used up.")


def gas_used(network: str, facilitator: str, payer: str | None = None) -> int:
    """Gas of the last hour, of all payers or of one."""
    since = clock.now() - _WINDOW
    settled = (
        ChainTransactionItem.objects.using(alias())
        .filter(network=network, facilitator=facilitator, created_at__gt=since)
        .filter(chain_transaction__isnull=False)
        .exclude(chain_transaction__status=ChainTransaction.Status.DROPPED)
    )
    prepared = (
        ChainTransaction.objects.using(alias())
        .filter(network=network, prepares__facilitator=facilitator, created_at__gt=since)
        .exclude(status=ChainTransaction.Status.DROPPED)
    )
    if payer is not None:
        settled = settled.filter(payment__payer=payer)
        prepared = prepared.filter(prepares__payer=payer)
    return _sum(settled, _SHARE) + _sum(prepared, _WHOLE)


def gas_for(payment: Payment) -> int:
    """Gas of all that was ever sent for one payment: its share of each transaction."""
    dropped = ChainTransaction.Status.DROPPED
    settled = ChainTransactionItem.objects.using(alias()).filter(
        payment=payment, chain_transaction__isnull=False
    )
    prepared = ChainTransaction.objects.using(alias()).filter(prepares=payment)
    return _sum(settled.exclude(chain_transaction__status=dropped), _SHARE) + _sum(
        prepared.exclude(status=dropped), _WHOLE
    )


def _sum(rows: QuerySet[Any], gas: Any) -> int:
    return int(rows.aggregate(gas=Sum(gas))["gas"] or 0)
