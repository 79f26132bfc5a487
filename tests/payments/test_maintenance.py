"""Claims of dead processes and stored responses past their time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.payments.support import STATES, ago, facts, history, quote, signed_payment, stored
from x402_django import clock
from x402_django.models import Payment
from x402_django.payments.claims import Entitlement, claim
from x402_django.payments.maintenance import purge_stored_responses, release_stale_claims
from x402_django.testing.instant import InstantFacilitator

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("age", [890, 910])
def test_only_old_claims_are_released(state, age):
    stored(state, state_changed_at=ago(age))
    expected = state in ("claimed", "verified") and age == 910

    assert release_stale_claims() == int(expected)

    row = Payment.objects.get()
    assert row.state == ("released" if expected else state)
    assert history(row) == ([(state, "released")] if expected else [])
    assert InstantFacilitator.calls == {}


def test_a_released_claim_may_be_presented_again():
    signed = signed_payment(valid_before=int(clock.timestamp()) + 5000)
    stored("claimed", signed, state_changed_at=ago(1000))
    release_stale_claims()
    assert claim(signed, quote(), facts()).entitlement is Entitlement.VERIFY


def test_the_work_is_bounded():
    for _ in range(3):
        stored(state_changed_at=ago(1000))
    assert [release_stale_claims(limit=2), release_stale_claims(limit=2)] == [2, 1]


def test_stored_responses_are_emptied_past_their_time():
    for seconds in (-1, 60):
        stored(
            "settled",
            delivered_at=ago(5),
            response_status=200,
            response_headers=[["a", "b"]],
            response_body=b"x",
            response_expires_at=clock.now() + timedelta(seconds=seconds),
        )

    assert [purge_stored_responses(), purge_stored_responses()] == [1, 0]

    purged, kept = Payment.objects.order_by("pk")
    assert (purged.response_status, purged.response_headers, purged.response_body) == (
        None,
        None,
        None,
    )
    assert (purged.response_expires_at, purged.state) == (None, "settled")
    assert purged.delivered_at is not None
    assert bytes(kept.response_body) == b"x"


def test_an_undelivered_answer_that_was_purged_is_still_owed():
    signed = signed_payment()
    stored(
        "settled",
        signed,
        response_status=200,
        response_body=b"x",
        response_expires_at=ago(1),
    )
    purge_stored_responses()
    assert claim(signed, quote(), facts()).entitlement is Entitlement.DELIVER


def test_an_answer_purged_at_this_very_moment_is_not_an_empty_answer():
    from x402_django.exceptions import InvalidTransition
    from x402_django.payments.delivery import replay

    stored(
        "settled",
        response_status=200,
        response_body=b"x",
        response_headers=[],
        response_expires_at=ago(1),
    )
    held = Payment.objects.defer("response_body").get()
    purge_stored_responses()
    with pytest.raises(InvalidTransition):
        replay(held)
    assert Payment.objects.get().delivered_at is None
