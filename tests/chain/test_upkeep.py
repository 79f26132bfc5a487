"""Stuck transactions, gaps in the nonces, wallets in a pool, budgets and balances."""

from __future__ import annotations

from datetime import timedelta

import pytest
from eth_account import Account

from tests.chain import support
from tests.chain.support import NETWORK, PRICE, SETTLER, direct, sign, store
from tests.settings import PAY_TO
from x402_django import clock
from x402_django.chain import outbox, upkeep
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


def test_nothing_is_filled_where_nothing_is_missing(chain: DevChain) -> None:
    pending(chain)
    assert upkeep.fill_gaps(wallet(), KEY) == []
    assert ChainTransaction.objects.count() == 1


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
    assert wallet().balance == balance
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
