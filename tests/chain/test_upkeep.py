"""Stuck transactions, gaps in the nonces, wallets in a pool, budgets and balances."""

from __future__ import annotations

from datetime import timedelta

import pytest
from eth_account import Account

from tests.chain import support
from tests.chain.support import NETWORK, PRICE, SETTLER, direct, sign, store
from tests.settings import PAY_TO
from x402_django import clock
from x402_django.chain import broadcast, outbox, upkeep
from x402_django.chain.devchain import DevChain
from x402_django.chain.devchain.accounts import dev_accounts
from x402_django.exceptions import ConfigurationError, FacilitatorUnavailable, SettlementUnknown
from x402_django.facilitators.base import build_facilitator, get_facilitator
from x402_django.models import ChainTransaction, ReplacedTransaction, SettlementWallet
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.protocol.types import Settlement
from x402_django.testing.chain import new_payer

pytestmark = pytest.mark.django_db(transaction=True)

KEY = Account.from_key(SETTLER.private_key)
LATER = timedelta(seconds=61)


def wallet() -> SettlementWallet:
    return SettlementWallet.objects.get()


def pending(chain: DevChain, count: int = 1):
    """Payments whose transaction waits for a block that does not come."""
    chain.set_automine(False)
    batch = [sign(new_payer(chain, 1)) for _ in range(count)]
    pairs = [(one, store(one)) for one in batch]
    results = get_facilitator("default").settle_many(pairs)
    assert all(isinstance(one, SettlementUnknown) for one in results)
    return pairs, ChainTransaction.objects.get()


def settle_again(pairs):
    return get_facilitator("default").settle_many(pairs)


@pytest.mark.parametrize("count", [1, 3])
def test_a_stuck_transaction_is_sent_for_a_higher_fee(chain: DevChain, count: int) -> None:
    pairs, row = pending(chain, count)
    assert upkeep.bump_stuck(wallet(), KEY) is None  # not yet

    with clock.shifted(LATER):
        bumped = upkeep.bump_stuck(wallet(), KEY)
        assert upkeep.bump_stuck(wallet(), KEY) is None  # a moment ago

    assert bumped is not None
    assert (bumped.pk, bumped.nonce, bumped.bumps) == (row.pk, row.nonce, 1)
    assert bumped.hash != row.hash
    assert bumped.max_fee_per_gas >= row.max_fee_per_gas * 9 // 8
    old = ReplacedTransaction.objects.get()
    assert (old.hash, bytes(old.raw), old.max_fee_per_gas) == (
        row.hash,
        bytes(row.raw),
        row.max_fee_per_gas,
    )
    chain.mine()
    settled = settle_again(pairs)
    assert {one.transaction for one in settled} == {bumped.hash}
    assert chain.dollars(PAY_TO) == count * PRICE
    assert ChainTransaction.objects.get().status == "mined"


def test_the_earlier_form_may_be_mined_after_all(chain: DevChain, monkeypatch) -> None:
    pairs, row = pending(chain, 2)
    monkeypatch.setattr(upkeep, "broadcast", lambda row: None)  # the node has the old one only
    with clock.shifted(LATER):
        upkeep.bump_stuck(wallet(), KEY)
    chain.mine()

    settled = settle_again(pairs)

    assert {one.transaction for one in settled} == {row.hash}
    assert chain.dollars(PAY_TO) == 2 * PRICE
    now = ChainTransaction.objects.get()
    assert (now.hash, now.status, now.max_fee_per_gas) == (row.hash, "mined", row.max_fee_per_gas)
    assert ReplacedTransaction.objects.get().hash != row.hash


