"""Transfers that wait for their depth, in the scan: what it asks, and what it concludes."""

from __future__ import annotations

import secrets
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.chain import support
from tests.chain.scripted import ScriptedNode
from tests.chain.support import NETWORK, direct, facilitator_body, sign
from tests.http.proving import Agent, proof_settings
from tests.payments.support import ago, history, offer, unsaved
from tests.settings import PAY_TO
from x402_django import clock
from x402_django.chain.devchain.artifacts import load_artifact
from x402_django.chain.devchain.deployment import MULTICALL3_ADDRESS, TOKEN_ADDRESS
from x402_django.models import Payment, Receipt, ScannedBlock
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.protocol.types import SignedPayment
from x402_django.testing.chain import (
    deploy_smart_wallet,
    dev_chain,
    reset_dev_chains,
    send_transaction,
    token_contract,
)
from x402_django.testing.submission import transfer_call
from x402_django.testing.transfers import transfer_data

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
PAYER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
PRICE = 10_000


def configure(settings: Any, **network: Any) -> None:
    network = {"PROVIDER": "tests.chain.scripted.provider", **network}
    settings.X402 = {**support.x402_settings(**network), "CONFIRMATION_INTERVAL": 0}


@pytest.fixture
def node(settings) -> ScriptedNode:
    configure(settings, CONFIRMATIONS=3)
    return ScriptedNode()


def unsaved_proof(transaction: str, **changes: Any) -> Payment:
    """A row as a proof leaves it that was presented before its transaction was mined."""
    nonce = "t:" + secrets.token_hex(32)
    signed = SignedPayment(
        offer(network=NETWORK, asset=TOKEN), PAYER, 0, 2**40, nonce, bytes(65), "https://shop/", 2
    )
    proof = {"txHash": transaction, "chainId": 1337, "challengeId": "c", "signature": None}
    values = {
        "scheme": "transfer", "state": "settling", "flow": "upfront", "facilitator": "",
        "transaction": transaction, "payload": {**proof, "issuedAt": 0},
        "state_changed_at": ago(100), "created_at": ago(200), "outcome_unknown_at": ago(100),
    }  # fmt: skip
    return unsaved(signed, **{**values, **changes})


def proofs(count: int, **changes: Any) -> list[Payment]:
    rows = [unsaved_proof("0x" + secrets.token_hex(32), **changes) for _ in range(count)]
    return Payment.objects.bulk_create(rows, batch_size=500)


def mine(node: ScriptedNode, rows: list[Payment], blocks: list[int]) -> None:
    """One transaction for each row, spread over ``blocks``."""
    for position, row in enumerate(rows):
        number = blocks[position % len(blocks)]
        node.transfer(number, row.transaction, TOKEN.lower(), (row.payer, row.pay_to, row.amount))


# ------------------------------------------------------------------- what it costs


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_the_cost_of_confirming_pending_transfers_is_that_of_the_blocks(node, count) -> None:
    rows = proofs(count)
    mine(node, rows, list(range(79, 99)))

    report = confirm_pending_payments()

    assert (report.settled, report.final, report.still_unknown) == (count, count, 0)
    assert Payment.objects.filter(state="final").count() == Receipt.objects.count() == count
    # As for authorizations, and the times of the twenty blocks, in one batch with the newest.
    assert node.calls == {"eth_chainId": 1, "eth_getBlockByNumber": 3 + 21, "eth_getLogs": 2}
    assert node.requests == 5


def test_the_whole_way_to_depth(node, settings) -> None:
    """Met when new, left alone on the way, read once more when deep enough."""
    configure(settings, CONFIRMATIONS=12)
    rows = proofs(100)
    mine(node, rows, list(range(91, 101)))
    seen = []
    total: Counter[str] = Counter()
    for height in (100, 101, 103, 111):
        node.head = height
        node.forget_counts()
        report = confirm_pending_payments()
        total += node.calls
        seen.append((report.settled, report.final, node.requests))
    assert seen == [(0, 0, 5), (0, 0, 2), (20, 20, 4), (80, 80, 4)]
    assert total["eth_getTransactionByHash"] == total["eth_getTransactionReceipt"] == 0


def test_waiting_for_blocks_costs_a_question_for_the_newest(node, settings) -> None:
    configure(settings, CONFIRMATIONS=12)
    mine(node, proofs(100), [100])
    confirm_pending_payments()
    node.forget_counts()
    report = confirm_pending_payments()
    assert (node.requests, node.calls) == (1, {"eth_getBlockByNumber": 2})
    assert (report.settled, report.still_unknown, report.out_of_reach) == (0, 0, 0)


