"""What presenting a payment entitles to, in every state of its row."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.payments.support import (
    STATES,
    ago,
    facts,
    history,
    offer,
    quote,
    signed_payment,
    snapshot,
    stored,
)
from x402_django import clock
from x402_django.exceptions import PaymentRefused
from x402_django.models import Payment, PaymentEvent
from x402_django.payments.claims import Entitlement, claim
from x402_django.payments.known import claim_known
from x402_django.protocol.types import PresentedPayment
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer

pytestmark = pytest.mark.django_db


def presented(signed, **changes):
    values = {
        "version": 2,
        "scheme": "exact",
        "network": signed.offer.network,
        "transfer_method": signed.offer.transfer_method,
        "accepted": None,
    }
    terms = signed.method.read(signed.payload_dict(), signed.offer.scheme)
    values |= {name: changes.pop(name) for name in values.keys() & changes.keys()}
    return PresentedPayment(**values, terms=replace(terms, **changes))


def test_a_new_payment_is_claimed_for_its_request():
    signed = signed_payment()
    found = claim(signed, quote(), facts())

    assert found.entitlement is Entitlement.VERIFY
    row = Payment.objects.get()
    assert (row.state, row.attempt, row.amount, row.payer, row.nonce) == (
        "claimed",
        1,
        10_000,
        signed.payer,
        signed.nonce,
    )
    assert row.requirements == signed.offer.as_v2()
    assert row.payload == signed.payload_dict()
    assert row.request_fingerprint == facts().fingerprint
    assert (row.request_method, row.resource_url) == ("GET", "https://shop.example/weather/")


ENTITLED = {
    ("claimed", False): Entitlement.WAIT,
    ("verified", False): Entitlement.WAIT,
    ("settling", False): Entitlement.WAIT,
    ("settled", False): Entitlement.DELIVER,
    ("final", False): Entitlement.DELIVER,
    ("settled", True): None,
    ("final", True): None,
    ("released", False): Entitlement.VERIFY,
    ("rejected", False): Entitlement.VERIFY,
    ("reversed", False): Entitlement.RESOLVE,
    ("reversed", True): Entitlement.RESOLVE,
    ("failed", False): None,
    ("expired", False): None,
    ("refunded", False): None,
}


@pytest.mark.parametrize(("state", "delivered"), ENTITLED)
def test_presenting_it_again_on_the_same_request(state, delivered):
    signed = signed_payment()
    stored(state, signed, delivered_at=ago(5) if delivered else None)
    expected = ENTITLED[state, delivered]

    if expected is None:
        before = snapshot()
        with pytest.raises(PaymentRefused):
            claim(signed, quote(), facts())
        assert snapshot() == before
    else:
        assert claim(signed, quote(), facts()).entitlement is expected
    assert Payment.objects.count() == 1
    assert InstantFacilitator.calls == {}


@pytest.mark.parametrize("state", sorted(set(STATES) - {"released", "rejected"}))
def test_presenting_it_on_another_request_is_refused_in_every_state(state):
    signed = signed_payment()
    stored(state, signed)
    before = snapshot()
    with pytest.raises(PaymentRefused) as refusal:
        claim(signed, quote(), facts("another"))
    assert refusal.value.code == "payment_already_used"
    assert snapshot() == before


@pytest.mark.parametrize(
    ("unknown", "age", "expected"),
    [
        (None, 10, Entitlement.WAIT),
        (None, 40, Entitlement.WAIT),
        (None, 51, Entitlement.RESOLVE),  # 2 * SETTLEMENT_TIMEOUT + 3 * RPC_TIMEOUT: it is dead
        (5, 5, Entitlement.RESOLVE),
    ],
)
def test_a_settling_payment_is_waited_for_or_resolved(unknown, age, expected):
    signed = signed_payment()
    stored(
        "settling",
        signed,
        state_changed_at=ago(age),
        outcome_unknown_at=ago(unknown) if unknown else None,
    )
    assert claim(signed, quote(), facts()).entitlement is expected


@pytest.mark.parametrize("delivered", [False, True])
def test_a_stored_response_is_replayed_until_its_time(delivered):
    signed = signed_payment()
    row = stored(
        "settled",
        signed,
        delivered_at=ago(5) if delivered else None,
        response_status=200,
        response_headers=[],
        response_body=b"x",
        response_expires_at=clock.now() + timedelta(seconds=60),
    )
    assert claim(signed, quote(), facts()).entitlement is Entitlement.REPLAY
    row.response_expires_at = ago(1)
    row.save()
    if delivered:
        with pytest.raises(PaymentRefused):
            claim(signed, quote(), facts())
    else:
        assert claim(signed, quote(), facts()).entitlement is Entitlement.DELIVER


def test_one_worker_at_a_time_delivers_a_debt():
    signed = signed_payment()
    stored("settled", signed)
    assert claim(signed, quote(), facts()).entitlement is Entitlement.DELIVER
    assert claim(signed, quote(), facts()).entitlement is Entitlement.WAIT
    with clock.shifted(timedelta(seconds=901)):  # CLAIM_TIMEOUT: that worker is dead
        assert claim(signed, quote(), facts()).entitlement is Entitlement.DELIVER
    assert Payment.objects.get().attempt == 3


@pytest.mark.parametrize("state", ["settled", "claimed", "settling", "failed"])
def test_a_forged_copy_of_an_earlier_payment_gets_nothing(state, untrusted):
    """Another key's signature over somebody's nonce: the facilitator is asked, and refuses."""
    signed = signed_payment()
    stored(state, signed)
    before = snapshot()
    forged = signed_payment(
        Payer(),
        payer=signed.payer,
        nonce=signed.nonce,
        valid_after=signed.valid_after,
        valid_before=signed.valid_before,
    )
    InstantFacilitator.script["verify"] = [
        PaymentRefused(code="invalid_exact_evm_payload_signature")
    ]

    with pytest.raises(PaymentRefused) as refusal:
        claim(forged, quote(), facts())

    assert refusal.value.code == "invalid_exact_evm_payload_signature"
    assert snapshot() == before


def test_a_strangers_unverified_claim_does_not_speak_for_the_owner():
    """A row made up by a stranger over the owner's nonce: the owner waits, and is then served."""
    owner = Payer()
    genuine = signed_payment(owner)
    made_up = signed_payment(
        Payer(),
        payer=owner.address,
        nonce=genuine.nonce,
        valid_after=genuine.valid_after,
        valid_before=genuine.valid_before,
    )
    squatter = claim(made_up, quote(), facts("another")).payment
    assert claim(genuine, quote(), facts()).entitlement is Entitlement.WAIT

    from x402_django.payments.machine import Step, advance

    advance(squatter, Step("rejected"), actor="test")
    found = claim(genuine, quote(), facts())

    assert found.entitlement is Entitlement.VERIFY
    row = Payment.objects.get()
    assert row.payload == genuine.payload_dict()
    assert row.request_fingerprint == facts().fingerprint


