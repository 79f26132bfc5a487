"""Verify and settle: every outcome, and what it leaves in the ledger."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.payments.support import facts, history, quote, signed_payment, snapshot, stored
from x402_django import clock
from x402_django.exceptions import (
    FacilitatorUnavailable,
    PaymentRefused,
    RpcUnavailable,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.models import Payment, Receipt
from x402_django.payments.claims import claim
from x402_django.payments.settlement import settle, verify
from x402_django.testing.instant import InstantFacilitator

pytestmark = pytest.mark.django_db

NONCE_USED = PaymentRefused(code="invalid_exact_evm_nonce_already_used")


@pytest.fixture
def claimed(chain_says):
    signed = signed_payment()
    return claim(signed, quote(), facts()).payment, signed


def script(operation, *errors):
    InstantFacilitator.script[operation] = list(errors)


def test_a_payment_settles_with_a_receipt(claimed):
    payment, signed = claimed
    verify(payment, signed)
    assert Payment.objects.get().state == "claimed"

    settle(payment, signed, lambda: {"response_status": 200})

    row = Payment.objects.get()
    assert (row.state, row.response_status, row.outcome_unknown_at) == ("settled", 200, None)
    assert (row.block_number, row.log_index) == (1, 0)
    assert row.settled_at is not None
    receipt = Receipt.objects.get()
    assert (receipt.payment_id, receipt.transaction) == (row.pk, row.transaction)
    assert history(row) == [
        ("claimed", "verified"),
        ("verified", "settling"),
        ("settling", "settled"),
    ]
    assert InstantFacilitator.settled == [signed.nonce]


# ------------------------------------------------------------------ verifying


def test_a_refused_payment_is_rejected(claimed):
    payment, signed = claimed
    script("verify", PaymentRefused("No money.", code="insufficient_funds"))
    with pytest.raises(PaymentRefused):
        verify(payment, signed)
    row = Payment.objects.get()
    assert (row.state, row.failure_code) == ("rejected", "insufficient_funds")
    assert InstantFacilitator.calls == {"verify": 1}


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (FacilitatorUnavailable(), FacilitatorUnavailable),
        (RpcUnavailable(), RpcUnavailable),
        (ValueError("secret"), ValueError),
    ],
)
def test_a_payment_that_cannot_be_verified_is_released(claimed, error, raised):
    payment, signed = claimed
    script("verify", error)
    with pytest.raises(raised):
        verify(payment, signed)
    row = Payment.objects.get()
    assert row.state == "released"
    assert "secret" not in row.failure_code + row.events.get().reason
    assert InstantFacilitator.calls == {"verify": 1}


def test_an_authorization_submitted_by_somebody_else_after_the_claim_is_honoured(
    claimed, chain_says
):
    payment, signed = claimed
    script("verify", NONCE_USED)
    found = chain_says.paid()
    chain_says.time = int(payment.created_at.timestamp()) + 5

    verify(payment, signed)

    row = Payment.objects.get()
    assert (row.state, row.transaction, row.log_index) == ("settled", found.transaction, 7)
    assert Receipt.objects.count() == 1
    assert InstantFacilitator.calls == {"verify": 1}


def test_an_authorization_used_before_it_was_presented_buys_nothing(claimed, chain_says):
    payment, signed = claimed
    script("verify", NONCE_USED)
    chain_says.paid()
    chain_says.time = int(payment.created_at.timestamp()) - 5
    with pytest.raises(PaymentRefused):
        verify(payment, signed)
    assert Payment.objects.get().state == "rejected"
    assert Receipt.objects.count() == 0


def test_a_used_nonce_without_a_transfer_to_us_buys_nothing(claimed, chain_says):
    payment, signed = claimed
    script("verify", NONCE_USED)
    chain_says.used = True  # cancelled, or spent on somebody else
    with pytest.raises(PaymentRefused):
        verify(payment, signed)
    assert Payment.objects.get().state == "rejected"


def test_one_transfer_honours_one_payment(chain_says):
    found = chain_says.paid()
    stored("settled", transaction=found.transaction, log_index=found.log_index)
    signed = signed_payment()
    payment = claim(signed, quote(), facts()).payment
    script("verify", NONCE_USED)
    chain_says.time = int(payment.created_at.timestamp()) + 5
    with pytest.raises(SettlementUnknown):
        verify(payment, signed)
    assert Payment.objects.get(pk=payment.pk).state == "settling"
    assert Receipt.objects.count() == 0


@pytest.mark.parametrize("first", ["rejected", "released"])
def test_a_payment_announced_here_and_spent_elsewhere_is_not_honoured_here(chain_says, first):
    """The sale of another site with the same payee: announced here first, for another request
    or so that it was rejected, then spent there, then presented here.
    """
    signed = signed_payment()
    payment = claim(signed, quote(), facts("cheap trick")).payment
    script("verify", PaymentRefused(code="insufficient_funds"))
    if first == "rejected":
        with pytest.raises(PaymentRefused):
            verify(payment, signed)
    else:
        from x402_django.payments.recording import release

        release(payment, "The view answered 404.")
    spent_at = int(payment.created_at.timestamp()) + 1
    chain_says.paid()
    chain_says.time = spent_at

    with clock.shifted(timedelta(seconds=2)):
        again = claim(signed, quote(), facts()).payment
    script("verify", NONCE_USED)
    with pytest.raises(PaymentRefused):
        verify(again, signed)
    assert Payment.objects.get().state == "rejected"
    assert Receipt.objects.count() == 0


def test_a_facilitator_that_submits_what_it_would_not_verify_robs_nobody(chain_says):
    """It says "unavailable" and submits all the same; the same payload on the same request."""
    signed = signed_payment()
    payment = claim(signed, quote(), facts()).payment
    script("verify", FacilitatorUnavailable(), NONCE_USED)
    with pytest.raises(FacilitatorUnavailable):
        verify(payment, signed)
    chain_says.paid()
    chain_says.time = int(payment.created_at.timestamp()) + 1

    again = claim(signed, quote(), facts()).payment
    verify(again, signed)

    assert Payment.objects.get().state == "settled"


def test_if_the_chain_cannot_be_read_a_used_nonce_is_neither_honoured_nor_rejected(
    claimed, chain_says
):
    payment, signed = claimed
    script("verify", NONCE_USED)
    chain_says.fails(RpcUnavailable())
    with pytest.raises(RpcUnavailable):
        verify(payment, signed)
    assert Payment.objects.get().state == "released"


# ------------------------------------------------------------------ settling


def test_a_definite_failure_charges_nobody(claimed):
    payment, signed = claimed
    script("settle", SettlementFailed(code="insufficient_funds"))
    with pytest.raises(SettlementFailed):
        settle(payment, signed)
    row = Payment.objects.get()
    assert (row.state, row.failure_code, row.transaction) == ("failed", "insufficient_funds", "")
    assert Receipt.objects.count() == 0


def test_nothing_sent_is_released(claimed):
    payment, signed = claimed
    script("settle", FacilitatorUnavailable())
    with pytest.raises(FacilitatorUnavailable):
        settle(payment, signed)
    row = Payment.objects.get()
    assert (row.state, row.failure_code) == ("released", "payment_service_unavailable")


@pytest.mark.parametrize(
    "error", [SettlementUnknown(transaction="0x" + "1" * 64), ValueError("x"), TimeoutError("x")]
)
def test_doubt_stays_settling(claimed, error):
    payment, signed = claimed
    script("settle", error)
    with pytest.raises(SettlementUnknown):
        settle(payment, signed)
    row = Payment.objects.get()
    assert row.state == "settling"
    assert row.outcome_unknown_at is not None
    assert row.transaction == getattr(error, "transaction", "")
    assert Receipt.objects.count() == 0


def test_doubt_ends_at_once_if_the_chain_knows(claimed, chain_says):
    payment, signed = claimed
    script("settle", SettlementUnknown())
    found = chain_says.paid()
    settle(payment, signed, lambda: {"response_status": 200})
    row = Payment.objects.get()
    assert (row.state, row.transaction, row.response_status) == ("settled", found.transaction, 200)


def test_an_untrusted_no_is_not_believed_when_the_chain_says_yes(claimed, chain_says, untrusted):
    payment, signed = claimed
    script("settle", SettlementFailed(code="insufficient_funds"))
    found = chain_says.paid()
    settle(payment, signed)
    row = Payment.objects.get()
    assert (row.state, row.transaction) == ("settled", found.transaction)
    assert Receipt.objects.count() == 1


@pytest.mark.parametrize("used", [True, RpcUnavailable()])
def test_an_untrusted_no_is_doubt_if_the_authorization_may_be_used(
    claimed, chain_says, untrusted, used
):
    payment, signed = claimed
    script("settle", SettlementFailed(code="insufficient_funds"))
    chain_says.used = used
    with pytest.raises(SettlementUnknown):
        settle(payment, signed)
    row = Payment.objects.get()
    assert (row.state, row.outcome_unknown_at is None) == ("settling", False)


def test_an_untrusted_yes_without_a_transfer_is_doubt(claimed, chain_says, untrusted, settings):
    from tests.settings import X402

    settings.X402 = {**X402, "SETTLEMENT_TIMEOUT": 0.2}
    payment, signed = claimed
    with pytest.raises(SettlementUnknown):
        settle(payment, signed)
    row = Payment.objects.get()
    assert (row.state, row.outcome_unknown_at is None) == ("settling", False)
    assert Receipt.objects.count() == 0


def test_an_untrusted_yes_is_recorded_as_the_chain_has_it(claimed, chain_says, untrusted):
    payment, signed = claimed
    found = chain_says.paid()
    settle(payment, signed)
    row = Payment.objects.get()
    assert (row.state, row.transaction, row.block_number) == ("settled", found.transaction, 100)


def test_a_worker_whose_claim_was_released_meanwhile_sends_nothing(claimed):
    from x402_django.exceptions import InvalidTransition
    from x402_django.payments.recording import release

    payment, signed = claimed
    release(Payment.objects.get(), "timed out")
    before = snapshot()
    with pytest.raises(InvalidTransition):
        settle(payment, signed)
    assert snapshot() == before
    assert InstantFacilitator.calls == {}