def test_what_is_not_mined_is_asked_for_by_the_hundred(node) -> None:
    rows = proofs(300)
    node.pending = {row.transaction for row in rows}
    report = confirm_pending_payments()
    assert (report.still_unknown, report.settled, report.failed) == (300, 0, 0)
    assert node.calls["eth_getTransactionByHash"] == 300
    assert node.calls["eth_getTransactionReceipt"] == 0
    assert node.requests == 6  # chain, head, logs, and three times a hundred
    assert set(Payment.objects.values_list("state", flat=True)) == {"settling"}


def test_a_run_asks_for_so_many_and_the_next_for_others(node) -> None:
    rows = proofs(5)
    node.pending = {row.transaction for row in rows}
    asked = []
    for _ in range(3):
        node.forget_counts()
        confirm_pending_payments(limit=2)
        asked.append(node.calls["eth_getTransactionByHash"])
    assert asked == [2, 2, 2]
    assert Payment.objects.filter(state_changed_at__lt=ago(50)).count() == 0


# ------------------------------------------------------------------- what it concludes


def test_a_transfer_before_its_challenge_is_not_settled_by_the_scan(node) -> None:
    """Blocks of this node are as many seconds old as they have a number."""
    old = proofs(1)[0]
    old.payload["issuedAt"] = 95 + 16
    young = proofs(1)[0]
    young.payload["issuedAt"] = 95 + 15
    Payment.objects.bulk_update([old, young], ["payload"])
    mine(node, [old, young], [95])
    confirm_pending_payments()
    old.refresh_from_db()
    young.refresh_from_db()
    assert (old.state, young.state) == ("failed", "final")


@pytest.mark.parametrize(
    ("sender", "payee", "token", "amount"),
    [
        ("0x" + "11" * 20, PAY_TO, TOKEN, PRICE),
        (PAYER, "0x" + "11" * 20, TOKEN, PRICE),
        (PAYER, PAY_TO, "0x" + "11" * 20, PRICE),
        (PAYER, PAY_TO, TOKEN, PRICE - 1),
    ],
)
def test_another_transfer_in_its_transaction_settles_nothing(
    node, sender, payee, token, amount
) -> None:
    row = proofs(1)[0]
    node.transfer(95, row.transaction, token.lower(), (sender, payee, amount))
    node.transfer(95, "0x" + "ee" * 32, TOKEN.lower(), (PAYER, PAY_TO, PRICE))
    confirm_pending_payments()
    row.refresh_from_db()
    assert (row.state, Receipt.objects.count()) == ("failed", 0)


@pytest.mark.parametrize("scheme", ["exact", "upto"])
def test_what_a_proxy_moved_settles_no_proof(node, scheme) -> None:
    """It is a payment by Permit2, here or at another site of the payee's (threat 25)."""
    stolen, honest = proofs(2)
    mine(node, [stolen, honest], [95])
    node.close(95, stolen.transaction, scheme)
    for _ in range(2):
        confirm_pending_payments()
    stolen.refresh_from_db()
    honest.refresh_from_db()
    assert (stolen.state, honest.state) == ("failed", "final")
    assert Receipt.objects.get().payment == honest


def test_more_than_was_asked_is_booked(node) -> None:
    row = proofs(1)[0]
    node.transfer(95, row.transaction, TOKEN.lower(), (PAYER, PAY_TO, 25_000))
    assert confirm_pending_payments().final == 1
    row.refresh_from_db()
    assert (row.amount, Receipt.objects.get().amount) == (25_000, 25_000)


def test_two_payments_of_one_transaction_have_a_log_each(node) -> None:
    transaction = "0x" + secrets.token_hex(32)
    rows = Payment.objects.bulk_create([unsaved_proof(transaction) for _ in range(3)])
    node.transfer(
        95, transaction, TOKEN.lower(),
        (PAYER, PAY_TO, 30_000), (PAYER, PAY_TO, 5), (PAYER, PAY_TO, PRICE),
    )  # fmt: skip
    report = confirm_pending_payments()
    assert (report.settled, report.final) == (2, 2)
    for row in rows:
        row.refresh_from_db()
    assert [row.log_index for row in rows] == [2, 0, None]
    assert [row.amount for row in rows[:2]] == [PRICE, 30_000]
    assert rows[2].state != "final"


