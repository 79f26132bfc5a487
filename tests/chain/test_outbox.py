"""Store before send; nonces without gaps; whatever happens in between."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models import QuerySet
from eth_account import Account
from web3.exceptions import ContractLogicError

from tests.chain import support
from tests.chain.support import (
    NETWORK,
    PRICE,
    SETTLER,
    TOKEN_ADDRESS,
    answers_forged,
    answers_lost,
    direct,
    node_down,
    sign,
    store,
)
from x402_django import clock
from x402_django.chain import broadcast, outbox
from x402_django.chain.devchain import DevChain
from x402_django.chain.fees import current_fees
from x402_django.exceptions import RpcUnavailable, SettlementFailed
from x402_django.models import ChainTransaction, SettlementWallet
from x402_django.testing.chain import new_payer, send_transaction, token_contract

pytestmark = pytest.mark.django_db(transaction=True)

ACCOUNT = Account.from_key(SETTLER.private_key)
RECIPIENT = "0x" + "77" * 20


def mint(amount: int = PRICE) -> bytes:
    call = token_contract(direct()).functions.mint(RECIPIENT, amount)
    return bytes.fromhex(call._encode_transaction_data()[2:])


def send(**changes) -> ChainTransaction:
    arguments = {"network": NETWORK, "account": ACCOUNT, "to": TOKEN_ADDRESS, "data": mint()}
    return outbox.send(**{**arguments, **changes})


def elsewhere(count: int = 1) -> None:
    """Transactions of the same key that this site knows nothing of."""
    for _ in range(count):
        send_transaction(direct(), ACCOUNT, {"to": RECIPIENT, "value": 1})


def next_nonce() -> int:
    return SettlementWallet.objects.get().next_nonce


def reload(row: ChainTransaction) -> ChainTransaction:
    return ChainTransaction.objects.get(pk=row.pk)


def test_the_row_is_committed_before_the_broadcast(chain, monkeypatch) -> None:
    seen = []
    hand_over = broadcast.hand_over

    def look_then_send(row):
        assert not transaction.get_connection().in_atomic_block
        seen.append((reload(row).status, bytes(reload(row).raw), chain.dollars(RECIPIENT)))
        return hand_over(row)

    monkeypatch.setattr(broadcast, "hand_over", look_then_send)
    row = send()
    assert seen == [("signed", row.raw, 0)]
    assert reload(row).status == "sent"
    assert chain.dollars(RECIPIENT) == PRICE


def test_inside_a_callers_transaction_nothing_is_sent(chain: DevChain) -> None:
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        send()
    assert not ChainTransaction.objects.exists()
    assert chain.dollars(RECIPIENT) == 0


def test_a_call_that_would_revert_takes_no_nonce(chain: DevChain) -> None:
    with pytest.raises(ContractLogicError):
        send(data=b"\xde\xad\xbe\xef")
    assert not SettlementWallet.objects.exists()
    send()
    with pytest.raises(ContractLogicError):
        send(data=b"\xde\xad\xbe\xef")
    assert next_nonce() == 1


def test_too_much_gas_takes_no_nonce(chain: DevChain) -> None:
    with pytest.raises(SettlementFailed) as failed:
        send(max_gas=30_000)
    assert failed.value.code == "gas_limit_exceeded"
    assert not ChainTransaction.objects.exists()


def test_a_wallet_that_was_used_before_goes_on_from_its_count(chain: DevChain) -> None:
    elsewhere(3)
    assert send().nonce == 3
    assert next_nonce() == 4


def test_a_wallet_row_created_by_another_process_is_not_used_unlocked(chain, monkeypatch) -> None:
    update = QuerySet.update

    def update_just_before_another_creates(self, **values):
        changed = update(self, **values)
        if self.model is SettlementWallet and not changed:
            SettlementWallet.objects.create(network=NETWORK, address=ACCOUNT.address, next_nonce=5)
        return changed

    monkeypatch.setattr(QuerySet, "update", update_just_before_another_creates)
    assert send().nonce == 0
    assert next_nonce() == 1


def test_a_key_used_elsewhere_meanwhile_catches_up(chain: DevChain) -> None:
    first = send()
    elsewhere(2)

    second = send()

    assert (first.nonce, second.nonce) == (0, 3)
    assert [row.status for row in ChainTransaction.objects.order_by("pk")] == [
        "sent",
        "dropped",
        "sent",
    ]
    assert next_nonce() == 4
    assert chain.dollars(RECIPIENT) == 2 * PRICE


def test_one_transaction_per_payment(chain: DevChain) -> None:
    payment = store(sign(new_payer(chain, 1)))
    first = send(payment_id=payment.pk)
    assert send(payment_id=payment.pk).pk == first.pk
    outbox.refresh(first)
    assert first.status == "mined"
    assert send(payment_id=payment.pk).pk == first.pk
    assert next_nonce() == 1
    assert chain.dollars(RECIPIENT) == PRICE


def test_without_a_node_nothing_is_stored(chain: DevChain) -> None:
    with node_down(), pytest.raises(RpcUnavailable):
        send()
    assert not ChainTransaction.objects.exists()


@pytest.mark.parametrize("trouble", [node_down, answers_lost])
def test_a_broadcast_without_an_answer_is_kept(chain, trouble) -> None:
    with trouble("eth_sendRawTransaction"):
        row = send()
    assert (row.status, row.sends) == ("signed", 1)
    assert "did not answer" in row.last_error
    assert "secret" not in row.last_error

    outbox.rebroadcast(row)
    outbox.refresh(row)
    assert reload(row).status == "mined"
    assert reload(row).last_error == ""
    assert chain.dollars(RECIPIENT) == PRICE
    assert next_nonce() == 1


def test_sending_again_what_waits_already_is_no_error(chain: DevChain) -> None:
    chain.set_automine(False)
    row = send()
    outbox.rebroadcast(row)
    assert (reload(row).status, reload(row).sends) == ("sent", 2)
    chain.mine()
    outbox.rebroadcast(row)
    assert reload(row).status == "mined"
    assert chain.dollars(RECIPIENT) == PRICE


def test_what_a_dead_process_stored_is_sent_before_the_next(chain, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "broadcast", lambda row, **how: broadcast.Verdict.UNKNOWN)
        orphan = send()
    assert (orphan.status, orphan.sends) == ("signed", 0)

    with clock.shifted(timedelta(seconds=6)):
        row = send()

    assert (orphan.nonce, row.nonce) == (0, 1)
    assert reload(orphan).status == "sent"
    assert chain.dollars(RECIPIENT) == 2 * PRICE


def test_resume_sees_to_everything_open(chain, monkeypatch) -> None:
    chain.set_automine(False)
    sent = send()
    monkeypatch.setattr(outbox, "broadcast", lambda row, **how: broadcast.Verdict.UNKNOWN)
    stored = send()
    monkeypatch.undo()
    assert outbox.resume(older_than=timedelta(minutes=1)) == 0
    assert reload(stored).sends == 0

    with clock.shifted(timedelta(minutes=2)):
        assert outbox.resume(older_than=timedelta(minutes=1)) == 2
        chain.mine()
        assert outbox.resume(older_than=timedelta(minutes=1)) == 0
    assert {reload(row).status for row in (sent, stored)} == {"mined"}
    assert chain.dollars(RECIPIENT) == 2 * PRICE

    with node_down():
        assert outbox.resume(older_than=timedelta(0)) == 0


def test_resume_goes_on_without_a_node(chain: DevChain) -> None:
    chain.set_automine(False)
    send()
    with node_down(), clock.shifted(timedelta(minutes=2)):
        assert outbox.resume(older_than=timedelta(minutes=1)) == 1
    assert ChainTransaction.objects.get().status == "sent"


def test_a_transaction_whose_nonce_was_taken_is_dropped(chain, monkeypatch) -> None:
    monkeypatch.setattr(outbox, "broadcast", lambda row, **how: broadcast.Verdict.UNKNOWN)
    row = send()
    monkeypatch.undo()
    elsewhere()
    outbox.rebroadcast(row)
    assert reload(row).status == "dropped"
    assert outbox.rebroadcast(row).status == "dropped"
    assert chain.dollars(RECIPIENT) == 0


def test_a_refused_nonce_in_the_middle_is_kept_for_later(chain, monkeypatch) -> None:
    refused = []

    def refuse_first(row, **how):
        if not refused:
            refused.append(row)
            send()  # another thread takes the next nonce meanwhile
            row.last_error = "insufficient funds"
            return broadcast.Verdict.REFUSED
        return broadcast.broadcast(row)

    monkeypatch.setattr(outbox, "broadcast", refuse_first)
    row = send()
    assert (row.nonce, reload(row).status, next_nonce()) == (0, "signed", 2)
    assert chain.dollars(RECIPIENT) == 0
    outbox.rebroadcast(row)
    assert chain.dollars(RECIPIENT) == 2 * PRICE


def test_a_refusal_of_what_may_have_been_sent_gives_nothing_back(chain, monkeypatch) -> None:
    """Another node may have it: its payment must not be taken for unsent."""
    payment = store(sign(new_payer(chain, 1)))
    with answers_lost("eth_sendRawTransaction"):
        first = send(payment_id=payment.pk)
    assert first.status == "signed"
    monkeypatch.setattr(broadcast, "hand_over", lambda row: "insufficient funds")
    again = send(payment_id=payment.pk)
    assert (again.pk, again.status, next_nonce()) == (first.pk, "signed", 1)
    assert list(again.items.values_list("status", flat=True)) == ["riding"]
    assert chain.dollars(RECIPIENT) == PRICE


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        ("already known", "SENT"),
        ("AlreadyKnown: known transaction: 0x12", "SENT"),
        ("insufficient funds for gas * price + value", "REFUSED"),
        ("max fee per gas less than block base fee", "REFUSED"),
        ("transaction underpriced", "REFUSED"),
        ("replacement transaction underpriced", "SUPERSEDED"),
        ("ReplacementNotAllowed", "SUPERSEDED"),
        ("nonce too low: next nonce 4, tx nonce 2", "SUPERSEDED"),
        ("internal error", "UNKNOWN"),
        ("no reason given", "UNKNOWN"),
    ],
)
def test_what_nodes_say(chain, monkeypatch, words, verdict) -> None:
    monkeypatch.setattr(outbox, "broadcast", lambda row, **how: broadcast.Verdict.UNKNOWN)
    row = send()
    monkeypatch.setattr(broadcast, "hand_over", lambda row: words)
    assert broadcast.broadcast(row).name == verdict


def test_a_reverted_transaction_says_so(chain: DevChain) -> None:
    row = send(data=b"\xde\xad\xbe\xef", gas_limit=100_000)
    outbox.refresh(row)
    row = reload(row)
    assert row.status == "reverted"
    assert row.gas_used > 21_000
    assert row.block_number == chain.height


def test_a_lost_block_makes_it_sent_again(chain: DevChain) -> None:
    row = outbox.refresh(send())
    assert row.status == "mined"
    chain.reorg(1)
    outbox.refresh(row)
    row = reload(row)
    assert (row.status, row.block_number, row.block_hash) == ("sent", None, "")
    outbox.rebroadcast(row)
    assert outbox.refresh(row).status == "mined"


def test_fees_cover_a_rising_base_fee(chain: DevChain) -> None:
    fees = current_fees(NETWORK)
    base_fee = direct().eth.get_block("latest")["baseFeePerGas"]
    assert fees.max_fee == 2 * base_fee + fees.priority_fee
    assert fees.as_transaction() == {
        "maxFeePerGas": fees.max_fee,
        "maxPriorityFeePerGas": fees.priority_fee,
    }


def test_chains_without_eip1559_get_a_plain_price(chain, monkeypatch) -> None:
    with answers_forged(eth_getBlockByNumber={"number": "0x1"}, eth_gasPrice="0x7"):
        fees = current_fees(NETWORK)
    assert fees.as_transaction() == {"gasPrice": 7}
    monkeypatch.setattr(
        outbox, "current_fees", lambda network: type(fees)(2 * 10**9, 2 * 10**9, legacy=True)
    )
    row = send()
    assert direct().eth.get_transaction(row.hash)["type"] == 0
    assert row.max_fee_per_gas == row.max_priority_fee_per_gas == 2 * 10**9
    assert chain.dollars(RECIPIENT) == PRICE


def test_a_payment_has_its_newest_transaction(chain: DevChain) -> None:
    payment = store(sign(new_payer(chain, 1)))
    assert outbox.transaction_for(payment.pk) is None
    row = send(payment_id=payment.pk)
    assert outbox.transaction_for(payment.pk) == row
    ChainTransaction.objects.update(status="dropped")
    assert outbox.transaction_for(payment.pk) is None
    assert support.requests["eth_sendRawTransaction"] == 1
