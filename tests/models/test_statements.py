"""``move``: a row's change and what is inserted with it, all or nothing."""

from __future__ import annotations

import pytest
from django.db import DEFAULT_DB_ALIAS, IntegrityError, connection, transaction

from tests.payments.support import snapshot, stored, unsaved
from x402_django import clock
from x402_django.models import Payment, PaymentEvent, Receipt
from x402_django.models.statements import durable_statement, move

VALUES = {"state": "verified", "description": "Ünïcode ☃ %s", "response_headers": [["A", "b"]]}


def event(payment: Payment, to: str, **changes: object) -> PaymentEvent:
    values = {"at": clock.now(), "from_state": "claimed", "to_state": to, "actor": "test"}
    return PaymentEvent(payment=payment, **(values | changes))


def receipt(payment: Payment, **changes: object) -> Receipt:
    same = ("network", "asset", "asset_symbol", "asset_decimals", "amount", "payer", "pay_to")
    values = {name: getattr(payment, name) for name in (*same, "resource_url", "description")}
    values |= {"issued_at": clock.now(), "transaction": "0x1"}
    return Receipt(payment=payment, **(values | changes))


@pytest.mark.django_db
def test_everything_is_written_in_order():
    payment, other = stored(), stored()
    before = clock.now()
    events = [event(payment, to) for to in ("verified", "settling", "settled")]
    paper = receipt(payment, amount=2**256 - 1, price_usd=None)

    assert move(DEFAULT_DB_ALIAS, payment, VALUES, [*events, paper]) is True

    read = Payment.objects.get(pk=payment.pk)
    assert {name: getattr(read, name) for name in VALUES} == VALUES
    assert [e.to_state for e in payment.events.order_by("pk")] == [
        "verified",
        "settling",
        "settled",
    ]
    assert payment.events.first().at >= before
    fields = [f.attname for f in Receipt._meta.concrete_fields if not f.primary_key]
    kept = Receipt.objects.get(payment=payment)
    assert {f: getattr(kept, f) for f in fields} == {f: getattr(paper, f) for f in fields}
    other.refresh_from_db()
    assert other.state == "claimed"


@pytest.mark.django_db
@pytest.mark.parametrize("stale", [{"state": "verified"}, {"attempt": 2}, {"pk": 0}])
def test_a_stale_view_of_the_row_writes_nothing(stale):
    payment = stored()
    before = snapshot()
    for name, value in stale.items():
        setattr(payment, name, value)

    assert move(DEFAULT_DB_ALIAS, payment, VALUES, [event(payment, "verified")]) is False

    assert snapshot() == before
    assert not PaymentEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_broken_constraint_leaves_nothing_behind():
    payment = stored()
    taken = receipt(payment)
    taken.save()
    before = snapshot()
    rows = [event(payment, "verified"), receipt(payment, reference=taken.reference)]

    with pytest.raises(IntegrityError):
        move(DEFAULT_DB_ALIAS, payment, VALUES, rows)

    assert snapshot() == before
    assert not PaymentEvent.objects.exists()
    assert Receipt.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_related_object_is_written_as_its_key():
    earlier, payment = stored("settled"), stored()
    assert move(DEFAULT_DB_ALIAS, payment, {"superseded_by": earlier, "rule_id": None}, []) is True
    payment.refresh_from_db()
    assert payment.superseded_by_id == earlier.pk


@pytest.mark.django_db(transaction=True)
def test_nothing_is_written_inside_somebody_elses_transaction():
    payment = stored()
    with transaction.atomic():
        with pytest.raises(RuntimeError, match="durable"):
            move(DEFAULT_DB_ALIAS, payment, VALUES, [])
        with pytest.raises(RuntimeError, match="durable"), durable_statement(DEFAULT_DB_ALIAS):
            Payment.objects.claim(unsaved(), settling_before=clock.now())
    assert Payment.objects.get().state == "claimed"


@pytest.mark.django_db(transaction=True)
def test_a_durable_statement_is_committed_when_the_block_ends():
    payment = stored()
    with durable_statement(DEFAULT_DB_ALIAS):
        Payment.objects.filter(pk=payment.pk).update(description="kept")
    connection.close()  # forgets what was not committed
    assert Payment.objects.get().description == "kept"