@pytest.mark.parametrize(("usd", "depth"), [("0.01", 1), ("10", 3), ("1000", 12), (None, 12)])
def test_the_depth_grows_with_the_amount(node, settings, usd, depth) -> None:
    configure(settings, CONFIRMATIONS=[(0, 1), (Decimal("10"), 3), (1000, 12)])
    price = None if usd is None else Decimal(usd)
    mine(node, proofs(2, price_usd=price), [100])
    for height in range(100, 112):
        node.head = height
        assert confirm_pending_payments().settled == (2 if height == 99 + depth else 0)
    assert Payment.objects.first().events.get(to_state="final").reason == (
        f"{depth} confirmations."
    )


def test_a_tag_of_the_chain_as_depth(node, settings) -> None:
    configure(settings, CONFIRMATIONS="finalized")
    mine(node, proofs(2), [100])
    node.head = 200
    for stands in (None, 60, 99):
        node.tags = {"finalized": stands}
        assert confirm_pending_payments().settled == 0
    node.tags = {"finalized": 100}
    report = confirm_pending_payments()
    assert (report.settled, report.final) == (2, 2)


def test_logs_with_new_numbers_in_another_block_are_followed(node, settings) -> None:
    """Two settled transfers of one transaction, each where the other's neighbour was."""
    configure(settings, CONFIRMATIONS=50)
    transaction = "0x" + secrets.token_hex(32)
    now = clock.now()
    rows = [
        unsaved_proof(
            transaction, state="settled", settled_at=now, amount=amount,
            block_number=95, block_hash=node.hash_of(95), log_index=index,
        )
        for index, amount in enumerate((PRICE, 20_000))
    ]  # fmt: skip
    Payment.objects.bulk_create(rows)
    confirm_pending_payments()  # and the cursor is at the head
    node.fork, node.fork_from = "b", 94
    node.transfer(95, "0x" + "ee" * 32, TOKEN.lower(), (PAYER, PAY_TO, 1))
    paid = [(PAYER, PAY_TO, row.amount) for row in rows]
    node.transfer(95, transaction, TOKEN.lower(), *paid)
    ScannedBlock.objects.all().delete()
    confirm_pending_payments()
    assert list(Payment.objects.order_by("pk").values_list("state", "log_index", "block_hash")) == [
        ("settled", 1, node.hash_of(95)),
        ("settled", 2, node.hash_of(95)),
    ]


# ------------------------------------------------------------------- on an EVM


@pytest.fixture
def chain(settings):
    reset_dev_chains()
    settings.X402 = proof_settings(confirmations=3)
    support.requests.clear()
    yield dev_chain(NETWORK)
    reset_dev_chains()


@pytest.fixture
def agent(chain) -> Agent:
    return Agent(chain)


def test_the_scan_brings_a_pending_transfer_to_its_depth(chain, agent) -> None:
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    assert agent.present(challenge, transaction).json()["error"] == "payment_pending"
    support.requests.clear()
    for _ in range(2):
        confirm_pending_payments()
        chain.mine(1)
    report = confirm_pending_payments()
    assert (report.settled, report.final) == (1, 1)
    asked_alone = ("eth_getTransactionReceipt", "eth_getTransactionByHash", "eth_getBlockByHash")
    assert [support.requests[method] for method in asked_alone] == [0, 0, 0]
    assert history(Payment.objects.get()) == [
        ("claimed", "verified"),
        ("verified", "settling"),
        ("settling", "settled"),
        ("settled", "final"),
    ]


def test_a_pending_transfer_is_followed_to_another_block(chain, agent) -> None:
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    agent.present(challenge, transaction)
    confirm_pending_payments()
    before = Payment.objects.get()
    chain.reorg(1, keep_transactions=True)
    support.requests.clear()
    confirm_pending_payments()
    after = Payment.objects.get()
    assert after.state == "settling"
    assert after.block_hash != before.block_hash
    home = direct().eth.get_transaction_receipt(transaction)["blockHash"]
    assert after.block_hash == "0x" + bytes(home).hex()
    chain.mine(2)
    assert confirm_pending_payments().final == 1


def test_mined_where_the_scan_has_passed_it_is_found_all_the_same(chain, agent) -> None:
    """It was presented to a node that did not know the block yet."""
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    agent.present(challenge, transaction)
    chain.mine(3)
    place = {"block_number": None, "block_hash": "", "log_index": None}
    Payment.objects.update(**place)
    newest = direct().eth.get_block("latest")
    ScannedBlock.objects.create(
        network=NETWORK, number=newest["number"], hash="0x" + bytes(newest["hash"]).hex()
    )
    assert confirm_pending_payments().settled == 1
    assert agent.present(challenge, transaction).status_code == 200