def test_an_earlier_form_that_cannot_be_replaced_will_do(chain, monkeypatch) -> None:
    """The node wants a larger raise than ours: the form that it has is as good."""
    pairs, row = pending(chain, 2)
    words = "replacement transaction underpriced"
    monkeypatch.setattr(broadcast, "hand_over", lambda row: words)
    with clock.shifted(LATER):
        upkeep.bump_stuck(wallet(), KEY)
        outbox.resume(older_than=timedelta(0))
    now = ChainTransaction.objects.get()
    assert (now.status, now.bumps, now.last_error) == ("signed", 1, words)
    monkeypatch.undo()
    chain.mine()

    outbox.resume(older_than=timedelta(0))

    assert ChainTransaction.objects.get().hash == row.hash
    assert all(isinstance(one, Settlement) for one in settle_again(pairs))
    assert ChainTransaction.objects.count() == 1
    assert chain.dollars(PAY_TO) == 2 * PRICE


def test_no_more_than_the_ceiling_is_paid(chain: DevChain, settings) -> None:
    _, row = pending(chain)
    ceiling = row.max_fee_per_gas / 10**9
    settings.X402 = support.x402_settings(MAX_FEE_GWEI=str(ceiling))
    with clock.shifted(LATER):
        assert upkeep.bump_stuck(wallet(), KEY) is None
    assert ChainTransaction.objects.get().hash == row.hash


def test_above_the_ceiling_nothing_is_sent(chain: DevChain, settings) -> None:
    batch = [(one, store(one)) for one in (sign(new_payer(chain, 1)) for _ in range(2))]
    base_fee = direct().eth.get_block("latest")["baseFeePerGas"]
    settings.X402 = support.x402_settings(MAX_FEE_GWEI=(base_fee - 1) / 10**9)
    for pairs in (batch[:1], batch):
        results = get_facilitator("default").settle_many(pairs)
        assert all(isinstance(one, FacilitatorUnavailable) for one in results)
    assert not ChainTransaction.objects.exists()
    settings.X402 = support.x402_settings(MAX_FEE_GWEI=(base_fee + 1) / 10**9)
    assert isinstance(get_facilitator("default").settle(*batch[0]), Settlement)
    assert ChainTransaction.objects.get().max_fee_per_gas == base_fee + 1


def test_a_gap_is_found_and_filled(chain: DevChain) -> None:
    mined = direct().eth.get_transaction_count(SETTLER.address)
    # Another transaction had nonces 0 and 1, ours were dropped; then a reorganisation took it.
    SettlementWallet.objects.create(network=NETWORK, address=KEY.address, next_nonce=mined + 2)
    signed = sign(new_payer(chain, 1))
    pairs = [(signed, store(signed))]
    assert isinstance(settle_again(pairs)[0], SettlementUnknown)
    assert ChainTransaction.objects.get().nonce == 2

    assert upkeep.fill_gaps(wallet(), KEY) == [0, 1]

    assert direct().eth.get_transaction_count(SETTLER.address) == 3
    assert upkeep.fill_gaps(wallet(), KEY) == []
    assert isinstance(settle_again(pairs)[0], Settlement)
    assert chain.dollars(PAY_TO) == PRICE


def test_a_nonce_that_is_given_back_meanwhile_is_not_filled(chain, monkeypatch) -> None:
    """Otherwise the next transaction could never be stored."""
    count = direct().eth.get_transaction_count(SETTLER.address)
    SettlementWallet.objects.create(network=NETWORK, address=KEY.address, next_nonce=count + 1)
    estimate = upkeep.estimate_gas

    def give_back_first(*args):
        SettlementWallet.objects.update(next_nonce=count)
        return estimate(*args)

    monkeypatch.setattr(upkeep, "estimate_gas", give_back_first)
    assert upkeep.fill_gaps(wallet(), KEY) == []
    assert not ChainTransaction.objects.exists()
    signed = sign(new_payer(chain, 1))
    assert isinstance(settle_again([(signed, store(signed))])[0], Settlement)


def test_nothing_is_filled_where_nothing_is_missing(chain: DevChain) -> None:
    pending(chain)
    assert upkeep.fill_gaps(wallet(), KEY) == []
    assert ChainTransaction.objects.count() == 1