@pytest.mark.parametrize("state", ["released", "rejected"])
def test_a_released_payment_takes_the_terms_of_its_new_request(state):
    signed = signed_payment()
    stored(state, signed, request_fingerprint="0" * 64, flow="authorization", failure_code="old")

    found = claim(signed, quote("upfront", description="New"), facts("new", "POST"))

    row = Payment.objects.get()
    assert found.entitlement is Entitlement.VERIFY
    assert (row.state, row.attempt, row.flow, row.description) == ("claimed", 2, "upfront", "New")
    assert (row.request_method, row.failure_code) == ("POST", "")
    assert row.request_fingerprint == facts("new", "POST").fingerprint
    assert history(row) == [(state, "claimed")]


# ------------------------------------------------------------------ double-pay protection


def test_a_new_payment_for_a_request_that_is_owed_is_served_from_the_earlier():
    payer = Payer()
    earlier = stored("settled", signed_payment(payer))
    new = signed_payment(payer)

    found = claim(new, quote(), facts())

    assert (found.entitlement, found.payment.pk) == (Entitlement.DELIVER, earlier.pk)
    released = Payment.objects.get(nonce=new.nonce)
    assert (released.state, released.superseded_by_id) == ("released", earlier.pk)
    assert history(released) == [("claimed", "released")]
    assert PaymentEvent.objects.get(payment=released).code == "served_from_earlier"


def test_a_new_payment_while_the_earlier_is_unknown_resolves_the_earlier():
    payer = Payer()
    earlier = stored("settling", signed_payment(payer), outcome_unknown_at=ago(3))
    found = claim(signed_payment(payer), quote(), facts())
    assert (found.entitlement, found.payment.pk) == (Entitlement.RESOLVE, earlier.pk)


