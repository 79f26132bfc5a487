"""What was sent and came to nothing may come to something yet, until it is deep enough."""

from __future__ import annotations

import pytest
from eth_account import Account

from tests.chain import support
from tests.chain.support import PRICE, SETTLER, direct, node_down, sign, store
from tests.settings import PAY_TO
from x402_django.chain import outbox, upkeep
from x402_django.chain.devchain import DevChain
from x402_django.exceptions import FacilitatorUnavailable, SettlementFailed, SettlementUnknown
from x402_django.facilitators.base import get_facilitator
from x402_django.models import ChainTransaction, SettlementWallet
from x402_django.protocol.types import Settlement
from x402_django.testing.chain import new_payer, send_transaction, token_contract

pytestmark = pytest.mark.django_db(transaction=True)

KEY = Account.from_key(SETTLER.private_key)


@pytest.fixture(autouse=True)
def three_deep(chain: DevChain, settings) -> None:
    settings.X402 = support.x402_settings(CONFIRMATIONS=3)


def settle_many(pairs):
    return get_facilitator("default").settle_many(pairs)


def move_the_money_away(payer) -> None:
    data = token_contract(direct()).functions.transfer(SETTLER.address, 1_000_000)
    call = {"to": token_contract(direct()).address, "data": data._encode_transaction_data()}
    send_transaction(direct(), payer, {**call, "value": 0})


@pytest.fixture
def emptied(chain: DevChain, monkeypatch):
    """Payments of which the first one's money is gone when they have been simulated."""
    attempt = outbox.attempt

    def emptied(count: int):
        thief = new_payer(chain, 1, wei=10**18)
        batch = [sign(thief), *(sign(new_payer(chain, 1)) for _ in range(count - 1))]

        def empty_first(*args, **kwargs):
            monkeypatch.setattr(outbox, "attempt", attempt)
            move_the_money_away(thief)
            return attempt(*args, **kwargs)

        monkeypatch.setattr(outbox, "attempt", empty_first)
        pairs = [(one, store(one)) for one in batch]
        return pairs, settle_many(pairs)

    return emptied


@pytest.mark.parametrize("count", [1, 3])
def test_a_failure_is_none_while_a_reorganisation_could_undo_it(chain, emptied, count) -> None:
    pairs, results = emptied(count)
    assert isinstance(results[0], SettlementUnknown)
    assert all(isinstance(one, Settlement) for one in results[1:])
    chain.mine()
    assert isinstance(settle_many(pairs[:1])[0], SettlementUnknown)
    chain.mine()
    assert isinstance(settle_many(pairs[:1])[0], SettlementFailed)
    assert chain.dollars(PAY_TO) == (count - 1) * PRICE


@pytest.mark.parametrize("count", [1, 3])
def test_a_payment_that_failed_is_paid_by_the_same_transaction_after_all(
    chain, emptied, count
) -> None:
    pairs, results = emptied(count)
    assert isinstance(results[0], SettlementUnknown)

    chain.reorg(2)  # and the money was never moved away

    assert chain.dollars(PAY_TO) == 0
    again = settle_many(pairs)
    assert all(isinstance(one, Settlement) for one in again), again
    assert {one.transaction for one in again} == {ChainTransaction.objects.get().hash}
    assert chain.dollars(PAY_TO) == count * PRICE


def test_a_transaction_that_a_reorganisation_took_does_not_hold_up_the_next_ones(
    chain, emptied
) -> None:
    """Nobody waits for it any more: its payment has failed, and its nonce is free again."""
    emptied(1)
    lost = ChainTransaction.objects.get()
    assert (lost.status, lost.nonce) == ("reverted", 0)
    chain.reorg(1)
    signed = sign(new_payer(chain, 1))
    assert isinstance(settle_many([(signed, payment := store(signed))])[0], SettlementUnknown)

    assert upkeep.send_lost(SettlementWallet.objects.get()) == [lost]

    assert direct().eth.get_transaction_count(SETTLER.address) == 2
    assert isinstance(settle_many([(signed, payment)])[0], Settlement)
    lost.refresh_from_db()
    assert lost.status == "sent"
    outbox.refresh(lost)
    assert lost.status == "reverted"


def test_a_filled_gap_is_filled_again(chain: DevChain) -> None:
    SettlementWallet.objects.create(network=support.NETWORK, address=KEY.address, next_nonce=1)
    wallet = SettlementWallet.objects.get()
    assert upkeep.fill_gaps(wallet, KEY) == [0]
    outbox.refresh(ChainTransaction.objects.get())
    chain.reorg(1)
    assert direct().eth.get_transaction_count(SETTLER.address) == 0
    (filling,) = upkeep.send_lost(wallet)
    assert (filling.nonce, filling.to) == (0, KEY.address)
    assert direct().eth.get_transaction_count(SETTLER.address) == 1
    assert upkeep.fill_gaps(wallet, KEY) == []


def superseded(chain: DevChain):
    """A payment whose transaction was sent, and whose nonce another one has used."""
    signed = sign(new_payer(chain, 1))
    payment = store(signed)
    chain.set_automine(False)
    assert isinstance(settle_many([(signed, payment)])[0], SettlementUnknown)
    row = ChainTransaction.objects.get()
    assert chain.drop_pending() == 1
    chain.set_automine(True)
    send_transaction(direct(), KEY, {"to": "0x" + "77" * 20, "value": 1})
    outbox.rebroadcast(row)
    assert row.status == "dropped"
    return signed, payment


def test_what_was_sent_once_is_not_said_to_be_unsent(chain: DevChain, settings) -> None:
    signed, payment = superseded(chain)
    settings.X402 = support.x402_settings(CONFIRMATIONS=3, MAX_FEE_GWEI="0.000000001")
    assert isinstance(settle_many([(signed, payment)])[0], SettlementUnknown)
    with node_down():
        assert isinstance(settle_many([(signed, payment)])[0], SettlementUnknown)
    chain.mine(2)
    assert isinstance(settle_many([(signed, payment)])[0], FacilitatorUnavailable)
    assert chain.dollars(PAY_TO) == 0
