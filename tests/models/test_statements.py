"""``move``: a row's change and what is inserted with it, all or nothing."""

from __future__ import annotations

import pytest
from django.db import DEFAULT_DB_ALIAS, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from tests.payments.support import snapshot, stored, unsaved
from x402_django import clock
from x402_django.models import Payment, PaymentEvent, Receipt
from x402_django.models.statements import Guard, durable_statement, move

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
@pytest.mark.parametrize(
    "stale", [{"state": "verified"}, {"attempt": 2}, {"pk": 0}, {"public_id": "f" * 40}]
)
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


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("binding", [False, True])
@pytest.mark.parametrize("contended", [False, True])
def test_a_guarded_move_however_the_client_binds_parameters(binding, contended, monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("needs PostgreSQL: set DATABASE_URL")
    options = {**connection.settings_dict["OPTIONS"], "server_side_binding": binding}
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    lock = "SELECT pg_advisory_xact_lock(1, 2)"
    payment, other = stored(), stored()
    with CaptureQueriesContext(connection) as captured:
        guard = Guard("%s = %s", (1, 1), lock, contended=contended)
        assert move(DEFAULT_DB_ALIAS, payment, VALUES, [event(payment, "verified")], guard) is True
    control = ("BEGIN", "COMMIT") if binding else ()
    steps = 2 if binding else 1
    assert len(captured) == len(control) + steps + contended
    assert Payment.objects.get(pk=payment.pk).description == VALUES["description"]
    assert payment.events.count() == 1
    before = snapshot()

    guard = Guard("%s = %s", (1, 2), lock, contended=contended)
    assert move(DEFAULT_DB_ALIAS, other, VALUES, [event(other, "verified")], guard) is False

    assert snapshot() == before
    assert not other.events.exists()
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on",)
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert cursor.fetchone() == (0,)
    connection.close()
