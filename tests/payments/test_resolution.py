"""Unknown outcomes: time and the chain decide, and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from tests.payments.support import ago, history, signed_payment, snapshot, soon, stored
from x402_django import clock
from x402_django.exceptions import (
    FacilitatorUnavailable,
    PaymentRefused,
    RpcUnavailable,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.models import Payment, Receipt
from x402_django.payments import confirmation
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.resolution import resolve
from x402_django.testing.instant import InstantFacilitator

pytestmark = pytest.mark.django_db


@pytest.fixture
def unknown(chain_says):
    return stored(
        "settling", outcome_unknown_at=ago(100), state_changed_at=ago(100), created_at=ago(101)
    )


def script(*errors):
    InstantFacilitator.script["settle"] = list(errors)


def row():
    return Payment.objects.get()


def test_used_means_settled(unknown, chain_says):
    found = chain_says.paid()
    resolve(unknown, actor="test")
    assert (row().state, row().transaction, row().outcome_unknown_at) == (
        "settled",
        found.transaction,
        None,
    )
    assert Receipt.objects.count() == 1
    assert InstantFacilitator.calls == {}


def test_unused_and_valid_is_settled_again(unknown):
    resolve(unknown, actor="test")
    assert row().state == "settled"
    assert InstantFacilitator.calls == {"settle": 1}


def test_unused_and_over_is_expired_by_the_chains_clock(unknown, chain_says):
    with clock.shifted(timedelta(seconds=400)):
        chain_says.time = unknown.valid_before + 61
        with pytest.raises(SettlementFailed):
            resolve(unknown, actor="test")
    assert (row().state, row().outcome_unknown_at) == ("expired", None)
    assert InstantFacilitator.calls == {}


@pytest.mark.parametrize("late", [0, 60])
def test_our_clock_alone_expires_nothing(unknown, chain_says, late):
    chain_says.time = unknown.valid_before + late
    with clock.shifted(timedelta(days=30)), pytest.raises(SettlementUnknown):
        resolve(unknown, actor="test")
    assert (row().state, row().outcome_unknown_at is None) == ("settling", False)
    assert InstantFacilitator.calls == {}


def test_used_but_not_found_waits_then_fails(unknown, chain_says):
    """Cancelled, or spent elsewhere; or only our node's logs are behind."""
    chain_says.used = True
    with pytest.raises(SettlementUnknown):
        resolve(unknown, actor="test")
    assert row().state == "settling"
    chain_says.time = unknown.valid_before + 61
    with pytest.raises(SettlementFailed) as failure:
        resolve(row(), actor="test")
    assert failure.value.code == "invalid_exact_evm_nonce_already_used"
    assert row().state == "failed"
    assert InstantFacilitator.calls == {}


def test_cancelled_deep_below_fails_however_long_it_would_have_been_valid(unknown, chain_says):
    """Else a cancelled authorization that is valid for ever would be looked for, for ever."""
    chain_says.used, chain_says.used_deep, chain_says.time = True, True, 0
    with clock.shifted(timedelta(minutes=8)), pytest.raises(SettlementUnknown):
        resolve(unknown, actor="test")
    with clock.shifted(timedelta(minutes=20)):
        chain_says.used_deep, chain_says.time = False, clock.timestamp() - 1200
        with pytest.raises(SettlementUnknown):
            resolve(row(), actor="test")
        chain_says.used_deep = True
        with pytest.raises(SettlementFailed):
            resolve(row(), actor="test")
    assert (row().state, row().failure_code) == ("failed", "invalid_exact_evm_nonce_already_used")
    assert InstantFacilitator.calls == {}


def test_cancelled_in_blocks_that_are_too_quick_is_left_to_time(unknown, chain_says):
    """The endpoint that was asked for logs may be further behind than that."""
    chain_says.used, chain_says.time = True, unknown.valid_before
    with clock.shifted(timedelta(minutes=20)):
        chain_says.time = clock.timestamp() - 59
        Payment.objects.update(valid_before=2**40)
        with pytest.raises(SettlementUnknown):
            resolve(row(), actor="test")
    assert row().state == "settling"


