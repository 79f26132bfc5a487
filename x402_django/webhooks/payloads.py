"""What a message says: facts of the ledger, amounts as text, no query strings (threat 23)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from x402_django.models import Payment, PaymentEvent, Receipt, Refund, RefundEvent

State = Payment.State

#: Which transition is an event of which type.
TYPES: Final[Mapping[str, str]] = {
    State.SETTLED: "payment.settled",
    State.FINAL: "payment.final",
    State.REVERSED: "payment.reversed",
    State.FAILED: "payment.failed",
    State.EXPIRED: "payment.failed",
}
#: The same of refunds.
REFUND_TYPES: Final[Mapping[str, str]] = {
    Refund.State.REQUESTED: "refund.requested",
    Refund.State.SENT: "refund.sent",
    Refund.State.FINAL: "refund.final",
    Refund.State.REJECTED: "refund.rejected",
    Refund.State.FAILED: "refund.failed",
}
RECEIPT_ISSUED: Final = "receipt.issued"


def event_body(event: PaymentEvent) -> str:
    """The body of a transition's message; its payment must be loaded."""
    payment = event.payment
    data = {
        "payment": payment.public_id,
        "state": event.to_state,
        "failure_code": event.code if TYPES[event.to_state] == "payment.failed" else "",
        "rule": payment.rule_name,
        "flow": payment.flow,
        **_money(payment),
    }
    return _body(TYPES[event.to_state], event.at, data)


def receipt_body(receipt: Receipt) -> str:
    """The body of an issued receipt's message; its payment must be loaded."""
    data = {
        "receipt": receipt.reference,
        "payment": receipt.payment.public_id,
        "description": receipt.description,
        **_money(receipt),
    }
    return _body(RECEIPT_ISSUED, receipt.issued_at, data)


def refund_body(event: RefundEvent) -> str:
    """The body of a refund's transition; its refund and the payment of that must be loaded."""
    refund = event.refund
    data = {
        "refund": refund.public_id,
        "payment": refund.payment.public_id,
        "state": event.to_state,
        "failure_code": event.code if event.to_state == Refund.State.FAILED else "",
        "reason": refund.reason,
        "amount": str(refund.amount),
        "asset": refund.asset,
        "asset_symbol": refund.asset_symbol,
        "asset_decimals": refund.asset_decimals,
        "price_usd": None if refund.price_usd is None else str(refund.price_usd),
        "network": refund.network,
        "payer": refund.payer,
        "transaction": refund.transaction,
    }
    return _body(REFUND_TYPES[event.to_state], event.at, data)


def _money(row: Payment | Receipt) -> dict[str, Any]:
    """``amount`` is in atomic units; JSON numbers of that size are not exact everywhere."""
    return {
        "amount": str(row.amount),
        "asset": row.asset,
        "asset_symbol": row.asset_symbol,
        "asset_decimals": row.asset_decimals,
        "price_usd": None if row.price_usd is None else str(row.price_usd),
        "network": row.network,
        "payer": row.payer,
        "pay_to": row.pay_to,
        "transaction": row.transaction,
        "resource": row.resource_url.partition("#")[0].partition("?")[0],
    }


def _body(event_type: str, at: datetime, data: dict[str, Any]) -> str:
    body = {"type": event_type, "timestamp": at.isoformat(), "data": data}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)
