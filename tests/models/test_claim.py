"""``claim``: one statement that decides who owns an authorization, and its ORM twin."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import pytest
from django.db import DEFAULT_DB_ALIAS, close_old_connections, connections

from tests.payments.support import ago, facts, signed_payment, snapshot, stored, unsaved
from x402_django.models import Payment, querysets
from x402_django.testing.payer import Payer

STATES = Payment.State.values
#: (state, outcome known?, seconds since the last change, delivered?) -> is the payer owed?
CASES = [
    (state, unknown, age, delivered)
    for state in STATES
    for unknown in (False, True)
    for age in (10, 1000)
    for delivered in (False, True)
]


def is_owed(state: str, unknown: bool, age: int, delivered: bool) -> bool:
    if delivered:
        return False
    if state in ("settled", "final", "reversed"):
        return True
    return state == "settling" and (unknown or age == 1000)


@pytest.fixture(params=["statement", "orm"])
def path(request, monkeypatch):
    """Both ways of claiming; the ORM one is what other databases get."""
    if request.param == "orm":
        other = SimpleNamespace(vendor="other")
        monkeypatch.setattr(querysets, "connections", {DEFAULT_DB_ALIAS: other})
    return request.param


@pytest.mark.django_db
@pytest.mark.parametrize(("state", "unknown", "age", "delivered"), CASES)
def test_an_owed_payer_cannot_claim_a_second(path, state, unknown, age, delivered):
    payer = Payer()
    stored(
        state,
        signed_payment(payer),
        outcome_unknown_at=ago(age) if unknown else None,
        state_changed_at=ago(age),
        delivered_at=ago(1) if delivered else None,
    )
    new = unsaved(signed_payment(payer))

    claimed = Payment.objects.claim(new, settling_before=ago(100))

    assert claimed is not is_owed(state, unknown, age, delivered)
    assert Payment.objects.count() == (2 if claimed else 1)
    assert (new.pk is not None) is claimed
    owed = Payment.objects.owed_for(
        payer.address, facts().fingerprint, settling_before=ago(100)
    ).count()
    assert owed == is_owed(state, unknown, age, delivered)


@pytest.mark.django_db
def test_a_claimed_row_reads_back_as_it_was_written(path):
    new = unsaved(amount=2**256 - 1, description="Ünïcode ☃", valid_before=2**200)

    assert Payment.objects.claim(new, settling_before=ago(100)) is True

    read = Payment.objects.get(pk=new.pk)
    fields = [f.attname for f in Payment._meta.concrete_fields]
    assert {f: getattr(read, f) for f in fields} == {f: getattr(new, f) for f in fields}
    read.save()  # the row is an ordinary one
    new.save(update_fields=["description"])


@pytest.mark.django_db
@pytest.mark.parametrize("state", STATES)
def test_an_authorization_is_claimed_once_whatever_became_of_it(path, state):
    signed = signed_payment()
    stored(state, signed)
    before = snapshot()
    again = unsaved(signed, request_fingerprint="0" * 64)

    assert Payment.objects.claim(again, settling_before=ago(100)) is False

    assert snapshot() == before
    assert again.pk is None


@pytest.mark.django_db
def test_a_debt_is_to_one_payer_for_one_request(path):
    debtor = Payer()
    stored("settled", signed_payment(debtor))
    other_request = unsaved(signed_payment(debtor), request_fingerprint="0" * 64)
    other_payer = unsaved(signed_payment())

    assert Payment.objects.claim(other_request, settling_before=ago(100)) is True
    assert Payment.objects.claim(other_payer, settling_before=ago(100)) is True


@pytest.mark.django_db
def test_another_broken_constraint_is_not_swallowed(path):
    from django.db import IntegrityError, transaction

    first = stored()
    with pytest.raises(IntegrityError), transaction.atomic():
        Payment.objects.claim(unsaved(public_id=first.public_id), settling_before=ago(100))
    assert Payment.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_sixteen_claims_at_once_one_wins():
    signed = signed_payment()
    barrier = Barrier(16)

    def claim(_):
        try:
            row = unsaved(signed)
            barrier.wait(20)
            return Payment.objects.claim(row, settling_before=ago(100))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(claim, range(16)))
    close_old_connections()

    assert sorted(results) == [False] * 15 + [True]
    assert Payment.objects.count() == 1


@pytest.mark.django_db
def test_debts_are_settled_and_undelivered():
    owed = {stored(state).pk for state in ("settled", "final")}
    for state in STATES:
        stored(state, delivered_at=ago(1))
        if state not in ("settled", "final"):
            stored(state)

    assert set(Payment.objects.debts().values_list("pk", flat=True)) == owed