def test_a_new_payment_while_the_earlier_is_to_be_settled_again_resolves_the_earlier():
    """A reorganisation took the transfer before anything was delivered; it will be made again."""
    payer = Payer()
    earlier = stored("reversed", signed_payment(payer))
    new = signed_payment(payer)
    found = claim(new, quote(), facts())
    assert (found.entitlement, found.payment.pk) == (Entitlement.RESOLVE, earlier.pk)
    assert Payment.objects.get(nonce=new.nonce).state == "released"
    delivered = stored("reversed", signed_payment(Payer()), delivered_at=ago(3))
    assert delivered.payer != payer.address
    assert claim(signed_payment(Payer()), quote(), facts()).entitlement is Entitlement.VERIFY


def test_a_forged_new_payment_does_not_take_what_somebody_is_owed():
    payer = Payer()
    stored("settled", signed_payment(payer))
    before = snapshot()
    forged = signed_payment(Payer(), payer=payer.address)
    InstantFacilitator.script["verify"] = [
        PaymentRefused(code="invalid_exact_evm_payload_signature")
    ]
    with pytest.raises(PaymentRefused):
        claim(forged, quote(), facts())
    assert snapshot() == before


def test_the_released_payment_is_good_for_another_purchase():
    payer = Payer()
    earlier = stored("settled", signed_payment(payer))
    new = signed_payment(payer)
    claim(new, quote(), facts())
    Payment.objects.filter(pk=earlier.pk).update(delivered_at=clock.now())

    found = claim(new, quote(), facts("something else"))

    assert found.entitlement is Entitlement.VERIFY
    assert found.payment.superseded_by_id is None


def test_a_released_payment_presented_while_another_is_owed_is_not_charged():
    payer = Payer()
    old = signed_payment(payer)
    stored("released", old)
    earlier = stored("settled", signed_payment(payer))

    found = claim(old, quote(), facts())

    assert (found.entitlement, found.payment.pk) == (Entitlement.DELIVER, earlier.pk)
    assert Payment.objects.get(nonce=old.nonce).state == "released"


# ------------------------------------------------------------------ not payable any more


@pytest.mark.parametrize("state", STATES)
def test_what_an_unpayable_payment_bought_earlier_is_still_its_payers(state):
    """The price has changed, or the authorization is over: match_offer has refused it."""
    signed = signed_payment()
    stored(state, signed)
    before = snapshot()
    known = state not in ("claimed", "released", "rejected", "failed", "expired", "refunded")

    if state in ("failed", "expired", "refunded", "waived"):
        with pytest.raises(PaymentRefused):
            claim_known(presented(signed), facts())
    else:
        found = claim_known(presented(signed), facts())
        assert (found is not None) is known
    if state not in ("settled", "final"):
        assert snapshot() == before


@pytest.mark.parametrize(
    "change",
    [
        {"signature": b"\x01" * 65},
        {"value": 9_999},
        {"to": "0x000000000000000000000000000000000000dEaD"},
        {"valid_before": 1},
        {"valid_after": 1},
        {"nonce": "0x" + "1" * 64},
        {"network": "eip155:1"},
        {"payer": "0x000000000000000000000000000000000000dEaD"},
    ],
)
def test_only_the_very_same_payload_is_known(change):
    signed = signed_payment()
    stored("settled", signed)
    before = snapshot()
    assert claim_known(presented(signed, **change), facts()) is None
    assert snapshot() == before


def test_a_known_payment_on_another_request_is_refused():
    signed = signed_payment()
    stored("settled", signed)
    before = snapshot()
    with pytest.raises(PaymentRefused) as refusal:
        claim_known(presented(signed), facts("another"))
    assert refusal.value.code == "payment_already_used"
    assert snapshot() == before


def test_two_tokens_with_one_nonce_are_two_payments():
    payer = Payer()
    of = offer(asset="0x000000000000000000000000000000000000dEaD")
    first = signed_payment(payer)
    second = signed_payment(payer, of=of, nonce=first.nonce)
    assert claim(first, quote(), facts()).entitlement is Entitlement.VERIFY
    assert claim(second, quote(), facts("b")).entitlement is Entitlement.VERIFY
