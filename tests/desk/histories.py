"""Payments that live through anything the state machine draws, by its own function."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.admin.rows import PAYER, USDC, make_payment
from x402_django import clock
from x402_django.models import (
    ChainTransaction,
    Merchant,
    Payment,
    Receipt,
    Refund,
    RefundReceipt,
)
from x402_django.payments.machine import TRANSITIONS, Step, advance

EURC = "0x808456652fdb597867f38412077A9182bf77359F"
CODES = ("insufficient_funds", "invalid_exact_evm_signature", "", "in their own words")
_COPIED = (
    *("merchant", "network", "asset", "asset_symbol", "asset_decimals", "amount", "price_usd"),
    *("payer", "pay_to", "transaction", "resource_url", "description"),
)


def receipt_of(payment: Payment) -> Receipt:
    """An unsaved receipt, as of now."""
    values = {name: getattr(payment, name) for name in _COPIED}
    return Receipt(payment=payment, issued_at=clock.now(), **values)


def settle(payment: Payment, **fields: Any) -> None:
    """From ``settling``, with its receipt if it has none, as ``payments.recording`` does."""
    first = not Receipt.objects.filter(payment=payment).exists()
    payment.transaction = payment.transaction or f"0x{payment.pk:064x}"
    advance(
        payment,
        Step("settled"),
        actor="test",
        receipt=receipt_of(payment) if first else None,
        transaction=payment.transaction,
        settled_at=payment.settled_at or clock.now(),
        **fields,
    )


def give_back(payment: Payment, amount: int, usd: Decimal | None = None) -> RefundReceipt:
    """A refund that has arrived, now, as ``payments.refunds`` leaves it."""
    names = ("merchant", "network", "asset", "asset_symbol", "asset_decimals", "payer")
    values = {name: getattr(payment, name) for name in names}
    values |= {"amount": amount, "price_usd": usd}
    now = clock.now()
    refund = Refund.objects.create(
        payment=payment, state="final", state_changed_at=now, created_at=now,
        transaction=f"0x{Refund.objects.count():064x}", **values,
    )  # fmt: skip
    return RefundReceipt.objects.create(
        refund=refund, issued_at=now, sender=payment.pay_to, transaction=refund.transaction,
        resource_url=payment.resource_url, **values,
    )  # fmt: skip


@dataclass
class Life:
    """A ledger to which anything may happen. The same seed, the same happenings."""

    seed: int
    merchants: list[Merchant]
    number: int = 0
    payments: list[Payment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def happen(self, times: int) -> None:
        for _ in range(times):
            self.dice.choice(
                (self.present, self.move, self.move, self.move, self.gas, self.give_back)
            )()

    def present(self) -> None:
        self.number += 1
        dice = self.dice
        in_dollars = dice.random() < 0.8
        payment = make_payment(
            self.number + self.seed * 10_000,
            state="claimed",
            kind="sale",
            created_at=clock.now() - timedelta(seconds=dice.choice((0, 0.3, 2, 90, 4000))),
            state_changed_at=clock.now(),
            transaction="",
            settled_at=None,
            delivered_at=None,
            response_body=None,
            merchant=dice.choice(self.merchants),
            rule_name=dice.choice(("", "Articles", "Reports")),
            amount=dice.randrange(1, 2**200),
            price_usd=Decimal(dice.randrange(1, 10**10)).scaleb(-8) if in_dollars else None,
            asset=dice.choice((USDC, EURC)),
            payer=dice.choice((PAYER, "0x" + "11" * 20, "0x" + "22" * 20)),
            valid_before=0,
            resource_url=dice.choice(
                (
                    "https://shop.example/weather/",
                    "https://shop.example/weather/?city=Paris&next=/a",
                    "https://shop.example/reports/1",
                )
            ),
        )
        self.payments.append(payment)

    def move(self) -> None:
        """One transition of one payment, of those that the machine draws."""
        able = [one for one in self.payments if TRANSITIONS[one.state]]
        if not able:
            return
        payment = self.dice.choice(able)
        to = self.dice.choice(sorted(TRANSITIONS[payment.state]))
        if to == "settled":
            settle(payment)
            return
        new = {"new_attempt": True} if to == "claimed" else {}
        if to == "claimed" and self.dice.random() < 0.5:
            new["created_at"] = clock.now()
        advance(payment, Step(to, "", self.dice.choice(CODES)), actor="test", **new)

    def give_back(self) -> None:
        """A part of a payment has gone back for good."""
        paid = [one for one in self.payments if one.state in ("settled", "final", "refunded")]
        if paid:
            give_back(self.dice.choice(paid), self.dice.randrange(1, 100))

    def gas(self) -> None:
        """A transaction is signed, or one that waits is mined."""
        open_ones = list(ChainTransaction.objects.filter(gas_used=None))
        if open_ones and self.dice.random() < 0.6:
            row = self.dice.choice(open_ones)
            row.status, row.mined_at = "mined", clock.now()
            row.gas_used, row.effective_gas_price = self.dice.randrange(2**40), 2**100 + 7
            row.save()
            return
        number = ChainTransaction.objects.count()
        ChainTransaction.objects.create(
            network="eip155:84532",
            wallet=self.dice.choice((PAYER[:42], "0x" + "33" * 20)),
            nonce=number,
            hash=f"0x{number:064x}",
            raw=b"",
            to=USDC,
            gas_limit=10**6,
            max_fee_per_gas=1,
            max_priority_fee_per_gas=1,
            payments_count=self.dice.randrange(5),
            created_at=clock.now(),
        )


def later(start: datetime, **delta: float) -> Any:
    """The clock, so much later than ``start``."""
    return clock.shifted(start + timedelta(**delta) - clock.now())
