"""The made-up ledger is one that could have been: every invariant of a real one holds in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.db.models import Count, Max
from django.test import TestCase
from django.utils import timezone

from demo_project.errors import DemoError
from demo_project.seed.ledger import seed_ledger
from x402_django.models import (
    ChainTransaction,
    ChainTransactionItem,
    ExactSum,
    Payment,
    PaymentEvent,
    PaymentMethod,
    PriceRule,
    Receipt,
    SettlementWallet,
)
from x402_django.payments.machine import TRANSITIONS
from x402_django.protocol.assets import to_checksum_address
from x402_django.protocol.types import SignedPayment

ROWS = 2_000
REGULARS = ("0x70997970C51812dc3A010C7d01b50e0d17dc79C8",)


class SeededLedger(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        seed_ledger(ROWS, regulars=REGULARS)

    def test_as_many_as_were_asked_for_in_every_state(self) -> None:
        assert Payment.objects.count() == ROWS
        # Nothing made up is metered, so nothing is waived.
        states = set(Payment.State.values) - {Payment.State.WAIVED}
        assert set(Payment.objects.values_list("state", flat=True)) == states

    def test_the_state_machine_draws_every_history(self) -> None:
        events = defaultdict(list)
        for event in PaymentEvent.objects.order_by("pk"):
            events[event.payment_id].append(event)
        for payment in Payment.objects.all():
            state, moment = "claimed", payment.created_at
            for event in events[payment.pk]:
                assert event.from_state == state
                assert event.to_state in TRANSITIONS[state]
                assert event.at >= moment
                state, moment = event.to_state, event.at
            assert state == payment.state
            assert moment == payment.state_changed_at
            assert moment <= timezone.now()

    def test_a_receipt_for_what_has_settled_and_for_nothing_else(self) -> None:
        settled = PaymentEvent.objects.filter(to_state="settled").values_list("payment", flat=True)
        receipts = Receipt.objects.values_list("payment", flat=True)
        assert sorted(receipts) == sorted(settled)
        for receipt in Receipt.objects.select_related("payment"):
            payment = receipt.payment
            assert receipt.issued_at == payment.settled_at
            assert receipt.transaction == payment.transaction or payment.state == "reversed"
            for name in ("network", "asset", "amount", "price_usd", "payer", "resource_url"):
                assert getattr(receipt, name) == getattr(payment, name)

    def test_the_sums_agree(self) -> None:
        token = ("network", "asset", "asset_symbol")
        paid = Payment.objects.filter(settled_at__isnull=False).order_by().values_list(*token)
        booked = Receipt.objects.order_by().values_list(*token)
        assert len(set(paid)) > 4
        assert sorted(paid.annotate(ExactSum("amount"))) == sorted(
            booked.annotate(ExactSum("amount"))
        )

    def test_the_rows_are_what_was_signed(self) -> None:
        for payment in Payment.objects.all():
            signed = SignedPayment.from_row(payment)
            assert signed.key == (payment.network, payment.asset, payment.payer, payment.nonce)
            assert signed.offer.amount == payment.amount
            assert signed.valid_before == payment.valid_before
            assert len(signed.signature) == 65
            assert to_checksum_address(payment.payer) == payment.payer

    def test_a_transaction_pays_for_those_that_ride_in_it(self) -> None:
        riding = Counter(
            ChainTransactionItem.objects.filter(chain_transaction__isnull=False).values_list(
                "chain_transaction", flat=True
            )
        )
        for row in ChainTransaction.objects.all():
            assert riding[row.pk] == row.payments_count > 0
        items = ChainTransactionItem.objects.select_related("payment", "chain_transaction")
        places = set()
        for item in items.filter(status="riding", chain_transaction__status="mined"):
            payment, row = item.payment, item.chain_transaction
            if payment.state != "reversed":
                assert payment.transaction == row.hash
                assert (payment.block_number, payment.block_hash) == (
                    row.block_number,
                    row.block_hash,
                )
                places.add((row.hash, payment.log_index))
        assert len(places) > ROWS / 3
        assert any(row.payments_count > 10 for row in ChainTransaction.objects.all())

    def test_the_wallets_have_left_no_gap(self) -> None:
        wallets = SettlementWallet.objects.all()
        assert len(wallets) > 5
        for wallet in wallets:
            nonces = ChainTransaction.objects.filter(network=wallet.network, wallet=wallet.address)
            assert sorted(nonces.values_list("nonce", flat=True)) == list(range(wallet.next_nonce))

    def test_two_years_that_grow(self) -> None:
        now = timezone.now()
        ages = [(now - at).days for at in Payment.objects.values_list("created_at", flat=True)]
        assert 725 <= max(ages) <= 730
        assert min(ages) == 0
        assert sum(age < 365 for age in ages) > 1.4 * sum(age >= 365 for age in ages)
        stored = Payment.objects.filter(response_expires_at__isnull=False)
        assert stored.exists()
        assert not stored.filter(created_at__lt=now - timedelta(seconds=700)).exists()

    def test_who_buys_most(self) -> None:
        bought = Payment.objects.order_by().values("payer").annotate(n=Count("pk")).order_by("-n")
        assert REGULARS[0] in [one["payer"] for one in bought[:3]]
        assert len(bought) > 50
        assert bought[0]["n"] > 5 * bought[20]["n"]

    def test_nothing_of_it_is_offered(self) -> None:
        assert PaymentMethod.objects.exists()
        assert not PaymentMethod.objects.filter(active=True).exists()
        assert PriceRule.objects.exists()
        assert not PriceRule.objects.filter(active=True).exists()

    def test_payments_are_not_overwritten(self) -> None:
        before = list(Payment.objects.values_list("pk", "nonce"))
        with pytest.raises(DemoError, match="There are payments in this database"):
            seed_ledger(10)
        assert list(Payment.objects.values_list("pk", "nonce")) == before
        assert PaymentEvent.objects.count() > ROWS

    def test_more_may_be_added(self) -> None:
        seed_ledger(100, add=True)
        assert Payment.objects.count() == ROWS + 100
        self.test_the_wallets_have_left_no_gap()
        self.test_a_receipt_for_what_has_settled_and_for_nothing_else()
        new = Payment.objects.create(**_values(Payment.objects.first()))
        assert new.pk > Payment.objects.exclude(pk=new.pk).aggregate(last=Max("pk"))["last"]


def _values(payment: Payment) -> dict[str, object]:
    values = {field.attname: getattr(payment, field.attname) for field in payment._meta.fields}
    del values["id"]
    return {**values, "nonce": "0x" + "77" * 32, "public_id": "7" * 40, "log_index": None}


@pytest.mark.django_db
def test_the_same_number_makes_the_same_ledger() -> None:
    columns = ("payer", "amount", "state", "network", "nonce")
    seed_ledger(200, number=7)
    first = list(Payment.objects.order_by("pk").values_list(*columns))
    _empty()
    seed_ledger(200, number=7)
    assert sorted(Payment.objects.values_list(*columns)) == sorted(first)
    _empty()
    seed_ledger(200, number=8)
    nonces = set(Payment.objects.values_list("nonce", flat=True))
    assert not nonces & {nonce for *_, nonce in first}


def _empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        for model in (ChainTransactionItem, Receipt, PaymentEvent):
            cursor.execute(f"DELETE FROM {model._meta.db_table}")
        cursor.execute("DELETE FROM x402_django_replacedtransaction")
        for model in (ChainTransaction, Payment, SettlementWallet):
            cursor.execute(f"DELETE FROM {model._meta.db_table}")


@pytest.mark.postgres
@pytest.mark.django_db
def test_indexes_and_constraints_are_as_they_were() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("needs PostgreSQL: set DATABASE_URL")
    before = _schema()
    seed_ledger(200)
    assert len(before) > 40
    assert _schema() == before
    with pytest.raises(Exception, match="x402_payment_settled_has_tx"):
        Payment.objects.filter(state="claimed").update(state="settled")


def _schema() -> set[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename LIKE 'x402%%' UNION "
            "SELECT conname, pg_get_constraintdef(oid) || convalidated FROM pg_constraint "
            "WHERE conrelid::regclass::text LIKE 'x402%%'"
        )
        # PostgreSQL writes the casts of a list in another way once it has read its own.
        return {
            (name, re.sub(r"::[a-z]+( varying)?(\[\])?|[()]", "", definition))
            for name, definition in cursor.fetchall()
        }


def test_the_command(tmp_path: Path) -> None:
    environment = {
        k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "PYTEST_ADDOPTS")
    }
    environment |= {
        "DEMO_VAR_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "demo_project.settings",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "demo_project.seed", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    first = run("--rows", "120")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("120 payments, ")
    assert "120       payments" in first.stdout
    assert f"DATABASE_URL=sqlite:///{tmp_path}/seed.sqlite3" in first.stdout
    second = run("--rows", "120")
    assert second.returncode == 1
    assert "There are payments in this database" in second.stderr
    third = run("--rows", "30", "--add")
    assert "150       payments" in third.stdout
