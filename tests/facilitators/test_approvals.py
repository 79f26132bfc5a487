"""Payers without gas whose approval of Permit2 is a transaction that we send and pay for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from tests.chain.approvals import GAS, penniless, sign_approval, sign_sponsored
from tests.chain.permits import STRANGER
from tests.chain.support import NETWORK, PRICE, SETTLER, direct, store, x402_settings
from tests.settings import PAY_TO
from x402_django import clock
from x402_django.chain import approvals, broadcast, outbox
from x402_django.chain.devchain.deployment import PLAIN_TOKEN_ADDRESS
from x402_django.constants import PERMIT2_ADDRESS
from x402_django.exceptions import (
    FacilitatorUnavailable,
    PaymentRefused,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.facilitators import permit2
from x402_django.facilitators.base import get_facilitator
from x402_django.models import ChainTransaction, ChainTransactionItem, Payment
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.protocol.sponsoring import Sponsorship
from x402_django.testing.chain import (
    dev_chain,
    new_payer,
    reset_dev_chains,
    send_transaction,
    token_contract,
)

pytestmark = pytest.mark.django_db(transaction=True)


class Killed(BaseException):
    """What a process does not survive."""


@pytest.fixture
def chain(settings):
    reset_dev_chains()
    settings.X402 = {
        **x402_settings({"MAX_APPROVAL_COST": 10**16}),
        "SETTLEMENT_TIMEOUT": 2,
        "CONFIRMATION_INTERVAL": 0,
    }
    yield dev_chain(NETWORK)
    reset_dev_chains()


def settle(signed, payment=None):
    return get_facilitator("default").settle(signed, payment or store(signed))


def dollars(address: str) -> int:
    token = token_contract(direct(), PLAIN_TOKEN_ADDRESS)
    return int(token.functions.balanceOf(address).call())


def sent() -> list[tuple[str, str, bool]]:
    """Who sent what to whom, and whether money went along."""
    rows = ChainTransaction.objects.order_by("pk")
    return [(row.wallet, row.to, row.value > 0) for row in rows]


def steps(payer: str) -> list[tuple[str, str, bool]]:
    """The three transactions of one payment, as they are stored."""
    proxy = "0x402085c248EeA27D92E8b30b2C58ed07f9E20001"
    return [
        (payer, PLAIN_TOKEN_ADDRESS, False),
        (SETTLER.address, payer, True),
        (SETTLER.address, proxy, False),
    ]


def test_gas_approval_and_payment_all_go_through_the_outbox(chain) -> None:
    payer = penniless()
    signed = sign_sponsored(payer)
    get_facilitator("default").verify(signed)
    assert (sent(), direct().eth.get_balance(payer.address)) == ([], 0)
    payment = store(signed)

    settlement = settle(signed, payment)

    assert (dollars(PAY_TO), dollars(payer.address)) == (PRICE, 1_000_000 - PRICE)
    assert sent() == steps(payer.address)
    approval, gift, settling = ChainTransaction.objects.order_by("pk")
    assert (approval.status, gift.status, settling.status) == ("mined",) * 3
    assert [approval.prepares, gift.prepares] == [payment, payment]
    assert settling.hash == settlement.transaction
    assert gift.value == GAS * approval.max_fee_per_gas
    used = approval.gas_used * approval.effective_gas_price
    assert direct().eth.get_balance(payer.address) == gift.value - used

    settle(sign_sponsored(payer))  # the approval holds: it is not sent, nor paid for, again
    assert (ChainTransaction.objects.count(), dollars(PAY_TO)) == (4, 2 * PRICE)


def test_t20_no_gas_is_given_for_a_payment_whose_money_has_left(chain) -> None:
    payer = penniless(PRICE)
    token = token_contract(direct(), PLAIN_TOKEN_ADDRESS)
    send_transaction(direct(), STRANGER, {"to": payer.address, "value": 10**16})
    approve = token.encode_abi("approve", [STRANGER.address, PRICE])
    send_transaction(direct(), payer, {"to": token.address, "data": approve, "gas": 60_000})
    signed = sign_sponsored(payer)
    get_facilitator("default").verify(signed)
    take = token.encode_abi("transferFrom", [payer.address, STRANGER.address, PRICE])
    send_transaction(direct(), STRANGER, {"to": token.address, "data": take, "gas": 100_000})
    with pytest.raises(SettlementFailed) as failure:
        settle(signed)
    assert failure.value.code == "insufficient_funds"
    assert (sent(), dollars(PAY_TO)) == ([], 0)


def test_what_somebody_else_has_submitted_is_not_taken_for_a_failure(chain, monkeypatch) -> None:
    """The money has left the payer because it has come to us."""
    signed = sign_sponsored(penniless(PRICE))
    payment = store(signed)
    settle(signed, payment)
    monkeypatch.setattr(approvals, "allowance", lambda of: 0)  # it was of just the amount
    rows = ChainTransaction.objects.count()
    with pytest.raises(SettlementUnknown):
        permit2.prepare(
            get_facilitator("default"), signed, SETTLER, payment_id=payment.pk, deadline=0
        )
    assert (dollars(PAY_TO), ChainTransaction.objects.count()) == (PRICE, rows)


def test_t20_what_is_given_in_an_hour_is_limited(chain, settings) -> None:
    first, second = sign_sponsored(penniless()), sign_sponsored(penniless())
    settle(first)
    given = ChainTransaction.objects.get(to=first.payer).value
    options = {"MAX_APPROVAL_COST": 10**16, "MAX_GIFTS_PER_HOUR": given}
    settings.X402 = {**settings.X402, **x402_settings(options)}
    payment = store(second)
    with pytest.raises(FacilitatorUnavailable):
        settle(second, payment)
    assert direct().eth.get_balance(second.payer) == 0
    with clock.shifted(timedelta(hours=1, seconds=1)):
        settle(second, payment)
    assert dollars(PAY_TO) == 2 * PRICE


def test_a_payer_with_some_gas_gets_what_is_lacking(chain) -> None:
    payer = penniless()
    send_transaction(direct(), STRANGER, {"to": payer.address, "value": 1000})
    signed = sign_sponsored(payer)
    settle(signed)
    gift = ChainTransaction.objects.get(to=payer.address)
    approval = ChainTransaction.objects.get(wallet=payer.address)
    assert gift.value == GAS * approval.max_fee_per_gas - 1000


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"gas": 500_001}, "erc20_approval_too_expensive"),
        ({"maxFeePerGas": 10**16 // GAS + 1}, "erc20_approval_too_expensive"),
        ({"maxFeePerGas": 1}, "erc20_approval_fee_too_low"),
        ({"nonce": 1}, "erc20_approval_nonce_mismatch"),
        ({"gas": 30_000}, "erc20_approval_tx_failed"),
    ],
)
def test_what_would_not_be_mined_or_costs_too_much_is_not_paid_for(chain, changes, code) -> None:
    payer = penniless()
    signed = sign_sponsored(payer)
    info = sign_approval(payer, **changes)
    signed = replace(signed, sponsorship=replace(signed.sponsorship, info=info))
    with pytest.raises(PaymentRefused) as refusal:
        get_facilitator("default").verify(signed)
    with pytest.raises(SettlementFailed) as failure:
        settle(signed)
    assert (refusal.value.code, failure.value.code) == (code, code)
    assert (sent(), direct().eth.get_balance(payer.address)) == ([], 0)


def test_nothing_is_paid_for_whose_payment_would_fail(chain) -> None:
    poor = penniless(PRICE - 1)
    with pytest.raises(PaymentRefused) as refusal:
        get_facilitator("default").verify(sign_sponsored(poor))
    assert refusal.value.code == "insufficient_funds"
    forged = replace(sign_sponsored(penniless()), signature=bytes(65))
    with pytest.raises(PaymentRefused):
        get_facilitator("default").verify(forged)
    assert sent() == []


def test_a_gift_that_is_spent_on_something_else_buys_nothing(chain, monkeypatch) -> None:
    payer = penniless()
    signed = sign_sponsored(payer)
    send = approvals._send

    def spend_first(row, deadline):
        send_transaction(direct(), payer, {"to": PAY_TO, "value": 1, "gas": 21_000})
        send(row, deadline)

    monkeypatch.setattr(approvals, "_send", spend_first)
    payment = store(signed)
    for _ in range(2):
        with pytest.raises(SettlementFailed) as failure:
            settle(signed, payment)
    assert failure.value.code in ("erc20_approval_tx_failed", "erc20_approval_nonce_mismatch")
    assert sent() == steps(payer.address)[:2]
    assert (dollars(PAY_TO), ChainTransactionItem.objects.count()) == (0, 0)


# ------------------------------------------------------------------ deaths


def die(*args: Any, **kwargs: Any) -> None:
    raise Killed


@pytest.mark.parametrize(
    ("module", "name", "at"),
    [
        (approvals, "_give_gas", 1),  # the approval is stored
        (outbox, "broadcast", 1),  # the gift is stored
        (outbox, "await_receipt", 1),  # the gift is sent
        (approvals, "broadcast", 1),  # the gift is mined
        (broadcast, "_note", 2),  # the approval is sent
        (approvals, "missing", 2),  # the approval is mined
    ],
)
def test_whoever_comes_after_a_death_goes_on_from_there(
    chain, monkeypatch, module, name, at
) -> None:
    payer = penniless()
    signed = sign_sponsored(payer)
    payment = store(signed)
    original, calls = getattr(module, name), [0]

    def until_then(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        return die() if calls[0] == at else original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, until_then)
        with pytest.raises(Killed):
            settle(signed, payment)
    assert dollars(PAY_TO) == 0

    monkeypatch.setattr(outbox, "ORPHANED", timedelta(0))
    settle(signed, payment)

    assert sent() == steps(payer.address)
    assert (dollars(PAY_TO), dollars(payer.address)) == (PRICE, 1_000_000 - PRICE)


def test_after_a_death_the_periodic_task_goes_on(chain, monkeypatch) -> None:
    payer = penniless()
    signed = sign_sponsored(payer)
    payment = store(signed)
    Payment.objects.filter(pk=payment.pk).update(outcome_unknown_at=payment.created_at)
    with monkeypatch.context() as patch:
        patch.setattr(approvals, "broadcast", die)
        with pytest.raises(Killed):
            settle(signed, payment)
    confirm_pending_payments()
    payment.refresh_from_db()
    assert (payment.state in ("settled", "final"), dollars(PAY_TO)) == (True, PRICE)
    assert sent() == steps(payer.address)


def test_what_is_not_mined_in_time_is_gone_on_with_the_next_time(chain) -> None:
    payer = penniless()
    signed = sign_sponsored(payer)
    payment = store(signed)
    chain.set_automine(False)
    with pytest.raises(FacilitatorUnavailable):
        settle(signed, payment)
    assert sent() == steps(payer.address)[:2]
    chain.set_automine(True)
    chain.mine(1)
    settle(signed, payment)
    assert sent() == steps(payer.address)


def test_what_is_never_mined_is_not_sent_for_ever(chain) -> None:
    payer = penniless()
    signed = sign_sponsored(payer)
    chain.set_automine(False)
    with pytest.raises(FacilitatorUnavailable):
        settle(signed)
    approval = ChainTransaction.objects.get(wallet=payer.address)
    ChainTransaction.objects.filter(pk=approval.pk).update(status="sent")
    for days, sends in ((0, 1), (2, 1)):
        with clock.shifted(timedelta(days=days, seconds=1)):
            outbox.resume(older_than=timedelta(0))
        approval.refresh_from_db()
        assert approval.sends == sends


def test_payments_of_one_payer_at_once_share_one_gift(chain) -> None:
    payer = penniless()
    payments = [(signed, store(signed)) for signed in [sign_sponsored(payer) for _ in range(4)]]

    def work(one: Any) -> Any:
        try:
            return settle(*one)
        except FacilitatorUnavailable as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, payments))
    for signed, payment in payments:
        settle(signed, payment)
    assert ChainTransaction.objects.filter(value__gt=0).count() == 1
    assert ChainTransaction.objects.filter(wallet=payer.address).count() == 1
    assert dollars(PAY_TO) == 4 * PRICE


@pytest.mark.parametrize("step", ["verify", "settle"])
def test_an_approval_mined_while_it_is_examined_serves_both(chain, monkeypatch, step) -> None:
    payer = penniless()
    first, second = sign_sponsored(payer), sign_sponsored(payer)
    chain_nonce = approvals.chain_nonce
    overtaking = iter([first])

    def overtaken(*args: Any) -> int:
        for other in overtaking:
            settle(other)
        return chain_nonce(*args)

    monkeypatch.setattr(approvals, "chain_nonce", overtaken)
    if step == "verify":
        get_facilitator("default").verify(second)
    else:
        settle(second)
        assert dollars(PAY_TO) == 2 * PRICE
    assert ChainTransaction.objects.filter(wallet=payer.address).count() == 1


def test_a_thief_gets_no_gas_for_a_payer_who_has_not_signed(chain) -> None:
    victim, thief = penniless(), new_payer(chain, 0)
    signed = sign_sponsored(victim)
    forged = Sponsorship(signed.sponsorship.key, sign_approval(victim, signer=thief))
    with pytest.raises(PaymentRefused) as refusal:
        get_facilitator("default").verify(replace(signed, sponsorship=forged))
    assert refusal.value.code == "erc20_approval_tx_signer_mismatch"
    allowance = token_contract(direct(), PLAIN_TOKEN_ADDRESS).functions.allowance
    assert allowance(victim.address, PERMIT2_ADDRESS).call() == 0