# ---------------------------------------------------------------------- reorganisations


def settled(chain: DevChain, *groups: int):
    """Payments in as many transactions, each in a block of its own, the newest of the chain."""
    pairs = [(one, store(one)) for one in (sign(new_payer(chain, 1)) for _ in range(sum(groups)))]
    left = list(pairs)
    for count in groups:
        now, left = left[:count], left[count:]
        assert all(isinstance(one, Settlement) for one in settle_again(now))
    return pairs


def test_what_a_reorganisation_drops_is_sent_again_in_order(chain: DevChain) -> None:
    """Though nobody asks for it: the payments may be final, and later nonces wait."""
    settled(chain, 2, 1)
    before = [row.block_hash for row in ChainTransaction.objects.order_by("nonce")]
    chain.reorg(2)
    chain.drop_pending()
    assert (chain.dollars(PAY_TO), direct().eth.get_transaction_count(KEY.address)) == (0, 0)

    lost = upkeep.send_lost(wallet())

    assert [row.nonce for row in lost] == [0, 1]
    assert chain.dollars(PAY_TO) == 3 * PRICE
    assert upkeep.send_lost(wallet()) == []
    assert outbox.resume(older_than=timedelta(0)) == 0
    rows = ChainTransaction.objects.order_by("nonce")
    assert [(row.status, row.sends) for row in rows] == [("mined", 2)] * 2
    assert all(a != row.block_hash for a, row in zip(before, rows, strict=True))


def test_what_a_reorganisation_moves_is_followed(chain: DevChain) -> None:
    settled(chain, 1, 1)
    chain.reorg(2, keep_transactions=True)
    assert upkeep.send_lost(wallet()) == []
    for row in ChainTransaction.objects.all():
        receipt = direct().eth.get_transaction_receipt(row.hash)
        assert (row.block_number, row.block_hash) == (
            receipt["blockNumber"],
            "0x" + receipt["blockHash"].hex(),
        )
        assert row.sends == 1


def test_a_reverted_transaction_that_is_reorganised_away_leaves_no_gap(chain: DevChain) -> None:
    signed = sign(new_payer(chain, 1))
    call = {"to": support.TOKEN_ADDRESS, "data": b"\xde\xad\xbe\xef", "gas_limit": 100_000}
    row = outbox.refresh(outbox.send(network=NETWORK, account=KEY, **call))
    assert row.status == "reverted"
    settle_again([(signed, store(signed))])
    chain.reorg(2)
    chain.drop_pending()
    assert [row.nonce for row in upkeep.send_lost(wallet())] == [0, 1]
    outbox.resume(older_than=timedelta(0))
    assert [row.status for row in ChainTransaction.objects.order_by("nonce")] == [
        "reverted",
        "mined",
    ]
    assert chain.dollars(PAY_TO) == PRICE


def test_a_filler_that_is_reorganised_away_is_sent_again(chain: DevChain) -> None:
    SettlementWallet.objects.create(network=NETWORK, address=KEY.address, next_nonce=1)
    assert upkeep.fill_gaps(wallet(), KEY) == [0]
    outbox.resume(older_than=timedelta(0))
    chain.reorg(1)
    chain.drop_pending()
    assert upkeep.fill_gaps(wallet(), KEY) == []  # it has a transaction
    assert [row.nonce for row in upkeep.send_lost(wallet())] == [0]
    assert direct().eth.get_transaction_count(KEY.address) == 1


