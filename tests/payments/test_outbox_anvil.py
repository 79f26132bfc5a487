"""The outbox on a real node: transactions that get stuck, gaps, dear gas, reorganised groups."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from eth_account import Account

from tests.chain.anvil import Anvil, running_anvil
from tests.chain.support import NETWORK, SETTLER
from tests.http import payers
from tests.http.payer_views import meanwhile
from tests.http.payers import buyer, configure, wallet_is_in_step
from tests.payments.hearing import History, hearing
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django import clock
from x402_django.chain.multicall import MULTICALL3
from x402_django.models import (
    ChainTransaction,
    Payment,
    Receipt,
    ReplacedTransaction,
    SettlementWallet,
)
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.deferred import settle_deferred
from x402_django.testing.payer import Payer, PayingClient

pytestmark = [
    pytest.mark.anvil,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.http.payer_views"),
]

PRICE = 10_000
DOLLAR = 1_000_000
#: After ``BUMP_AFTER``, and after a request is taken for dead.
LATER = timedelta(seconds=120)


@pytest.fixture
def anvil(settings: Any) -> Iterator[Anvil]:
    meanwhile.clear()
    with running_anvil() as url:
        configure(settings, url, [])
        yield Anvil(url)


@pytest.fixture
def history() -> Iterator[History]:
    history = History()
    with hearing(history):
        yield history


def impatient(settings: Any, **network: Any) -> None:
    """Requests wait a second for their settlement."""
    networks = {NETWORK: {**settings.X402["NETWORKS"][NETWORK], **network}}
    settings.X402 = {**settings.X402, "SETTLEMENT_TIMEOUT": 1, "NETWORKS": networks}


def waiting(anvil: Anvil, settings: Any) -> tuple[PayingClient, ChainTransaction]:
    """A buyer who was told that the outcome is unknown: no block takes the transaction."""
    impatient(settings)
    client = buyer(anvil, Payer())
    anvil.set_automine(False)
    response = client.pay("GET", "/now/")
    assert (response.status_code, "Retry-After" in response) == (503, True)
    assert Payment.objects.get().state == "settling"
    row = ChainTransaction.objects.get()
    assert (row.status, row.sends, row.bumps) == ("sent", 1, 0)
    return client, row


def served(anvil: Anvil, client: PayingClient) -> None:
    """The same payment gets what it paid for, once and without another run of the view."""
    response = client.get("/now/", headers=client.last_headers)
    assert (response.status_code, response.content) == (200, f"for {client.payer.address}".encode())
    assert runs[client.payer.address] == 1
    assert anvil.dollars(client.payer.address) == DOLLAR - PRICE
    assert (anvil.dollars(PAY_TO), Receipt.objects.count()) == (PRICE, 1)


# ----------------------------------------------------------------------------- what is stuck


def test_stuck_then_sent_again_then_sent_for_a_higher_fee(anvil: Anvil, settings: Any) -> None:
    client, row = waiting(anvil, settings)
    price = 4 * row.max_fee_per_gas
    anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(price))
    anvil.mine()
    assert anvil.count(SETTLER.address) == 0

    with clock.shifted(timedelta(seconds=30)):
        confirm_pending_payments()
    row.refresh_from_db()
    assert (row.status, row.sends > 1, row.bumps) == ("sent", True, 0)

    with clock.shifted(LATER):
        confirm_pending_payments()
    old = ReplacedTransaction.objects.get()
    bumped = ChainTransaction.objects.get()
    assert (bumped.pk, bumped.nonce, bumped.bumps, bumped.status) == (row.pk, 0, 1, "sent")
    assert (old.hash, bytes(old.raw)) == (row.hash, bytes(row.raw))
    assert bumped.hash != row.hash
    assert bumped.max_fee_per_gas > anvil.w3.eth.get_block("latest")["baseFeePerGas"]
    assert int(anvil.ask("txpool_status")["pending"], 16) == 1  # instead of the old one

    anvil.mine()
    with clock.shifted(LATER):
        confirm_pending_payments()
    payment = Payment.objects.get()
    assert (payment.state, payment.transaction) == ("settled", bumped.hash)
    served(anvil, client)
    wallet_is_in_step(anvil)


def test_the_ceiling_holds_for_a_stuck_transaction(
    anvil: Anvil, settings: Any, caplog: Any
) -> None:
    client, row = waiting(anvil, settings)
    anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(4 * row.max_fee_per_gas))
    anvil.mine()
    impatient(settings, MAX_FEE_GWEI=2 * row.max_fee_per_gas / 10**9)

    with clock.shifted(LATER):
        confirm_pending_payments()
    same = ChainTransaction.objects.get()
    assert (same.hash, same.bumps, same.status) == (row.hash, 0, "sent")
    assert "waits for cheaper gas" in caplog.text

    anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(row.max_fee_per_gas // 2))
    anvil.mine()
    for _ in range(2):  # sent again as it is, and then mined
        with clock.shifted(timedelta(seconds=30)):
            confirm_pending_payments()
        anvil.mine()
    assert Payment.objects.get().transaction == row.hash
    served(anvil, client)


def test_above_the_ceiling_buyers_are_asked_to_wait(anvil: Anvil, settings: Any) -> None:
    client = buyer(anvil, Payer())
    base_fee = anvil.w3.eth.get_block("latest")["baseFeePerGas"]
    impatient(settings, MAX_FEE_GWEI=base_fee / 2 / 10**9)
    response = client.pay("GET", "/now/")
    assert (response.status_code, "Retry-After" in response) == (503, True)
    assert (Payment.objects.get().state, anvil.dollars(PAY_TO)) == ("released", 0)
    assert not ChainTransaction.objects.exists()
    assert anvil.count(SETTLER.address, "pending") == 0

    impatient(settings, MAX_FEE_GWEI=None)
    assert client.get("/now/", headers=client.last_headers).status_code == 200
    assert anvil.dollars(PAY_TO) == PRICE


def test_a_gap_that_a_reorganisation_leaves_is_filled(anvil: Anvil, settings: Any) -> None:
    """Nonce 0 was somebody else's with the same key, ours was dropped for it; then it is gone."""
    client = buyer(anvil, Payer())
    key = Account.from_key(SETTLER.private_key)
    SettlementWallet.objects.create(network=NETWORK, address=key.address, next_nonce=0)
    anvil.send("0x" + "77" * 20, by=key)
    assert client.pay("GET", "/now/").status_code == 200
    assert list(ChainTransaction.objects.order_by("nonce").values_list("nonce", "status")) == [
        (0, "dropped"),
        (1, "mined"),
    ]
    anvil.reorganise(2, [])
    assert anvil.count(key.address) == 0

    for _ in range(3):
        confirm_pending_payments()

    assert list(
        ChainTransaction.objects.exclude(status="dropped")
        .order_by("nonce")
        .values_list("nonce", "status", "payments_count")
    ) == [(0, "mined", 0), (1, "mined", 1)]
    served(anvil, client)
    wallet_is_in_step(anvil)


