"""Transfers stand in the same ledger as authorizations: what handles those leaves them alone.

Each of these takes a row that carries no authorization to where authorizations are read, in the
very state that is looked for there.
"""

from __future__ import annotations

import io
import logging
from typing import Any

import pytest
from django.core.management import call_command

from tests.chain.support import NETWORK, direct, facilitator_body, sign, store
from tests.http.proving import Agent, proof_settings
from tests.payments.support import ago, facts
from x402_django import tasks
from x402_django.chain import queue
from x402_django.models import ChainTransactionItem, Payment, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.deferred import settle_deferred
from x402_django.payments.known import claim_known
from x402_django.payments.maintenance import release_stale_claims
from x402_django.protocol.transfer_methods import Terms
from x402_django.protocol.types import PresentedPayment, SignedPayment
from x402_django.testing.chain import dev_chain, reset_dev_chains
from x402_django.testing.submission import submit_authorization

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def chain(settings):
    reset_dev_chains()
    settings.X402 = proof_settings(confirmations=3)
    yield dev_chain(NETWORK)
    reset_dev_chains()


@pytest.fixture
def agent(chain) -> Agent:
    return Agent(chain)


@pytest.fixture
def transfer(chain, agent) -> Payment:
    """A transfer that is mined and not deep enough."""
    challenge = agent.challenge()
    agent.present(challenge, agent.send(challenge))
    payment = Payment.objects.get()
    assert (payment.scheme, payment.state) == ("transfer", "settling")
    return payment


def change(payment: Payment, **fields: Any) -> dict[str, Any]:
    """Its row afterwards."""
    Payment.objects.filter(pk=payment.pk).update(**fields)
    return row(payment)


def row(payment: Payment) -> dict[str, Any]:
    return Payment.objects.filter(pk=payment.pk).values().get()


def authorized(chain: Any, **fields: Any) -> tuple[SignedPayment, Payment]:
    """An authorization beside it, in some state."""
    payer = Agent(chain).account
    signed = sign(payer)
    payment = store(signed)
    change(payment, **fields)
    return signed, payment


def test_deferred_batches(chain, transfer):
    verified = {
        "state": "verified", "flow": "deferred", "facilitator": "default",
        "state_changed_at": ago(100), "delivered_at": ago(100),
    }  # fmt: skip
    before = change(transfer, **verified)
    _, owed = authorized(chain, **verified)
    assert str(settle_deferred()) == "settled: 1, failed: 0, unknown: 0, waiting: 0"
    assert row(transfer) == before
    assert row(owed)["state"] == "settled"


def test_the_queue_of_a_group(chain, transfer):
    _, other = authorized(chain, state="settling")
    for payment in (transfer, other):
        ChainTransactionItem.objects.create(
            payment=payment, network=NETWORK, facilitator="default", created_at=ago(1)
        )
    assert queue.waiting(NETWORK, "default", limit=10, besides=()) == [other]


def test_what_was_let_go(chain, transfer, settings):
    facilitators = {
        "default": {
            "BACKEND": "x402_django.facilitators.RemoteFacilitator",
            "OPTIONS": {"URL": "http://127.0.0.1:9"},
        }
    }
    settings.X402 = {**proof_settings(), "FACILITATORS": facilitators}
    let_go = {"state": "released", "facilitator": "default", "valid_before": 2**40}
    before = change(transfer, **let_go)
    signed, other = authorized(chain, **let_go, created_at=ago(5))
    submit_authorization(direct(), facilitator_body(signed))
    confirm_pending_payments()
    assert row(transfer) == before
    assert row(other)["state"] in ("settled", "final")


def test_the_logs_of_an_authorization_with_its_nonce(chain, agent, transfer):
    """The signer of an authorization chooses its nonce."""
    signed = sign(agent.account)
    change(transfer, nonce=signed.nonce, log_index=None, block_number=None, block_hash="",
           transaction="0x" + "ee" * 32, state_changed_at=ago(100))  # fmt: skip
    submit_authorization(direct(), facilitator_body(signed))
    confirm_pending_payments()
    assert (row(transfer)["state"], Receipt.objects.count()) == ("settling", 0)


def test_a_payment_that_is_not_payable_any_more(agent, transfer):
    signed = sign(agent.account)
    change(transfer, nonce=signed.nonce, state="settled", settled_at=ago(1))
    terms = Terms(
        payer=agent.address, to=signed.offer.pay_to,
        value=1, valid_after=0, valid_before=1, nonce=signed.nonce, signature=bytes(65),
    )  # fmt: skip
    presented = PresentedPayment(
        version=2, scheme="exact", accepted=None, network=NETWORK,
        transfer_method="eip3009", terms=terms,
    )  # fmt: skip
    assert claim_known(presented, facts()) is None


def test_no_authorization_can_have_its_nonce(transfer):
    assert (transfer.nonce[:2], len(transfer.nonce)) == ("t:", 66)


def test_claims_of_the_dead(transfer):
    change(transfer, state="claimed", state_changed_at=ago(10_000))
    assert release_stale_claims() == 1
    assert row(transfer)["state"] == "released"


def test_the_scan_and_the_look_one_by_one(chain, agent, transfer):
    """With an authorization of unknown outcome, and a settled one that is not where it was."""
    change(transfer, state_changed_at=ago(100))
    unknown = {"state": "settling", "outcome_unknown_at": ago(100), "state_changed_at": ago(100)}
    signed, other = authorized(chain, **unknown)
    submit_authorization(direct(), facilitator_body(signed))
    lost, gone = authorized(chain, **unknown)
    submit_authorization(direct(), facilitator_body(lost))
    assert confirm_pending_payments().settled == 3
    change(gone, block_hash="0x" + "11" * 32, state_changed_at=ago(100))
    chain.mine(3)
    confirm_pending_payments()
    assert [row(one)["state"] for one in (transfer, other, gone)] == ["final"] * 3


@pytest.mark.parametrize("state", Payment.State.values)
def test_every_task_and_command_with_a_transfer_in_any_state(chain, transfer, state, caplog):
    """Nothing breaks, and nothing takes it for an authorization."""
    change(
        transfer, state=state, facilitator="default", state_changed_at=ago(10_000),
        settled_at=ago(10_000), delivered_at=ago(10_000), outcome_unknown_at=ago(10_000),
    )  # fmt: skip
    chain.mine(3)
    caplog.set_level(logging.WARNING)
    for task in (
        tasks.settle_deferred,
        tasks.release_stale_claims,
        tasks.confirm_pending_payments,
        tasks.confirm_pending_payments,
    ):
        assert task.apply().successful()
    for command in ("x402_settle", "x402_confirm", "x402_release"):
        call_command(command, stdout=io.StringIO(), stderr=io.StringIO())
    call_command("x402_wallets", stdout=io.StringIO(), stderr=io.StringIO())
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    moves = {"settling": "final", "settled": "final", "reversed": "final"}
    assert row(transfer)["state"] == moves.get(state, state)