def test_an_earlier_form_in_another_chain_is_recognised(chain: DevChain, monkeypatch) -> None:
    pairs, row = pending(chain, 2)
    raw = "0x" + bytes(row.raw).hex()
    with clock.shifted(LATER):
        bumped = upkeep.bump_stuck(wallet(), KEY)
    chain.mine()
    outbox.resume(older_than=timedelta(0))
    assert ChainTransaction.objects.get().hash == bumped.hash
    chain.reorg(1)
    chain.drop_pending()
    direct().provider.make_request("eth_sendRawTransaction", [raw])
    chain.mine()

    assert upkeep.send_lost(wallet()) == []

    now = ChainTransaction.objects.get()
    assert (now.hash, now.status, now.block_number) == (row.hash, "mined", chain.height)
    assert now.max_fee_per_gas == row.max_fee_per_gas
    assert ReplacedTransaction.objects.get().hash == bumped.hash
    assert {one.transaction for one in settle_again(pairs)} == {row.hash}
    assert chain.dollars(PAY_TO) == 2 * PRICE


def test_a_node_without_receipts_makes_nobody_send_anything(chain: DevChain) -> None:
    settled(chain, 1)
    with support.answers_forged(eth_getTransactionReceipt=None):
        assert upkeep.send_lost(wallet()) == []
    assert (ChainTransaction.objects.get().status, ChainTransaction.objects.get().sends) == (
        "mined",
        1,
    )


def test_old_transactions_are_not_asked_about(chain: DevChain) -> None:
    settled(chain, 1)
    support.requests.clear()
    assert upkeep.send_lost(wallet()) == []
    assert support.requests == {"eth_getTransactionReceipt": 1}
    with clock.shifted(timedelta(hours=1, seconds=1)):
        support.requests.clear()
        assert upkeep.send_lost(wallet()) == []
    assert support.requests == {}


# ------------------------------------------------------------------------ the periodic task


def test_a_wallet_of_a_network_that_is_gone_from_the_settings_stops_nobody(
    chain: DevChain, caplog
) -> None:
    settled(chain, 1)
    row = ChainTransaction.objects.get()
    gone = {"network": "eip155:10", "pk": None, "status": "sent"}
    for name, value in gone.items():
        setattr(row, name, value)
    row.save(force_insert=True)
    SettlementWallet.objects.create(network="eip155:10", address=KEY.address, next_nonce=1)
    pairs, _ = pending_beside(chain)
    chain.mine()

    with clock.shifted(LATER):
        confirm_pending_payments()

    assert ChainTransaction.objects.filter(network=NETWORK, status="mined").count() == 2
    assert SettlementWallet.objects.get(network=NETWORK).balance is not None
    assert "no entry for 'eip155:10'" in caplog.text
    assert all(isinstance(one, Settlement) for one in settle_again(pairs))


def pending_beside(chain: DevChain):
    chain.set_automine(False)
    signed = sign(new_payer(chain, 1))
    pairs = [(signed, store(signed))]
    (result,) = settle_again(pairs)
    assert isinstance(result, SettlementUnknown)
    return pairs, result


def test_a_node_that_hangs_is_asked_about_one_transaction_alone(chain, settings, caplog) -> None:
    settings.X402 = support.x402_settings({"GROUP_SIZE": 1})
    chain.set_automine(False)
    for _ in range(3):
        signed = sign(new_payer(chain, 1))
        settle_again([(signed, store(signed))])
    support.requests.clear()
    with support.node_down():
        assert outbox.resume(older_than=timedelta(0)) == 3
    assert support.requests.total() == 1


def test_above_the_ceiling_the_balance_is_still_watched(chain, settings) -> None:
    _, row = pending(chain)
    ceiling = direct().eth.get_block("latest")["baseFeePerGas"] - 1
    settings.X402 = support.x402_settings(
        {"LOW_BALANCE": "1000000000"}, MAX_FEE_GWEI=ceiling / 10**9
    )
    with clock.shifted(LATER):
        upkeep.keep(get_facilitator("default").keepers())
    assert (wallet().is_low, wallet().low_balance) == (True, 10**27)
    assert ChainTransaction.objects.get().hash == row.hash