# ------------------------------------------------------------------------ reorganised groups


def group(anvil: Anvil) -> tuple[list[PayingClient], ChainTransaction]:
    """Four payments that were delivered and then settled in one transaction."""
    clients = [buyer(anvil, Payer()) for _ in range(4)]
    for client in clients:
        assert client.pay("GET", "/later/").status_code == 200
    assert settle_deferred().settled == 4
    confirm_pending_payments()
    return clients, ChainTransaction.objects.get(to=MULTICALL3)


def states() -> set[str]:
    return set(Payment.objects.values_list("state", flat=True))


def every(*names: str) -> dict[int, list[str]]:
    return {pk: list(names) for pk in Payment.objects.values_list("pk", flat=True)}


def all_paid_once(anvil: Anvil, clients: list[PayingClient], transaction: str) -> None:
    anvil.mine(3)
    confirm_pending_payments()
    assert states() == {"final"}
    assert set(Payment.objects.values_list("transaction", flat=True)) == {transaction}
    assert [anvil.dollars(one.payer.address) for one in clients] == [DOLLAR - PRICE] * 4
    assert (anvil.dollars(PAY_TO), Receipt.objects.count()) == (4 * PRICE, 4)
    assert {runs[one.payer.address] for one in clients} == {1}
    wallet_is_in_step(anvil)


def test_a_group_that_moves_is_followed(anvil: Anvil, history: History) -> None:
    clients, row = group(anvil)
    history.take()
    anvil.reorganise(1, [(anvil.raw(row.hash), 0)])
    confirm_pending_payments()
    assert (states(), history.take()) == ({"settled"}, {})
    before, row = row, ChainTransaction.objects.get()
    assert (row.status, row.block_hash != before.block_hash) == ("mined", True)
    all_paid_once(anvil, clients, row.hash)
    assert history.take() == every("confirmed")


def test_a_group_that_is_dropped_is_sent_again_for_all(anvil: Anvil, history: History) -> None:
    clients, row = group(anvil)
    history.take()
    anvil.reorganise(1, [])
    assert (anvil.dollars(PAY_TO), anvil.count(SETTLER.address)) == (0, 0)

    confirm_pending_payments()  # blocks come at once: they are there again before anybody looks

    assert (states(), history.take()) == ({"settled"}, {})
    assert ChainTransaction.objects.get().sends == row.sends + 1
    all_paid_once(anvil, clients, row.hash)
    assert history.take() == every("confirmed")


def test_while_the_group_waits_again_every_rider_is_reversed(
    anvil: Anvil, history: History, caplog: Any, client: Client
) -> None:
    """The merchant is told by signal, log and admin; then they settle again, in one transaction."""
    clients, row = group(anvil)
    history.take()
    anvil.set_automine(False)
    anvil.reorganise(1, [])
    anvil.mine()

    with caplog.at_level(logging.ERROR, "x402_django.payments"):
        assert confirm_pending_payments().reversed == 4

    assert (states(), history.take()) == ({"reversed"}, every("reversed"))
    for payment in Payment.objects.all():
        assert f"Payment {payment.public_id} was reversed by a reorganisation" in caplog.text
        assert (payment.transaction, payment.block_number, payment.log_index) == ("", None, None)
    assert _attention(client, "reversed") == 4

    anvil.mine()
    for _ in range(2):
        confirm_pending_payments()
    assert (states(), history.take()) == ({"settled"}, every("settled"))
    assert _attention(client, "reversed") == 0
    all_paid_once(anvil, clients, row.hash)
    assert ChainTransaction.objects.count() == 1


