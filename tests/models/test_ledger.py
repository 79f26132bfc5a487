"""Rows that are money: written once, constrained by the database."""

from __future__ import annotations

import secrets

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from tests.payments.support import signed_payment, snapshot, stored
from x402_django import clock
from x402_django.models import Payment, PaymentEvent, PaymentMethod, PriceRule, Receipt
from x402_django.payments.recording import mark_settled
from x402_django.protocol.types import Settlement

pytestmark = pytest.mark.django_db


@pytest.fixture
def settled():
    payment = stored("settling")
    mark_settled(payment, Settlement("0x" + "a" * 64, 1, "0x" + "b" * 64, 3), {}, actor="test")
    return payment


def test_the_migrations_are_in_step_with_the_models():
    call_command("makemigrations", "x402_django", check=True, dry_run=True, verbosity=0)


@pytest.mark.parametrize("model", [PaymentEvent, Receipt])
def test_append_only_rows_refuse_every_way_of_changing_them(settled, model):
    row = model.objects.get()
    before = list(model.objects.values())

    for attempt in (
        row.save,
        row.delete,
        lambda: model.objects.update(payment_id=settled.pk),
        lambda: model.objects.all().delete(),
        lambda: model.objects.filter(pk=row.pk).delete(),
        lambda: model.objects.bulk_update([row], ["payment"]),
    ):
        with pytest.raises(TypeError, match="append-only"), transaction.atomic():
            attempt()

    assert list(model.objects.values()) == before


def test_a_payment_with_history_cannot_be_deleted(settled):
    with pytest.raises(ProtectedError), transaction.atomic():
        settled.delete()
    assert Payment.objects.count() == 1


def test_a_receipt_says_what_was_paid(settled):
    receipt = Receipt.objects.get()
    assert {name: getattr(receipt, name) for name in ("payer", "pay_to", "amount", "asset")} == {
        "payer": settled.payer,
        "pay_to": settled.pay_to,
        "amount": 10_000,
        "asset": settled.asset,
    }
    assert receipt.transaction == "0x" + "a" * 64
    assert receipt.reference != settled.public_id
    assert len(receipt.reference) == 40


def violates(name: str):
    """The block breaks the constraint of this name (SQLite names only checks)."""
    from django.db import connection

    pattern = name if connection.vendor == "postgresql" else ""
    return pytest.raises(IntegrityError, match=pattern)


def test_one_authorization_has_one_row():
    signed = signed_payment()
    stored("claimed", signed)
    before = snapshot()
    with violates("x402_payment_authorization_uniq"), transaction.atomic():
        stored("released", signed)
    assert snapshot() == before


@pytest.mark.parametrize(
    "change",
    [
        {"network": "eip155:1"},
        {"asset": "0x" + "1" * 40},
        {"payer": "0x" + "2" * 40},
        {"nonce": "0x3"},
    ],
)
def test_an_authorization_is_network_asset_payer_and_nonce(change):
    signed = signed_payment()
    stored("claimed", signed)
    stored("claimed", signed, **change)
    assert Payment.objects.count() == 2


def test_one_transfer_pays_once():
    where = {"transaction": "0x" + "a" * 64, "log_index": 4}
    stored("settled", **where)
    with violates("x402_payment_transfer_uniq"), transaction.atomic():
        stored("settled", **where)
    stored("settled", transaction="0x" + "a" * 64, log_index=5)
    stored("settled", transaction="0x" + "a" * 64, log_index=None)
    stored("settled", transaction="0x" + "a" * 64, log_index=None)
    assert Payment.objects.count() == 4


def test_public_ids_are_unique_and_unguessable():
    first = stored()
    assert len(first.public_id) == 40
    with violates("x402_payment_public_id_uniq"), transaction.atomic():
        stored(public_id=first.public_id)
    assert Payment.objects.count() == 1


@pytest.mark.parametrize("state", ["settled", "final"])
@pytest.mark.parametrize("missing", [{"transaction": ""}, {"settled_at": None}])
def test_what_is_settled_says_where_and_when(state, missing):
    with violates("x402_payment_settled_has_tx"), transaction.atomic():
        stored(state, **missing)
    assert Payment.objects.count() == 0


def test_a_rule_has_exactly_one_price():
    for prices in ({}, {"price_usd": 1, "token_amount": 1}):
        with violates("x402_rule_one_price"), transaction.atomic():
            PriceRule.objects.create(name="r", **prices)
        with pytest.raises(ValidationError, match="either a price in US dollars"):
            PriceRule(name="r", **prices).validate_constraints()
    assert PriceRule.objects.count() == 0


def test_a_rule_ends_after_it_begins():
    now = clock.now()
    with violates("x402_rule_period"), transaction.atomic():
        PriceRule.objects.create(name="r", price_usd=1, valid_from=now, valid_until=now)
    assert PriceRule.objects.count() == 0


def test_payment_methods_are_distinct():
    values = {
        "network": "eip155:8453",
        "asset": "0x" + "1" * 40,
        "pay_to": "0x" + "2" * 40,
        "asset_symbol": "T",
        "asset_name": "T",
        "asset_version": "1",
    }
    PaymentMethod.objects.create(name="a", **values)
    with violates("x402_method_uniq"), transaction.atomic():
        PaymentMethod.objects.create(name="b", **values)
    assert PaymentMethod.objects.count() == 1


@pytest.mark.parametrize(
    "network",
    ["base", "eip155:0", "eip155:01", "eip155:", "eip155:8453 ", "solana:1", "eip155:1\n"],
)
def test_a_network_is_a_caip2_name(network):
    with pytest.raises(ValidationError):
        PaymentMethod(network=network).clean_fields(exclude=["asset", "pay_to", "name"])


@pytest.mark.parametrize("field", ["asset", "pay_to"])
@pytest.mark.parametrize("address", ["", "0x", "0x" + "1" * 39, "0x" + "g" * 40, "0" * 40])
def test_an_address_is_an_address(field, address):
    with pytest.raises(ValidationError) as error:
        PaymentMethod(**{field: address}).clean_fields()
    assert field in error.value.message_dict


def test_editing_or_deleting_a_rule_does_not_rewrite_history():
    rule = PriceRule.objects.create(name="Report", price_usd=1)
    payment = stored("settled", rule=rule, rule_name="Report")
    rule.name, rule.price_usd = "Other", 2
    rule.save()
    rule.delete()
    payment.refresh_from_db()
    assert (payment.rule_id, payment.rule_name, str(payment.price_usd)) == (
        None,
        "Report",
        "0.01000000",
    )


def test_nothing_personal_names_a_payment():
    payment = stored(payer="0x" + secrets.token_hex(20))
    assert payment.payer not in str(payment)
    assert str(payment) == f"{payment.public_id[:12]} (claimed)"
