"""What becomes of a proven transfer when the chain, the node or this process misbehaves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.chain.support import NETWORK, direct, node_down
from tests.http.proving import Agent, proof_settings, send_many
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django import clock
from x402_django.models import Payment, PaymentEvent, Receipt
from x402_django.payments import recording, transfer_claims, transfers
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.maintenance import release_stale_claims
from x402_django.testing.chain import dev_chain, reset_dev_chains
from x402_django.testing.payer import Payer, PayingClient
from x402_django.testing.transfers import transfer_data

pytestmark = pytest.mark.django_db(transaction=True)

PRICE = 10_000


@pytest.fixture
def chain(settings):
    reset_dev_chains()
    settings.X402 = proof_settings()
    yield dev_chain(NETWORK)
    reset_dev_chains()


@pytest.fixture
def agent(chain) -> Agent:
    return Agent(chain)


def signed_transfer(agent: Agent, challenge: dict[str, Any], **changes: Any) -> bytes:
    """The transfer as a raw transaction, to be sent more than once."""
    transaction = {
        **transfer_data(direct(), challenge),
        "nonce": direct().eth.get_transaction_count(agent.account.address),
        "gas": 100_000, "chainId": 1337,
        "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9,
        **changes,
    }  # fmt: skip
    return bytes(agent.account.sign_transaction(transaction).raw_transaction)


def submit(raw: bytes) -> str:
    """Send a raw transaction; its hash."""
    return "0x" + bytes(direct().eth.send_raw_transaction(raw)).hex()


def waiting(chain: Any, agent: Agent, challenge: dict[str, Any], **changes: Any) -> str:
    """Send the transfer to a node that does not mine it; its hash."""
    chain.set_automine(False)
    return submit(signed_transfer(agent, challenge, **changes))


def state() -> str:
    return Payment.objects.get().state


def codes(response: Any) -> tuple[int, str]:
    return (response.status_code, response.json()["error"])


# ------------------------------------------------------------------- confirmation


def test_a_reorganisation_reverses_what_was_settled(chain, agent):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    assert agent.present(challenge, transaction).status_code == 200
    chain.reorg(1)
    assert str(confirm_pending_payments()).startswith(
        "settled: 0, failed: 0, final: 0, reversed: 1"
    )
    payment = Payment.objects.get()
    assert (payment.state, payment.log_index, payment.block_hash) == ("reversed", None, "")
    assert payment.transaction == transaction
    assert codes(agent.present(challenge, transaction)) == (402, "payment_pending")


def test_mined_again_it_counts_again(chain, agent):
    challenge = agent.challenge()
    raw = signed_transfer(agent, challenge)
    transaction = submit(raw)
    bought = agent.present(challenge, transaction)
    chain.reorg(1)
    confirm_pending_payments()
    assert state() == "reversed"
    submit(raw)
    with clock.shifted(timedelta(hours=5)):  # long after the challenge's end
        confirm_pending_payments()
    payment = Payment.objects.get()
    assert payment.state in ("settled", "final")
    receipt = direct().eth.get_transaction_receipt(transaction)
    assert payment.block_number == receipt["blockNumber"]
    again = agent.present(challenge, transaction)
    assert (again.content, runs["weather"], Receipt.objects.count()) == (bought.content, 1, 1)


def test_moved_to_another_block_it_is_followed(chain, agent, settings):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    assert agent.present(challenge, transaction).status_code == 200
    before = Payment.objects.get()
    settings.X402 = proof_settings(confirmations=9)
    chain.reorg(1, keep_transactions=True)
    confirm_pending_payments()
    after = Payment.objects.get()
    assert after.state == "settled"
    assert after.block_hash != before.block_hash
    block = direct().eth.get_block(after.block_number)
    assert after.block_hash == "0x" + bytes(block["hash"]).hex()
    chain.mine(9)
    confirm_pending_payments()
    assert state() == "final"


def test_a_paid_log_under_an_old_number_is_not_given_to_another(chain, agent):
    first, second = agent.challenge(), agent.challenge("/hidden/")
    transaction = agent.send(first)
    assert agent.present(first, transaction).status_code == 200
    chain.reorg(1, keep_transactions=True)
    # As if its number had changed: the ledger's is of a block that is gone.
    Payment.objects.update(log_index=7)
    assert codes(agent.present(second, transaction, "/hidden/")) == (402, "payment_pending")
    confirm_pending_payments()
    assert Payment.objects.get().log_index == 0
    assert codes(agent.present(second, transaction, "/hidden/")) == (402, "payment_already_used")
    assert (runs["hidden"], Payment.objects.count()) == (0, 1)


def test_a_reversed_one_keeps_its_transaction_from_others(chain, agent):
    first, second = agent.challenge(), agent.challenge("/hidden/")
    raw = signed_transfer(agent, first)
    transaction = submit(raw)
    assert agent.present(first, transaction).status_code == 200
    chain.reorg(1)
    confirm_pending_payments()
    submit(raw)
    assert codes(agent.present(second, transaction, "/hidden/")) == (402, "payment_pending")
    confirm_pending_payments()
    assert codes(agent.present(second, transaction, "/hidden/")) == (402, "payment_already_used")


def test_a_node_that_is_behind_reverses_nothing(chain, agent):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    assert agent.present(challenge, transaction).status_code == 200
    Payment.objects.update(block_number=chain.height + 5, transaction="0x" + "ee" * 32)
    payment = Payment.objects.get()
    payment.payload["txHash"] = "0x" + "ee" * 32
    payment.save(update_fields=["payload"])
    confirm_pending_payments()
    assert state() == "settled"


def test_while_the_node_is_down_nothing_changes(chain, agent, settings):
    settings.X402 = proof_settings(confirmations=2)
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    assert codes(agent.present(challenge, transaction)) == (402, "payment_pending")
    with node_down():
        assert confirm_pending_payments().out_of_reach == 1
        assert agent.present(challenge, transaction).status_code == 503
    assert state() == "settling"
    chain.mine(1)
    assert confirm_pending_payments().settled == 1


# ------------------------------------------------------------------- pending


def test_a_pending_row_that_reverts_fails(chain, agent):
    challenge = agent.challenge()
    transaction = waiting(chain, agent, challenge, gas=30_000)  # too little gas
    assert codes(agent.present(challenge, transaction)) == (402, "payment_pending")
    chain.mine(1)
    assert confirm_pending_payments().failed == 1
    payment = Payment.objects.get()
    assert (payment.state, payment.failure_code) == ("failed", "invalid_transaction_state")
    assert codes(agent.present(challenge, transaction)) == (402, "invalid_transaction_state")
    assert not runs


def test_a_pending_row_that_pays_somebody_else_fails(chain, agent):
    challenge = agent.challenge()
    call = transfer_data(direct(), challenge, to="0x000000000000000000000000000000000000dEaD")
    transaction = waiting(chain, agent, challenge, data=call["data"])
    assert codes(agent.present(challenge, transaction)) == (402, "payment_pending")
    chain.mine(1)
    assert codes(agent.present(challenge, transaction)) == (402, "transfer_not_found")
    assert state() == "failed"


def test_somebody_elses_pending_transaction_leaves_no_row(chain, agent):
    challenge = agent.challenge()
    transaction = waiting(chain, agent, challenge)
    thief = Agent(chain)
    chain.set_automine(False)
    response = thief.present(thief.challenge(), transaction)
    assert codes(response) == (402, "payment_pending")
    assert "status" not in response.json()
    assert not Payment.objects.exists()


def test_a_replaced_transaction_is_let_go_and_the_replacement_pays(chain, agent):
    challenge = agent.challenge()
    slow = waiting(chain, agent, challenge)
    assert codes(agent.present(challenge, slow)) == (402, "payment_pending")
    fast = waiting(chain, agent, challenge, maxFeePerGas=10**11, maxPriorityFeePerGas=10**10)
    chain.mine(1)
    assert agent.present(challenge, fast).status_code == 200
    with clock.shifted(timedelta(seconds=119)):
        confirm_pending_payments()
        assert Payment.objects.get(transaction=slow).state == "settling"
    with clock.shifted(timedelta(seconds=121)):
        confirm_pending_payments()
    payment = Payment.objects.get(transaction=slow)
    assert (payment.state, payment.failure_code) == ("released", "transfer_not_found")
    assert (runs["weather"], Receipt.objects.count()) == (1, 1)


def test_what_was_let_go_may_come_back(chain, agent):
    challenge = agent.challenge()
    chain.set_automine(False)
    raw = signed_transfer(agent, challenge)
    transaction = submit(raw)
    agent.present(challenge, transaction)
    chain.drop_pending()
    with clock.shifted(timedelta(seconds=121)):
        confirm_pending_payments()
        assert state() == "released"
        assert codes(agent.present(challenge, transaction)) == (402, "payment_pending")
        assert state() == "released"
        submit(raw)
        assert codes(agent.present(challenge, transaction)) == (402, "payment_pending")
        assert state() == "settling"
        chain.mine(1)
        assert agent.present(challenge, transaction).status_code == 200
    assert (Payment.objects.count(), Receipt.objects.count()) == (1, 1)


def test_a_lost_block_is_waited_for(chain, agent, settings):
    settings.X402 = proof_settings(confirmations=2)
    challenge = agent.challenge()
    raw = signed_transfer(agent, challenge)
    transaction = submit(raw)
    agent.present(challenge, transaction)
    chain.reorg(1)
    assert confirm_pending_payments().still_unknown == 1
    submit(raw)
    chain.mine(1)
    assert confirm_pending_payments().settled == 1
    assert agent.present(challenge, transaction).status_code == 200


def test_two_pending_proofs_of_one_transfer_buy_one_thing(chain, agent):
    first, second = agent.challenge(), agent.challenge("/hidden/")
    transaction = waiting(chain, agent, first)
    assert codes(agent.present(first, transaction)) == (402, "payment_pending")
    assert codes(agent.present(second, transaction, "/hidden/")) == (402, "payment_pending")
    assert Payment.objects.count() == 2
    chain.mine(1)
    report = confirm_pending_payments()
    assert (report.settled, report.failed) == (1, 1)
    assert sorted(Payment.objects.values_list("state", flat=True)) == ["failed", "final"]
    answers = [agent.present(first, transaction), agent.present(second, transaction, "/hidden/")]
    assert sorted(answer.status_code for answer in answers) == [200, 402]
    assert (runs.total(), Receipt.objects.count()) == (1, 1)


def test_an_authorization_for_the_same_request_is_served_by_the_pending_transfer(
    chain, agent, settings
):
    """Double-pay protection reaches across the two ways of paying."""
    settings.X402 = proof_settings(confirmations=2)
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    agent.present(challenge, transaction)
    buyer = PayingClient(payer=Payer(agent.account))
    assert buyer.pay("GET", "/weather/").status_code == 503  # never 402: it is paid already
    chain.mine(1)
    response = buyer.get("/weather/", headers=buyer.last_headers)
    assert (response.status_code, runs["weather"]) == (200, 1)
    assert chain.dollars(PAY_TO) == PRICE
    assert Receipt.objects.get().transaction == transaction


# ------------------------------------------------------------------- kills


class Killed(BaseException):
    """The process dies here."""


def test_killed_after_the_claim(chain, agent, monkeypatch):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    with monkeypatch.context() as patch:
        patch.setattr(transfer_claims, "begin", _die)
        with pytest.raises(Killed):
            agent.present(challenge, transaction)
    assert state() == "claimed"
    assert agent.present(challenge, transaction).status_code == 200
    assert (runs["weather"], Receipt.objects.count()) == (1, 1)


def test_killed_after_the_claim_and_given_up_on(chain, agent, monkeypatch):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    with monkeypatch.context() as patch:
        patch.setattr(transfer_claims, "begin", _die)
        with pytest.raises(Killed):
            agent.present(challenge, transaction)
    with clock.shifted(timedelta(seconds=1000)):
        assert release_stale_claims() == 1
    assert state() == "released"
    assert agent.present(challenge, transaction).status_code == 200
    assert (runs["weather"], Receipt.objects.count()) == (1, 1)


def test_killed_before_it_is_settled(chain, agent, monkeypatch):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    with monkeypatch.context() as patch:
        patch.setattr(transfers, "mark_settled", _die)
        with pytest.raises(Killed):
            agent.present(challenge, transaction)
    assert state() == "settling"
    assert confirm_pending_payments().settled == 1
    assert agent.present(challenge, transaction).status_code == 200
    assert (runs["weather"], Receipt.objects.count()) == (1, 1)


def test_the_receipt_is_written_with_the_settlement(chain, agent, monkeypatch):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    with monkeypatch.context() as patch:
        patch.setattr(recording, "receipt_of", _die)
        with pytest.raises(Killed):
            agent.present(challenge, transaction)
    assert (state(), Receipt.objects.count()) == ("settling", 0)
    assert agent.present(challenge, transaction).status_code == 200
    assert Receipt.objects.count() == 1


def _die(*args: Any, **kwargs: Any) -> None:
    raise Killed


def test_history_says_what_happened(chain, agent, settings):
    settings.X402 = proof_settings(confirmations=2)
    challenge = agent.challenge()
    transaction = send_many(agent.account, [(PAY_TO, PRICE)])
    agent.present(challenge, transaction)
    chain.mine(1)
    confirm_pending_payments()
    events = PaymentEvent.objects.values_list("from_state", "to_state", "actor")
    assert list(events) == [
        ("claimed", "verified", "request"),
        ("verified", "settling", "request"),
        ("settling", "settled", "confirmation"),
        ("settled", "final", "confirmation"),
    ]