def test_riders_whose_authorizations_have_expired_stay_reversed(
    anvil: Anvil, history: History, client: Client
) -> None:
    clients, _ = group(anvil)
    history.take()
    anvil.set_automine(False)
    anvil.reorganise(1, [])
    anvil.ask("evm_increaseTime", 400)
    anvil.mine(2)

    with clock.shifted(timedelta(seconds=400)):
        for _ in range(3):
            confirm_pending_payments()
            anvil.mine()

    assert (states(), history.take()) == ({"reversed"}, every("reversed"))
    assert _attention(client, "reversed") == 4
    assert (anvil.dollars(PAY_TO), Receipt.objects.count()) == (0, 4)
    assert [anvil.dollars(one.payer.address) for one in clients] == [DOLLAR] * 4
    assert ChainTransaction.objects.get().status == "mined"  # without effect; the nonce is used up
    wallet_is_in_step(anvil)


def test_one_rider_whose_money_is_gone_stays_behind(anvil: Anvil, history: History) -> None:
    """The others settle again in the same transaction."""
    clients, row = group(anvil)
    history.take()
    anvil.set_automine(False)
    anvil.reorganise(1, [])
    anvil.take_money(clients[1].payer.address)
    anvil.mine(2)  # the group is sent again by the run below, and mined after it
    confirm_pending_payments()
    anvil.mine()
    anvil.set_automine(True)
    for _ in range(3):
        confirm_pending_payments()
    lost = Payment.objects.get(payer=clients[1].payer.address)
    assert lost.state == "settling"  # another reorganisation could settle it after all
    anvil.mine(2)
    with clock.shifted(LATER):
        confirm_pending_payments()

    lost.refresh_from_db()
    assert (lost.state, lost.failure_code) == ("failed", "insufficient_funds")
    others = Payment.objects.exclude(pk=lost.pk)
    assert {(one.state, one.transaction) for one in others} == {("final", row.hash)}
    assert anvil.dollars(PAY_TO) == 3 * PRICE
    told = history.take()
    assert told.pop(lost.pk) == ["reversed", "failed"]
    assert told == {one.pk: ["reversed", "settled", "confirmed"] for one in others}
    wallet_is_in_step(anvil)


def test_a_raised_fee_and_a_chain_in_which_the_earlier_form_is_mined(
    anvil: Anvil, settings: Any, history: History
) -> None:
    client, row = waiting(anvil, settings)
    with clock.shifted(LATER):
        confirm_pending_payments()
    bumped = ChainTransaction.objects.get()
    assert (bumped.bumps, bumped.hash != row.hash) == (1, True)
    anvil.mine()
    with clock.shifted(LATER):
        confirm_pending_payments()
    assert Payment.objects.get().transaction == bumped.hash
    history.take()

    anvil.reorganise(1, [("0x" + bytes(row.raw).hex(), 0)])
    confirm_pending_payments()

    payment = Payment.objects.get()
    assert (payment.state, payment.transaction) == ("settled", row.hash)
    now = ChainTransaction.objects.get()
    assert (now.hash, now.status, now.max_fee_per_gas) == (row.hash, "mined", row.max_fee_per_gas)
    assert ReplacedTransaction.objects.get().hash == bumped.hash
    served(anvil, client)
    anvil.mine(3)
    confirm_pending_payments()
    payment.refresh_from_db()
    assert (payment.state, payment.transaction) == ("final", row.hash)
    assert history.take() == {payment.pk: ["delivered", "confirmed"]}
    wallet_is_in_step(anvil)


def test_a_deployment_that_is_reorganised_away_comes_back_before_its_payment(
    anvil: Anvil, settings: Any
) -> None:
    from x402_django.chain.devchain.deployment import FACTORY_ADDRESS

    configure(settings, anvil.url, [FACTORY_ADDRESS])
    client = buyer(anvil, payers.CounterfactualPayer(anvil))
    assert client.pay("GET", "/now/").status_code == 200
    confirm_pending_payments()
    anvil.reorganise(2, [])
    assert (anvil.has_code(client.payer.address), anvil.count(SETTLER.address)) == (False, 0)

    for _ in range(2):
        confirm_pending_payments()

    assert anvil.has_code(client.payer.address)
    assert Payment.objects.get().state == "settled"
    served(anvil, client)
    wallet_is_in_step(anvil)


def _attention(client: Client, what: str) -> int:
    """How many payments the admin lists under that heading."""
    user, _ = User.objects.get_or_create(username="boss", is_staff=True, is_superuser=True)
    client.force_login(user)
    answer = client.get(reverse("admin:x402_django_payment_changelist"), {"attention": what})
    assert answer.status_code == 200
    return len(answer.context["cl"].result_list)
