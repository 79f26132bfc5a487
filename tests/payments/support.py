"""Signed payments and ledger rows in any state, without HTTP."""

from __future__ import annotations

import hashlib
import secrets
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

from tests.settings import PAY_TO, TEST_DOLLAR
from x402_django import clock
from x402_django.models import Payment
from x402_django.payments.facts import RequestFacts
from x402_django.pricing import Quote
from x402_django.protocol.types import Offer, SignedPayment
from x402_django.testing.payer import Payer

URL = "https://shop.example/weather/"
STATES = tuple(Payment.State.values)


def offer(**changes: Any) -> Offer:
    """A cent in the test dollar."""
    values: dict[str, Any] = {
        "scheme": "exact",
        "network": "eip155:84532",
        "asset": TEST_DOLLAR,
        "amount": 10_000,
        "pay_to": PAY_TO,
        "max_timeout_seconds": 300,
        "asset_name": "USDC",
        "asset_version": "2",
        "decimals": 6,
        "symbol": "USDC",
        "facilitator": "default",
    }
    return Offer(**(values | changes))


def signed_payment(
    payer: Payer | None = None, /, *, of: Offer | None = None, **changes: Any
) -> SignedPayment:
    """A payment with a real signature; ``changes`` are made after signing."""
    payer, of = payer or Payer(), of or offer()
    authorization = payer.authorization(
        of.as_v2(),
        **{
            name: str(changes.pop(key)) if key != "nonce" else changes.pop(key)
            for name, key in (
                ("validAfter", "valid_after"),
                ("validBefore", "valid_before"),
                ("nonce", "nonce"),
            )
            if key in changes
        },
    )
    values: dict[str, Any] = {
        "offer": of,
        "payer": payer.address,
        "valid_after": int(authorization["validAfter"]),
        "valid_before": int(authorization["validBefore"]),
        "nonce": authorization["nonce"],
        "signature": bytes.fromhex(payer.sign(of.as_v2(), authorization)[2:]),
        "resource_url": URL,
        "version": 2,
    }
    return SignedPayment(**(values | changes))


def quote(flow: str = "authorization", **changes: Any) -> Quote:
    values: dict[str, Any] = {
        "offers": (offer(),),
        "flow": flow,
        "description": "Today's weather",
        "mime_type": "",
        "price_usd": Decimal("0.01"),
        "rule_id": None,
        "rule_name": "",
    }
    return Quote(**(values | changes))


def facts(what: str = "weather", method: str = "GET") -> RequestFacts:
    return RequestFacts(method, URL, hashlib.sha256(f"{method} {what}".encode()).hexdigest())


def unsaved(signed: SignedPayment | None = None, **changes: Any) -> Payment:
    """A row as ``claim`` builds it."""
    signed = signed or signed_payment()
    now = clock.now()
    values: dict[str, Any] = {
        "state": "claimed",
        "state_changed_at": now,
        "created_at": now,
        "scheme": "exact",
        "network": signed.offer.network,
        "asset": signed.offer.asset,
        "payer": signed.payer,
        "nonce": signed.nonce,
        "pay_to": signed.offer.pay_to,
        "amount": signed.offer.amount,
        "asset_symbol": "USDC",
        "asset_decimals": 6,
        "valid_before": signed.valid_before,
        "price_usd": Decimal("0.01"),
        "x402_version": 2,
        "flow": "authorization",
        "facilitator": "default",
        "requirements": signed.offer.as_v2(),
        "payload": signed.payload_dict(),
        "request_fingerprint": facts().fingerprint,
        "request_method": "GET",
        "resource_url": URL,
        "description": "Today's weather",
    }
    return Payment(**(values | changes))


def stored(state: str = "claimed", signed: SignedPayment | None = None, **changes: Any) -> Payment:
    """A row in ``state``, with what that state needs."""
    if state in ("settled", "final", "refunded", "reversed"):
        changes = {"settled_at": clock.now(), **changes}
        if state != "reversed":
            changes = {"transaction": "0x" + secrets.token_hex(32), **changes}
    payment = unsaved(signed, state=state, **changes)
    payment.save(force_insert=True)
    return payment


def history(payment: Payment) -> list[tuple[str, str]]:
    return list(payment.events.values_list("from_state", "to_state"))


def snapshot() -> list[dict[str, Any]]:
    """The whole ledger, to prove that nothing changed."""
    return list(Payment.objects.order_by("pk").values())


def ago(seconds: float) -> Any:
    return clock.now() - timedelta(seconds=seconds)


def soon(seconds: int) -> int:
    return int(time.time()) + seconds
