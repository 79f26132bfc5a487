"""Many payments in one transaction: exact balances, one bad payment hurts nobody, kills too."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from eth_account import Account

from tests.chain import support
from tests.chain.support import (
    NETWORK,
    PRICE,
    SETTLER,
    answers_lost,
    direct,
    facilitator_body,
    node_down,
    sign,
    store,
)
from tests.settings import PAY_TO
from x402_django import clock
from x402_django.chain import groups, multicall, outbox, queue
from x402_django.chain.devchain import DevChain
from x402_django.chain.evidence import find_settlement
from x402_django.chain.rpc import get_web3
from x402_django.constants import Code
from x402_django.exceptions import (
    FacilitatorUnavailable,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.facilitators.base import get_facilitator
from x402_django.models import (
    ChainTransaction,
    ChainTransactionItem,
    Payment,
    SettlementLane,
    SettlementWallet,
)
from x402_django.protocol.types import Settlement
from x402_django.testing.chain import (
    deploy_smart_wallet,
    new_payer,
    send_transaction,
    token_contract,
)
from x402_django.testing.submission import submit_authorization

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def patient(chain: DevChain, settings) -> None:
    settings.X402 = {**support.x402_settings(), "SETTLEMENT_TIMEOUT": 20}


def settle(signed, payment=None):
    return get_facilitator("default").settle(signed, payment or store(signed))


def settle_many(batch, payments=None):
    payments = payments or [store(one) for one in batch]
    return get_facilitator("default").settle_many(list(zip(batch, payments, strict=True)))


def new_batch(chain: DevChain, count: int):
    return [sign(new_payer(chain, 1)) for _ in range(count)]


def in_threads(count, work):
    barrier = threading.Barrier(count)

    def run(item):
        try:
            barrier.wait(10)
            return work(item)
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(run, i) for i in range(count)]]


def wallet_is_in_step() -> None:
    """The database's next nonce is the chain's, and every nonce has one transaction."""
    count = direct().eth.get_transaction_count(SETTLER.address)
    assert SettlementWallet.objects.get().next_nonce == count
    rows = ChainTransaction.objects.filter(status__in=["mined", "reverted"])
    assert sorted(rows.values_list("nonce", flat=True)) == list(range(count))


def test_a_batch_is_one_transaction_and_each_payment_has_its_own_log(chain: DevChain) -> None:
    batch = new_batch(chain, 10)
    payments = [store(one) for one in batch]
    get_web3(NETWORK)
    support.requests.clear()

    settlements = settle_many(batch, payments)

    assert support.requests == {
        "eth_call": 1,  # the rehearsal
        "eth_getBlockByNumber": 1,
        "eth_maxPriorityFeePerGas": 1,
        "eth_estimateGas": 1,  # once a minute
        "eth_getTransactionCount": 1,  # a new wallet's
        "eth_sendRawTransaction": 1,
        "eth_getTransactionReceipt": 1,
    }
    row = ChainTransaction.objects.get()
    assert (row.to, row.status, row.sends, row.payments_count) == (
        multicall.MULTICALL3,
        "mined",
        1,
        10,
    )
    assert [item.payment for item in row.items.order_by("position")] == payments
    assert {item.status for item in row.items.all()} == {"riding"}
    assert [s.transaction for s in settlements] == [row.hash] * 10
    assert [s.log_index for s in settlements] == list(range(1, 20, 2))
    for signed, settlement in zip(batch, settlements, strict=True):
        assert find_settlement(signed).as_settlement() == settlement
        assert chain.dollars(signed.payer) == 990_000
    assert chain.dollars(PAY_TO) == 10 * PRICE
    wallet_is_in_step()


def test_one_payment_does_not_go_through_multicall(chain: DevChain) -> None:
    (signed,) = new_batch(chain, 1)
    settle(signed)
    assert ChainTransaction.objects.get().to == signed.offer.asset
    assert SettlementLane.objects.get().holder == ""


def test_settling_a_batch_again_changes_nothing(chain: DevChain) -> None:
    batch = new_batch(chain, 3)
    payments = [store(one) for one in batch]
    first = settle_many(batch, payments)
    assert settle_many(batch, payments) == first
    assert settle(batch[1], payments[1]) == first[1]
    assert ChainTransaction.objects.count() == 1
    assert chain.dollars(PAY_TO) == 3 * PRICE


def test_two_payments_of_one_payer_and_price_are_told_apart(chain: DevChain) -> None:
    payer = new_payer(chain, 1)
    settlements = settle_many([sign(payer), sign(payer)])
    assert [s.log_index for s in settlements] == [1, 3]
    assert chain.dollars(PAY_TO) == 2 * PRICE


def test_gas_per_payment(chain: DevChain) -> None:
    settle(sign(new_payer(chain, 1)))  # the payee's first
    settle(sign(new_payer(chain, 1)))
    single = ChainTransaction.objects.order_by("-pk").first().gas_used
    print(f"\nalone: {single} gas")
    shares = {}
    for size in (2, 8, 32, 64):
        settle_many(new_batch(chain, size))
        row = ChainTransaction.objects.order_by("-pk").first()
        assert row.payments_count == size
        shares[size] = row.gas_used / size
        print(f"{size} together: {shares[size]:.0f} gas each, {shares[size] / single:.2f}")
    assert shares[64] < shares[32] < shares[8] < shares[2] < single
    assert shares[64] < 0.75 * single


# ------------------------------------------------------------------ one bad payment


def test_bad_payments_among_good_ones_hurt_nobody(chain: DevChain) -> None:
    poor = sign(new_payer(chain, 0.009999))
    late = sign(new_payer(chain, 1), valid_before=1_000_000)
    used = sign(new_payer(chain, 1))
    submit_authorization(direct(), facilitator_body(used))
    wallet = deploy_smart_wallet(direct(), (owner := Account.create()).address)
    chain.mint(wallet, PRICE)
    contract = sign(owner, payer=wallet)
    good = new_batch(chain, 5)
    batch = [good[0], poor, good[1], late, good[2], used, good[3], contract, good[4]]

    results = settle_many(batch)

    group = ChainTransaction.objects.get(to=multicall.MULTICALL3)
    assert [r.transaction for r in results[::2]] == [group.hash] * 5
    assert group.payments_count == 5
    assert isinstance(results[1], SettlementFailed)
    assert results[1].code == Code.INSUFFICIENT_FUNDS
    assert isinstance(results[3], SettlementFailed)
    assert results[3].code == Code.INVALID_VALID_BEFORE
    assert isinstance(results[5], SettlementUnknown)  # used by somebody else: the chain tells
    assert isinstance(results[7], Settlement)
    assert results[7].transaction != group.hash
    assert chain.dollars(PAY_TO) == 7 * PRICE
    assert ChainTransaction.objects.filter(status="mined").count() == 2
    wallet_is_in_step()


def test_a_payment_gone_bad_after_the_simulation_is_judged_by_itself(chain, monkeypatch) -> None:
    thief = new_payer(chain, 1, wei=10**18)
    batch = [sign(thief), *new_batch(chain, 3)]
    attempt = outbox.attempt

    def empty_the_account_first(*args, **kwargs):
        monkeypatch.undo()
        data = token_contract(direct()).functions.transfer(SETTLER.address, 1_000_000)
        call = {"to": batch[0].offer.asset, "data": data._encode_transaction_data(), "value": 0}
        send_transaction(direct(), thief, call)
        return attempt(*args, **kwargs)

    monkeypatch.setattr(outbox, "attempt", empty_the_account_first)
    results = settle_many(batch)

    assert isinstance(results[0], SettlementFailed)
    assert all(isinstance(one, Settlement) for one in results[1:])
    row = ChainTransaction.objects.get()
    assert [item.status for item in row.items.order_by("position")] == ["missed"] + ["riding"] * 3
    assert chain.dollars(PAY_TO) == 3 * PRICE


def test_a_group_that_runs_out_of_gas_is_settled_one_by_one(chain, monkeypatch) -> None:
    batch = new_batch(chain, 4)
    monkeypatch.setattr(groups, "_gas_limit", lambda *args: 60_000)
    results = settle_many(batch)
    assert all(isinstance(one, Settlement) for one in results)
    group = ChainTransaction.objects.get(to=multicall.MULTICALL3)
    assert {item.status for item in group.items.all()} == {"missed"}
    assert chain.dollars(PAY_TO) == 4 * PRICE
    assert ChainTransaction.objects.count() == 5
    wallet_is_in_step()


def test_without_multicall_each_goes_by_itself(chain, monkeypatch) -> None:
    monkeypatch.setattr(multicall, "MULTICALL3", "0x" + "ab" * 20)
    results = settle_many(new_batch(chain, 3))
    assert all(isinstance(one, Settlement) for one in results)
    assert ChainTransaction.objects.count() == 3
    assert chain.dollars(PAY_TO) == 3 * PRICE


@pytest.mark.parametrize("options", [{"GROUP_SIZE": 4}, {"GROUP_MAX_GAS": 400_000}])
def test_groups_are_bounded(chain, settings, options) -> None:
    settings.X402 = {**support.x402_settings(options), "SETTLEMENT_TIMEOUT": 20}
    results = settle_many(new_batch(chain, 10))
    assert all(isinstance(one, Settlement) for one in results)
    assert chain.dollars(PAY_TO) == 10 * PRICE
    rows = ChainTransaction.objects.all()
    assert len(rows) > 1
    for row in rows:
        assert row.payments_count <= options.get("GROUP_SIZE", 10)
        assert row.gas_limit <= options.get("GROUP_MAX_GAS", 6_000_000)
    wallet_is_in_step()


# ----------------------------------------------------------------------- concurrency


def test_32_at_once_settle_in_few_transactions(chain: DevChain) -> None:
    batch = new_batch(chain, 32)
    payments = [store(one) for one in batch]

    settlements = in_threads(32, lambda i: settle(batch[i], payments[i]))

    assert all(isinstance(one, Settlement) for one in settlements)
    assert chain.dollars(PAY_TO) == 32 * PRICE
    assert {chain.dollars(one.payer) for one in batch} == {990_000}
    assert len({(s.transaction, s.log_index) for s in settlements}) == 32
    transactions = ChainTransaction.objects.count()
    print(f"\n32 payments in {transactions} transactions")
    assert transactions <= 8
    wallet_is_in_step()


def test_32_at_once_on_a_chain_with_slow_blocks(chain: DevChain) -> None:
    chain.set_automine(False)
    batch = new_batch(chain, 32)
    payments = [store(one) for one in batch]
    stop = threading.Event()

    def mine() -> None:
        while not stop.wait(0.5):
            chain.mine()

    miner = threading.Thread(target=mine)
    miner.start()
    try:
        settlements = in_threads(32, lambda i: settle(batch[i], payments[i]))
    finally:
        stop.set()
        miner.join()

    assert all(isinstance(one, Settlement) for one in settlements)
    assert chain.dollars(PAY_TO) == 32 * PRICE
    assert ChainTransaction.objects.count() <= 8
    wallet_is_in_step()


def test_bad_ones_among_32_at_once(chain: DevChain) -> None:
    batch = new_batch(chain, 32)
    for index in (3, 17, 30):
        batch[index] = sign(new_payer(chain, 0.001))
    payments = [store(one) for one in batch]

    results = in_threads(32, lambda i: settle(batch[i], payments[i]))

    failed = [i for i, result in enumerate(results) if isinstance(result, SettlementFailed)]
    assert failed == [3, 17, 30]
    assert sum(isinstance(one, Settlement) for one in results) == 29
    assert chain.dollars(PAY_TO) == 29 * PRICE
    wallet_is_in_step()


# ---------------------------------------------------------------------- node trouble


def test_without_a_node_nothing_is_sent(chain: DevChain) -> None:
    batch = new_batch(chain, 3)
    with node_down():
        results = settle_many(batch)
    assert all(isinstance(one, FacilitatorUnavailable) for one in results)
    assert not ChainTransaction.objects.exists()
    assert not ChainTransactionItem.objects.exists()


def test_lost_answers_are_unknown_and_settle_once(chain, settings) -> None:
    settings.X402 = support.x402_settings()
    batch = new_batch(chain, 3)
    payments = [store(one) for one in batch]
    with answers_lost("eth_sendRawTransaction"), node_down("eth_getTransactionReceipt"):
        results = settle_many(batch, payments)
    row = ChainTransaction.objects.get()
    assert row.status == "signed"
    assert all(isinstance(one, SettlementUnknown) for one in results)
    assert {one.transaction for one in results} == {row.hash}
    assert all(isinstance(one, Settlement) for one in settle_many(batch, payments))
    assert chain.dollars(PAY_TO) == 3 * PRICE
    assert ChainTransaction.objects.get().status == "mined"


def test_a_wallet_without_gas_money_is_unavailable(chain, settings) -> None:
    poor = Account.create()
    settings.X402 = support.x402_settings({"KEY": "0x" + bytes(poor.key).hex()})
    batch = new_batch(chain, 3)
    payments = [store(one) for one in batch]
    results = settle_many(batch, payments)
    assert all(isinstance(one, FacilitatorUnavailable) for one in results)
    assert {item.status for item in ChainTransactionItem.objects.all()} == {"dropped"}
    chain.fund(poor.address, 10**18)
    assert all(isinstance(one, Settlement) for one in settle_many(batch, payments))
    assert chain.dollars(PAY_TO) == 3 * PRICE


def test_a_wallet_used_elsewhere_meanwhile_catches_up(chain: DevChain) -> None:
    settle(sign(new_payer(chain, 1)))
    key = Account.from_key(SETTLER.private_key)
    send_transaction(direct(), key, {"to": "0x" + "77" * 20, "value": 1})
    results = settle_many(new_batch(chain, 3))
    assert all(isinstance(one, Settlement) for one in results)
    assert chain.dollars(PAY_TO) == 4 * PRICE
    assert SettlementWallet.objects.get().next_nonce == 3


def test_a_reorganised_group_is_sent_again(chain: DevChain) -> None:
    batch = new_batch(chain, 3)
    payments = [store(one) for one in batch]
    first = settle_many(batch, payments)
    chain.reorg(1)
    assert chain.dollars(PAY_TO) == 0
    second = settle_many(batch, payments)
    assert {s.transaction for s in second} == {s.transaction for s in first}
    assert chain.dollars(PAY_TO) == 3 * PRICE


# ------------------------------------------------------------------------- the queue


def hold_lane(**shift) -> None:
    """Another process leads."""
    SettlementLane.objects.update_or_create(
        network=NETWORK,
        facilitator="default",
        defaults={
            "holder": "another process",
            "held_until": clock.now() + timedelta(seconds=60),
            **shift,
        },
    )


def test_while_another_leads_a_payment_waits_and_is_taken_back_in_time(chain, settings) -> None:
    settings.X402 = support.x402_settings()
    hold_lane()
    with pytest.raises(FacilitatorUnavailable):
        settle(sign(new_payer(chain, 1)))
    assert not ChainTransactionItem.objects.exists()
    assert not ChainTransaction.objects.exists()


def test_a_lease_that_is_over_is_taken(chain: DevChain) -> None:
    hold_lane(held_until=clock.now() - timedelta(seconds=1))
    assert isinstance(settle(sign(new_payer(chain, 1))), Settlement)


def test_a_leader_takes_those_of_other_processes(chain: DevChain) -> None:
    batch = new_batch(chain, 4)
    payments = [store(one) for one in batch]
    queue.enqueue(NETWORK, "default", [one.pk for one in payments[1:]])
    decided = store(sign(new_payer(chain, 1)))
    queue.enqueue(NETWORK, "default", [decided.pk])
    Payment.objects.filter(pk=decided.pk).update(state="released")

    settle(batch[0], payments[0])

    row = ChainTransaction.objects.get()
    assert {item.payment_id for item in row.items.all()} == {one.pk for one in payments}
    assert chain.dollars(PAY_TO) == 4 * PRICE
    assert all(isinstance(one, Settlement) for one in settle_many(batch, payments))
    assert ChainTransaction.objects.count() == 1


def test_those_of_others_that_would_fail_are_left_to_them(chain: DevChain) -> None:
    good, other = new_batch(chain, 2)
    poor = sign(new_payer(chain, 0))
    payments = {name: store(one) for name, one in (("other", other), ("poor", poor))}
    queue.enqueue(NETWORK, "default", [one.pk for one in payments.values()])
    settle(good)
    assert queue.places([payments["poor"].pk])[payments["poor"].pk].status == "alone"
    with pytest.raises(SettlementFailed):
        settle(poor, payments["poor"])
    assert queue.places([payments["poor"].pk]) == {}
    assert chain.dollars(PAY_TO) == 2 * PRICE


def test_one_that_is_taken_back_at_the_last_moment_does_not_ride(chain, monkeypatch) -> None:
    mine, theirs, third = new_batch(chain, 3)
    payment = store(theirs)
    queue.enqueue(NETWORK, "default", [payment.pk, store(third).pk])
    attempt = outbox.attempt

    def take_back_first(*args, **kwargs):
        monkeypatch.undo()
        assert queue.withdraw(payment.pk)
        return attempt(*args, **kwargs)

    monkeypatch.setattr(outbox, "attempt", take_back_first)
    settle(mine)
    assert chain.dollars(PAY_TO) == 2 * PRICE
    assert chain.dollars(theirs.payer) == 1_000_000


def test_nothing_is_released_while_it_rides(chain: DevChain) -> None:
    batch = new_batch(chain, 2)
    payments = [store(one) for one in batch]
    chain.set_automine(False)
    facilitator = get_facilitator("default")
    departure = facilitator.send_group(
        NETWORK,
        [groups.Rider(p.pk, one) for p, one in zip(payments, batch, strict=True)],
    )
    assert departure.row.status == "sent"
    assert not queue.withdraw(payments[0].pk)
    with node_down():
        results = facilitator.settle_many(list(zip(batch, payments, strict=True)))
    assert all(isinstance(one, SettlementUnknown) for one in results)


# ----------------------------------------------------------------------------- kills


class Killed(BaseException):
    """As SIGKILL, as far as Python can."""


#: (where, what): the leader dies before or after it.
POINTS = [
    (queue, "take_lane"),
    (queue, "waiting"),
    (groups, "ask_each"),
    (groups, "_gas_limit"),
    (outbox, "store"),
    (outbox, "broadcast"),
    (groups, "look_once"),
    (groups, "judge"),
    (queue, "leave_lane"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("module", "name"), POINTS, ids=[name for _, name in POINTS])
def test_a_leader_killed_anywhere_loses_and_doubles_nothing(
    chain, monkeypatch, module, name, after
) -> None:
    batch = new_batch(chain, 6)
    payments = [store(one) for one in batch]
    original = getattr(module, name)
    killed = []

    queue.enqueue(NETWORK, "default", [payments[5].pk])  # so that there is a group at once

    def work(index):
        try:
            return settle(batch[index], payments[index])
        except Killed as error:
            return error

    with monkeypatch.context() as patch:
        patch.setattr(module, name, _once(original, after, killed))
        results = in_threads(5, work)
    assert len(killed) == 1
    assert sum(isinstance(one, Killed) for one in results) == 1
    assert all(isinstance(one, Settlement | Killed) for one in results), results

    # The payer of the one that was killed comes again.
    with clock.shifted(timedelta(seconds=30)):
        again = settle_many(batch, payments)
    assert all(isinstance(one, Settlement) for one in again), again
    assert chain.dollars(PAY_TO) == 6 * PRICE
    assert {chain.dollars(one.payer) for one in batch} == {990_000}
    assert SettlementLane.objects.get().network == NETWORK
    wallet_is_in_step()


def _once(original, after, killed):
    lock = threading.Lock()

    def die_once(*args, **kwargs):
        with lock:
            mine = not killed
            killed[:] = killed or [True]
        if mine and not after:
            raise Killed
        result = original(*args, **kwargs)
        if mine:
            raise Killed
        return result

    return die_once