def test_a_person_decides_where_nothing_can_be_read(chain_says, without_rpc):
    unread = stored("settling", outcome_unknown_at=ago(100), valid_before=2**40)
    transaction = "0x" + "AB" * 32
    with pytest.raises(CommandError, match="may still be sent"):
        call_command("x402_decide", unread.public_id, unpaid=True)
    with pytest.raises(CommandError, match="not a transaction"):
        call_command("x402_decide", unread.public_id, paid="5Yb2")
    call_command("x402_decide", unread.public_id, paid=transaction)
    assert (row().state, row().transaction) == ("settled", transaction.lower())
    assert Receipt.objects.get().payment == unread


def test_nobody_decides_what_the_chain_knows(unknown):
    with pytest.raises(CommandError, match="The chain decides"):
        call_command("x402_decide", unknown.public_id, paid="0x" + "ab" * 32)
    assert row().state == "settling"


def test_found_after_all_is_settled_however_late(unknown, chain_says):
    chain_says.paid()
    with clock.shifted(timedelta(days=1)):
        resolve(unknown, actor="test")
    assert row().state == "settled"


def test_an_unreadable_chain_decides_nothing(unknown, chain_says):
    chain_says.fails(RpcUnavailable())
    with pytest.raises(RpcUnavailable):
        resolve(unknown, actor="test")
    assert (row().state, row().outcome_unknown_at is None) == ("settling", False)
    assert InstantFacilitator.calls == {}


@pytest.mark.parametrize(
    "error", [FacilitatorUnavailable(), SettlementUnknown(), ValueError(), PaymentRefused()]
)
def test_silence_decides_nothing(unknown, error):
    script(error)
    with pytest.raises(SettlementUnknown):
        resolve(unknown, actor="test")
    assert row().state == "settling"
    assert row().outcome_unknown_at is not None


def test_an_untrusted_no_after_an_unknown_decides_nothing(unknown, untrusted):
    script(SettlementFailed(code="insufficient_funds"))
    with pytest.raises(SettlementUnknown):
        resolve(unknown, actor="test")
    assert row().state == "settling"


@pytest.mark.parametrize("flagged", [True, False])
@pytest.mark.parametrize(
    "error", [FacilitatorUnavailable(), SettlementFailed(code="insufficient_funds")]
)
def test_without_an_rpc_endpoint_a_dead_process_may_have_paid(
    chain_says, untrusted, without_rpc, flagged, error
):
    """It died after asking for the money; no later "no" or silence undoes that."""
    payment = stored(
        "settling", outcome_unknown_at=ago(100) if flagged else None, state_changed_at=ago(1000)
    )
    script(error)
    with pytest.raises(SettlementUnknown):
        resolve(payment, actor="test")
    assert row().state == "settling"
    assert row().outcome_unknown_at is not None
    assert chain_says.asked == []


def test_two_at_once_settle_once(unknown, chain_says):
    stale = row()
    chain_says.paid()
    resolve(unknown, actor="a")
    before = snapshot()
    with pytest.raises(SettlementUnknown):
        resolve(stale, actor="b")
    assert snapshot() == before
    assert Receipt.objects.count() == 1


# ------------------------------------------------------------------ the periodic pass


def test_confirmation_to_depth(chain_says, settings):
    from tests.settings import X402

    network = {**X402["NETWORKS"]["eip155:84532"], "CONFIRMATIONS": 3}
    settings.X402 = {**X402, "NETWORKS": {"eip155:84532": network}}
    stored("settled", state_changed_at=ago(100))
    for depth in (1, 2):
        chain_says.paid(confirmations=depth)
        confirm_pending_payments()
        assert row().state == "settled"
        Payment.objects.update(state_changed_at=ago(100))
    chain_says.paid(confirmations=3, log_index=9)

    assert confirm_pending_payments().final == 1
    assert (row().state, row().log_index) == ("final", 9)
    assert confirm_pending_payments().final == 0


def test_a_payment_just_looked_at_is_left_alone(chain_says):
    stored("settled", state_changed_at=ago(1))
    confirm_pending_payments()
    assert chain_says.asked == []


