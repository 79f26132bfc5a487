"""Rows for the admin's tests: plausible, and cheap to make by the thousand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from x402_django.models import Payment, PaymentEvent, PaymentMethod, PriceRule, Receipt

NETWORK = "eip155:84532"
USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
PAY_TO = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
PAYER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
SIGNATURE = "0x" + "5e" * 65
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make_method(**changes: Any) -> PaymentMethod:
    values: dict[str, Any] = {
        "name": "USDC on Base Sepolia",
        "network": NETWORK,
        "asset": USDC,
        "asset_symbol": "USDC",
        "asset_name": "USDC",
        "asset_version": "2",
        "asset_decimals": 6,
        "pay_to": PAY_TO,
        **changes,
    }
    return PaymentMethod.objects.create(**values)


def make_rule(**changes: Any) -> PriceRule:
    values: dict[str, Any] = {
        "name": "Articles",
        "url_names": ["shop:article"],
        "price_usd": Decimal("0.01"),
        "description": "An article",
        **changes,
    }
    return PriceRule.objects.create(**values)


def new_payment(number: int = 1, **changes: Any) -> Payment:
    """An unsaved settled and delivered payment of one cent."""
    created = START + timedelta(minutes=number)
    nonce = f"0x{number:064x}"
    values: dict[str, Any] = {
        "public_id": f"{number:040x}",
        "state": "settled",
        "state_changed_at": created,
        "scheme": "exact",
        "network": NETWORK,
        "asset": USDC,
        "payer": PAYER,
        "nonce": nonce,
        "pay_to": PAY_TO,
        "amount": 10_000,
        "asset_symbol": "USDC",
        "asset_decimals": 6,
        "valid_before": 1_900_000_000,
        "price_usd": Decimal("0.01"),
        "x402_version": 2,
        "flow": "authorization",
        "facilitator": "default",
        "requirements": {"scheme": "exact", "network": NETWORK, "amount": "10000"},
        "payload": {
            "signature": SIGNATURE,
            "authorization": {"from": PAYER, "to": PAY_TO, "value": "10000", "nonce": nonce},
        },
        "request_fingerprint": "f" * 64,
        "request_method": "GET",
        "resource_url": "https://shop.example/weather/",
        "transaction": f"0x{number + 10**9:064x}",
        "created_at": created,
        "settled_at": created,
        "delivered_at": created,
        "response_body": b"the paid secret",
        **changes,
    }
    return Payment(**values)


def make_payment(number: int = 1, **changes: Any) -> Payment:
    payment = new_payment(number, **changes)
    payment.save()
    return payment


def make_receipt(payment: Payment, **changes: Any) -> Receipt:
    names = (
        "network",
        "asset",
        "asset_symbol",
        "asset_decimals",
        "amount",
        "price_usd",
        "payer",
        "pay_to",
        "transaction",
        "resource_url",
        "description",
    )
    values = {name: getattr(payment, name) for name in names}
    values["issued_at"] = payment.created_at
    return Receipt.objects.create(payment=payment, **{**values, **changes})


def make_event(payment: Payment, **changes: Any) -> PaymentEvent:
    values: dict[str, Any] = {
        "at": payment.created_at,
        "from_state": "settling",
        "to_state": "settled",
        "actor": "request",
        **changes,
    }
    return PaymentEvent.objects.create(payment=payment, **values)