def test_the_periodic_task_does_it_all(chain: DevChain, settings, caplog) -> None:
    settings.X402 = support.x402_settings({"LOW_BALANCE": "1000000000"})
    pending(chain)
    heard = []

    def hear(**facts):
        heard.append((facts["address"], facts["network"], facts["balance"], facts["minimum"]))

    upkeep.wallet_balance_low.connect(hear)
    try:
        with clock.shifted(LATER):
            confirm_pending_payments()
            confirm_pending_payments()
    finally:
        upkeep.wallet_balance_low.disconnect(hear)
    balance = direct().eth.get_balance(SETTLER.address)
    assert heard == [(KEY.address, NETWORK, balance, 10**27)]
    assert (wallet().balance, wallet().low_balance, wallet().is_low) == (balance, 10**27, True)
    assert "less than LOW_BALANCE" in caplog.text
    assert ChainTransaction.objects.get().bumps == 1
    chain.mine()
    assert outbox.resume(older_than=timedelta(0)) == 0


def test_the_least_busy_wallet_settles(chain: DevChain, settings) -> None:
    keys = [dev_accounts()[index].private_key for index in (2, 4)]
    x402 = support.x402_settings({"WALLETS": [{"KEY": key} for key in keys]})
    del x402["FACILITATORS"]["default"]["OPTIONS"]["KEY"]
    settings.X402 = x402
    chain.set_automine(False)
    for _ in range(4):
        signed = sign(new_payer(chain, 1))
        with pytest.raises(SettlementUnknown):
            get_facilitator("default").settle(signed, store(signed))
    used = ChainTransaction.objects.order_by("pk").values_list("wallet", "nonce")
    addresses = [Account.from_key(key).address for key in keys]
    assert list(used) == [(addresses[i % 2], i // 2) for i in range(4)]
    chain.mine()
    assert chain.dollars(PAY_TO) == 4 * PRICE


@pytest.mark.parametrize(
    "options",
    [
        {"LOW_BALANCE": "much", "WALLETS": [{"KEY": SETTLER.private_key}]},
        {"WALLETS": []},
        {"WALLETS": [{"KEY": "0x1", "URL": ""}]},
        {"WALLETS": [{}]},
    ],
)
def test_a_wrong_pool_is_reported(chain: DevChain, settings, options) -> None:
    x402 = support.x402_settings(options)
    del x402["FACILITATORS"]["default"]["OPTIONS"]["KEY"]
    settings.X402 = x402
    assert [one.id for one in build_facilitator("default").check()] == ["x402_django.E033"]
    with pytest.raises(ConfigurationError):
        get_facilitator("default").keepers()


def test_a_payer_has_a_budget(chain: DevChain, settings) -> None:
    settings.X402 = support.x402_settings({"GAS_PER_PAYER": 100_000})
    payer, other = new_payer(chain, 1), new_payer(chain, 1)
    get_facilitator("default").settle_many(
        [(one, store(one)) for one in (sign(payer), sign(other))]
    )
    third = sign(payer)
    pairs = [(third, store(third))]
    assert isinstance(settle_again(pairs)[0], Settlement)
    fourth = sign(payer)
    with pytest.raises(FacilitatorUnavailable):
        get_facilitator("default").settle(fourth, store(fourth))
    assert isinstance(settle_again(pairs)[0], Settlement)  # what is settled stays so
    fifth = sign(other)
    assert isinstance(get_facilitator("default").settle(fifth, store(fifth)), Settlement)
    with clock.shifted(timedelta(hours=1, seconds=1)):
        get_facilitator("default").refuse_over_budget(fourth)


def test_all_have_a_budget(chain: DevChain, settings) -> None:
    settings.X402 = support.x402_settings({"GAS_PER_HOUR": 60_000})
    first, second = sign(new_payer(chain, 1)), sign(new_payer(chain, 1))
    get_facilitator("default").settle(first, store(first))
    with pytest.raises(FacilitatorUnavailable):
        get_facilitator("default").settle(second, store(second))
    assert chain.dollars(PAY_TO) == PRICE