def test_a_reorganised_payment_is_reversed_then_settled_again(chain_says):
    stored("settled", state_changed_at=ago(100), delivered_at=ago(90))
    assert confirm_pending_payments().reversed == 1
    assert (row().state, row().transaction, row().log_index) == ("reversed", "", None)

    report = confirm_pending_payments()

    assert report.settled == 1
    assert row().state == "settled"
    assert row().delivered_at is not None
    assert InstantFacilitator.calls == {"settle": 1}
    assert Receipt.objects.count() == 0  # it keeps the one it had
    assert history(row()) == [
        ("settled", "reversed"),
        ("reversed", "settling"),
        ("settling", "settled"),
    ]


def test_a_payment_that_moved_to_another_block_is_followed(chain_says):
    stored("settled", state_changed_at=ago(100), transaction="0x" + "9" * 64)
    found = chain_says.paid()
    confirm_pending_payments()
    assert (row().state, row().transaction) == ("final", found.transaction)


def test_used_but_not_found_is_not_reversed(chain_says):
    stored("settled", state_changed_at=ago(100))
    chain_says.used = True
    report = confirm_pending_payments()
    assert (report.reversed, report.out_of_reach, row().state) == (0, 1, "settled")


def test_an_unreadable_chain_reverses_nothing(chain_says):
    stored("settled", state_changed_at=ago(100))
    chain_says.fails(RpcUnavailable())
    report = confirm_pending_payments()
    assert (report.reversed, report.out_of_reach, row().state) == (0, 1, "settled")


def test_a_reversed_payment_whose_time_is_over_is_not_settled_again(chain_says):
    stored("reversed", signed_payment(valid_before=soon(-500)), state_changed_at=ago(100))
    confirm_pending_payments()
    assert row().state == "reversed"
    assert InstantFacilitator.calls == {}


def test_a_dead_process_is_noticed(chain_says):
    stored("settling", state_changed_at=ago(40))
    assert confirm_pending_payments().settled == 0
    Payment.objects.update(state_changed_at=ago(60))
    chain_says.paid()
    assert confirm_pending_payments().settled == 1
    assert row().state == "settled"


def test_one_hopeless_payment_does_not_stop_the_others(chain_says):
    bad = stored("settling", outcome_unknown_at=ago(100), state_changed_at=ago(200))
    Payment.objects.filter(pk=bad.pk).update(payload={})
    stored("settling", outcome_unknown_at=ago(100), state_changed_at=ago(100))
    stored("settled", state_changed_at=ago(300), network="eip155:84532")
    worse = Payment.objects.get(state="settled")
    Payment.objects.filter(pk=worse.pk).update(requirements={})

    report = confirm_pending_payments()

    assert (report.settled, report.still_unknown, report.out_of_reach) == (1, 1, 1)


def test_a_hopeless_payment_is_not_looked_at_first_for_ever(chain_says, monkeypatch):
    """The oldest first, but what was looked at goes to the end of the queue."""
    for _ in range(3):
        stored("settling", outcome_unknown_at=ago(100), state_changed_at=ago(200))
    good = stored("settling", outcome_unknown_at=ago(100), state_changed_at=ago(100))
    chain_says.used = True  # none is found: all stay unknown
    confirm_pending_payments(limit=3)
    chain_says.used = False
    confirm_pending_payments(limit=3)
    good.refresh_from_db()
    assert good.state == "settled"


@pytest.mark.usefixtures("untrusted")
def test_a_failed_payment_that_arrives_after_all_is_owed(chain_says):
    stored("failed", failure_code="insufficient_funds")
    chain_says.paid()
    assert confirm_pending_payments().settled == 1
    assert row().state == "settled"
    assert Payment.objects.debts().count() == 1


@pytest.mark.usefixtures("untrusted")
@pytest.mark.parametrize("state", ["released", "rejected"])
def test_a_payment_that_was_let_go_and_is_used_all_the_same_is_noticed(chain_says, state):
    stored(state, failure_code="view_failed")
    chain_says.paid()
    chain_says.time = clock.timestamp() - 60
    confirm_pending_payments()
    assert Payment.objects.debts().count() == 0  # used before it came here: not for us
    chain_says.time = clock.timestamp() + 60
    confirm_pending_payments()
    assert Payment.objects.debts().count() == 1


def test_the_report_reads_as_a_line():
    assert str(confirmation.Report(settled=2, out_of_reach=1)) == (
        "settled: 2, failed: 0, final: 0, reversed: 0, still unknown: 0, out of reach: 1"
    )
