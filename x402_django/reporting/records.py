"""Receipts and gas as flat records: what every format writes.

A record's values are text, ``int`` (atomic units, counts), ``Decimal`` (whole tokens, dollars) or
None; times are text, ISO 8601 in UTC. Nothing is ever a float.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final

from x402_django.protocol.networks import coin_symbol

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from x402_django.models import ChainTransaction, Receipt, RefundReceipt

Record = dict[str, Any]

#: Rows that are held at a time.
_CHUNK: Final = 2000
_WEI_DECIMALS: Final = 18
#: Enough for every digit of a uint256.
_EXACT: Final = Context(prec=80)

RECEIPT_COLUMNS: Final = (
    "kind",
    "reference",
    "issued_at",
    "merchant",
    "network",
    "token",
    "token_contract",
    "amount",
    "amount_atomic",
    "price_usd",
    "payer",
    "pay_to",
    "transaction",
    "description",
    "resource_url",
)
GAS_COLUMNS: Final = (
    "kind",
    "transaction",
    "signed_at",
    "network",
    "wallet",
    "coin",
    "fee",
    "fee_wei",
    "gas_used",
    "gas_price_wei",
    "status",
    "payments",
)


@dataclass(frozen=True, slots=True)
class Span:
    """A time from ``since`` on and before ``until``; both aware."""

    since: datetime
    until: datetime


def receipts_of(rows: QuerySet[Receipt], span: Span) -> Iterator[Record]:
    """The receipts among ``rows`` that were issued in ``span``, the earliest first.

    ``kind`` is ``sale``: money that came.
    """
    chosen = rows.filter(issued_at__gte=span.since, issued_at__lt=span.until)
    ordered = chosen.select_related("merchant").order_by("issued_at", "pk")
    for row in ordered.iterator(chunk_size=_CHUNK):
        yield {
            "kind": "sale",
            "reference": row.reference,
            "issued_at": _utc(row.issued_at),
            "merchant": row.merchant.name,
            "network": row.network,
            "token": row.asset_symbol,
            "token_contract": row.asset,
            "amount": whole(row.amount, row.asset_decimals),
            "amount_atomic": row.amount,
            "price_usd": row.price_usd,
            "payer": row.payer,
            "pay_to": row.pay_to,
            "transaction": row.transaction,
            "description": row.description,
            "resource_url": row.resource_url,
        }


def refunds_of(rows: QuerySet[RefundReceipt], span: Span) -> Iterator[Record]:
    """The refunds among ``rows`` that were receipted in ``span``, the earliest first.

    ``kind`` is ``refund``, and the amounts are negative: with the receipts they sum up to what
    stayed. ``pay_to`` is where the money was sent from.
    """
    chosen = rows.filter(issued_at__gte=span.since, issued_at__lt=span.until)
    ordered = chosen.select_related("merchant").order_by("issued_at", "pk")
    for row in ordered.iterator(chunk_size=_CHUNK):
        yield {
            "kind": "refund",
            "reference": row.reference,
            "issued_at": _utc(row.issued_at),
            "merchant": row.merchant.name,
            "network": row.network,
            "token": row.asset_symbol,
            "token_contract": row.asset,
            "amount": -whole(row.amount, row.asset_decimals),
            "amount_atomic": -int(row.amount),
            "price_usd": None if row.price_usd is None else -row.price_usd,
            "payer": row.payer,
            "pay_to": row.sender,
            "transaction": row.transaction,
            "description": row.reason or row.description,
            "resource_url": row.resource_url,
        }


def gas_of(rows: QuerySet[ChainTransaction], span: Span) -> Iterator[Record]:
    """What the transactions among ``rows`` cost that were signed in ``span`` and mined since.

    A reverted transaction costs gas as well. ``payments`` is how many it settled.
    """
    chosen = rows.filter(
        created_at__gte=span.since,
        created_at__lt=span.until,
        gas_used__isnull=False,
        effective_gas_price__isnull=False,
    )
    for row in chosen.defer("raw").order_by("created_at", "pk").iterator(chunk_size=_CHUNK):
        gas_used, price = row.gas_used or 0, row.effective_gas_price or 0
        yield {
            "kind": "gas",
            "transaction": row.hash,
            "signed_at": _utc(row.created_at),
            "network": row.network,
            "wallet": row.wallet,
            "coin": coin_symbol(row.network),
            "fee": whole(gas_used * price, _WEI_DECIMALS),
            "fee_wei": gas_used * price,
            "gas_used": gas_used,
            "gas_price_wei": price,
            "status": row.status,
            "payments": row.payments_count,
        }


def whole(amount: int, decimals: int) -> Decimal:
    """An atomic amount in whole tokens, exactly: ``whole(10000, 6) == Decimal("0.01")``."""
    scaled = Decimal(amount).scaleb(-decimals, _EXACT)
    return (
        scaled.quantize(Decimal(1)) if scaled == scaled.to_integral() else _EXACT.normalize(scaled)
    )


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