def test_beside_an_authorization_of_the_same_sender_the_receipt_decides(chain, agent) -> None:
    """One transaction settles an authorization of the agent and makes its own transfer."""
    challenge = agent.challenge()
    w3, account = direct(), agent.account
    token = token_contract(w3)
    approval = token.encode_abi("approve", [MULTICALL3_ADDRESS, PRICE])
    send_transaction(w3, account, {"to": token.address, "data": approval})
    settling = transfer_call(w3, facilitator_body(sign(account)))
    calls = [
        (settling["to"], False, settling["data"]),
        (TOKEN_ADDRESS, False, token.encode_abi("transferFrom", [account.address, PAY_TO, PRICE])),
    ]
    multicall = w3.eth.contract(address=MULTICALL3_ADDRESS, abi=load_artifact("Multicall3").abi)
    data = multicall.encode_abi("aggregate3", [calls])
    receipt = send_transaction(w3, account, {"to": MULTICALL3_ADDRESS, "data": data})
    assert receipt["status"] == 1
    transaction = "0x" + bytes(receipt["transactionHash"]).hex()
    assert agent.present(challenge, transaction).json()["error"] == "payment_pending"
    own = receipt["logs"][-1]["logIndex"]
    assert Payment.objects.get().log_index == own
    chain.mine(2)
    confirm_pending_payments()
    payment = Payment.objects.get()
    assert (payment.state, payment.log_index, payment.amount) == ("final", own, PRICE)


def test_dropped_from_its_block_it_is_waited_for_as_from_the_start(chain, agent) -> None:
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    agent.present(challenge, transaction)
    with clock.shifted(timedelta(minutes=30)):
        chain.reorg(1)
        confirm_pending_payments()
        payment = Payment.objects.get()
        assert (payment.state, payment.block_number, payment.log_index) == ("settling", None, None)
    with clock.shifted(timedelta(minutes=31)):
        confirm_pending_payments()
        assert Payment.objects.get().state == "settling"
    with clock.shifted(timedelta(minutes=33)):
        confirm_pending_payments()
        assert Payment.objects.get().state == "released"
    assert transaction == Payment.objects.get().transaction


def test_a_paid_one_without_a_number_keeps_its_transaction_from_others(chain, agent) -> None:
    """After a reorganisation that gave the logs of a block other numbers."""
    first, second = agent.challenge(), agent.challenge("/hidden/")
    transaction = agent.send(first)
    chain.mine(3)
    assert agent.present(first, transaction).status_code == 200
    Payment.objects.update(log_index=None)
    response = agent.present(second, transaction, "/hidden/")
    assert (response.status_code, response.json()["error"]) == (402, "payment_pending")
    confirm_pending_payments()
    assert Payment.objects.get().log_index == 0
    response = agent.present(second, transaction, "/hidden/")
    assert (response.status_code, response.json()["error"]) == (402, "payment_already_used")


def test_a_contract_wallet_that_is_presented_before_it_is_mined(chain, agent) -> None:
    """Its owner, who sends the transaction, is taken for the payer until the logs are there."""
    challenge = agent.challenge()
    w3 = direct()
    wallet = deploy_smart_wallet(w3, agent.address)
    chain.mint(wallet, 10**6)
    call = transfer_data(w3, challenge)
    contract = w3.eth.contract(address=wallet, abi=load_artifact("SmartWallet").abi)
    chain.set_automine(False)
    raw = agent.account.sign_transaction(
        {
            "to": wallet, "value": 0, "gas": 300_000, "chainId": 1337,
            "data": contract.encode_abi("execute", [call["to"], 0, call["data"]]),
            "nonce": w3.eth.get_transaction_count(agent.account.address),
            "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9,
        }
    )  # fmt: skip
    transaction = "0x" + bytes(w3.eth.send_raw_transaction(raw.raw_transaction)).hex()
    assert agent.present(challenge, transaction).json()["error"] == "payment_pending"
    assert Payment.objects.get().payer == agent.address
    chain.mine(3)
    assert confirm_pending_payments().settled == 1
    payment = Payment.objects.get()
    assert (payment.payer, payment.amount, Receipt.objects.get().payer) == (wallet, PRICE, wallet)
    response = agent.present(challenge, transaction)
    assert (response.status_code, response.json()["payer"]) == (200, wallet)
