"""Refunds on a real chain: money goes back once, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.utils import timezone
from eth_account import Account

from tests.chain import support
from tests.chain.support import NETWORK, direct, x402_settings
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django.chain import outbox, refunding
from x402_django.chain.devchain.accounts import dev_accounts
from x402_django.exceptions import InvalidTransition, RefundRefused
from x402_django.models import (
    ChainTransaction,
    Payment,
    Receipt,
    Refund,
    RefundEvent,
    RefundReceipt,
)
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.refunds import by_hand, requesting, sending
from x402_django.payments.refunds.delivering import deliver_again
from x402_django.testing.chain import (
    dev_chain,
    new_payer,
    reset_dev_chains,
    send_transaction,
    token_contract,
)
from x402_django.testing.payer import Payer, PayingClient, decode

pytestmark = pytest.mark.django_db(transaction=True)

PRICE = 10_000
MERCHANT = next(one for one in dev_accounts() if one.address == PAY_TO)


@pytest.fixture
def chain(settings: Any) -> Iterator[Any]:
    reset_dev_chains()
    support.down.clear()
    settings.X402 = {
        **x402_settings(CONFIRMATIONS=3),
        "CONFIRMATION_INTERVAL": 0,
        "SETTLEMENT_TIMEOUT": 2,
        "REFUND_WALLETS": [{"KEY": MERCHANT.private_key}],
    }
    chain = dev_chain(NETWORK)
    chain.fund(PAY_TO, 10**18)
    yield chain
    support.down.clear()
    reset_dev_chains()


@pytest.fixture
def clerk(db: None) -> User:
    return User.objects.create_user("clerk", is_staff=True)


@pytest.fixture
def boss(db: None) -> User:
    return User.objects.create_user("boss", is_staff=True)


def buy(chain: Any, path: str = "/weather/") -> tuple[Payment, Any]:
    """A payment that is final, and its payer's account, which has one test dollar less a cent."""
    account = new_payer(chain, 1)
    client = PayingClient(payer=Payer(account))
    assert client.get(path).status_code == 200
    runs.clear()
    settle_down(chain)
    payment = Payment.objects.get(payer=account.address)
    assert payment.state == "final"
    return payment, account


def settle_down(chain: Any) -> None:
    for _ in range(3):
        chain.mine()
        confirm_pending_payments()


def send(chain: Any, rounds: int = 4) -> None:
    """Let the task run, and blocks come, until refunds are final."""
    for _ in range(rounds):
        sending.send_refunds()
        chain.mine()


def states() -> list[str]:
    return list(RefundEvent.objects.order_by("pk").values_list("to_state", flat=True))


def test_a_whole_refund_gives_back_what_was_paid(chain, clerk) -> None:
    payment, account = buy(chain)
    refund = requesting.request_refund(payment, PRICE, user=clerk, reason="Broken page")
    assert (refund.state, refund.is_whole, refund.price_usd) == ("approved", True, Decimal("0.01"))

    send(chain)

    refund.refresh_from_db()
    payment.refresh_from_db()
    assert (refund.state, payment.state) == ("final", "refunded")
    assert chain.dollars(account.address) == 1_000_000
    assert chain.dollars(PAY_TO) == 0
    assert states() == ["approved", "sending", "sent", "final"]
    receipt = RefundReceipt.objects.get()
    assert (receipt.amount, receipt.payer, receipt.sender) == (PRICE, account.address, PAY_TO)
    assert receipt.transaction == refund.transaction == refund.chain_transaction.hash
    assert (receipt.reason, receipt.price_usd) == ("Broken page", Decimal("0.01"))
    assert Receipt.objects.count() == 1
    assert payment.events.last().code == "refunded"
    sending.send_refunds()
    assert chain.dollars(account.address) == 1_000_000


def test_parts_add_up_to_the_payment_and_no_more(chain, clerk) -> None:
    payment, account = buy(chain)
    for amount in (3_000, 2_500):
        requesting.request_refund(payment, amount, user=clerk)
    assert requesting.refundable(payment) == 4_500
    with pytest.raises(RefundRefused, match="more than is left"):
        requesting.request_refund(payment, 4_501, user=clerk)
    with pytest.raises(RefundRefused, match="nothing"):
        requesting.request_refund(payment, 0, user=clerk)
    send(chain)
    payment.refresh_from_db()
    assert payment.state == "final"
    assert chain.dollars(account.address) == 995_500
    last = requesting.request_refund(payment, 4_500, user=clerk)
    assert last.is_whole
    send(chain)
    payment.refresh_from_db()
    assert payment.state == "refunded"
    assert chain.dollars(account.address) == 1_000_000
    # The books: what came, less what went back, is what the merchant has.
    came = sum(Receipt.objects.values_list("amount", flat=True))
    went = sum(RefundReceipt.objects.values_list("amount", flat=True))
    assert came - went == chain.dollars(PAY_TO) == 0
    with pytest.raises(RefundRefused, match="no money to give back"):
        requesting.request_refund(payment, 1, user=clerk)


def test_many_clicks_at_once_refund_once(chain, clerk) -> None:
    payment, account = buy(chain)
    barrier = Barrier(8)

    def click(_number: int) -> bool:
        try:
            barrier.wait(30)
            requesting.request_refund(payment, PRICE, user=clerk)
        except RefundRefused:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(click, range(8))) == 1
    send(chain)
    assert chain.dollars(account.address) == 1_000_000


def test_many_workers_at_once_send_once(chain, clerk) -> None:
    payment, account = buy(chain)
    requesting.request_refund(payment, PRICE // 2, user=clerk)
    barrier = Barrier(6)

    def work(_number: int) -> None:
        try:
            barrier.wait(30)
            sending.send_refunds()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    chain.mine()
    assert chain.dollars(account.address) == 995_000
    assert ChainTransaction.objects.filter(wallet=PAY_TO).count() == 1
    send(chain)
    assert chain.dollars(account.address) == 995_000


def test_above_the_limit_a_second_person_must_approve(chain, clerk, boss, settings) -> None:
    settings.X402 = {**settings.X402, "REFUND_APPROVAL_ABOVE": Decimal("0.004")}
    payment, account = buy(chain)
    refund = requesting.request_refund(payment, PRICE, user=clerk)
    assert refund.state == "requested"
    send(chain)
    assert chain.dollars(account.address) == 990_000
    with pytest.raises(RefundRefused, match="Somebody else"):
        requesting.approve(refund, user=clerk)
    requesting.approve(refund, user=boss)
    assert (refund.approved_by, refund.approved_name) == (boss, "boss")
    with pytest.raises(InvalidTransition):
        requesting.approve(Refund.objects.get(), user=boss)
    send(chain)
    assert chain.dollars(account.address) == 1_000_000


def test_small_refunds_add_up_to_the_limit(chain, clerk, boss, settings) -> None:
    settings.X402 = {**settings.X402, "REFUND_APPROVAL_ABOVE": Decimal("0.006")}
    payment, _ = buy(chain)
    other, _ = buy(chain)
    assert requesting.request_refund(payment, 4_000, user=clerk).state == "approved"
    assert requesting.request_refund(payment, 4_000, user=boss).state == "requested"  # same payment
    assert requesting.request_refund(other, 4_000, user=clerk).state == "requested"  # same day
    assert requesting.request_refund(other, 4_000, user=boss).state == "approved"


def test_what_may_still_be_undone_is_not_given_back(chain, clerk) -> None:
    account = new_payer(chain, 1)
    PayingClient(payer=Payer(account)).get("/weather/")
    payment = Payment.objects.get()
    assert payment.state == "settled"
    requesting.request_refund(payment, PRICE, user=clerk)
    sending.send_refunds()
    assert Refund.objects.get().state == "approved"
    settle_down(chain)
    send(chain)
    assert chain.dollars(account.address) == 1_000_000


def test_an_empty_wallet_hinders_and_sends_nothing(chain, clerk) -> None:
    payment, account = buy(chain)
    spender = Account.from_key(MERCHANT.private_key)
    token = token_contract(direct())
    away = token.encode_abi("transfer", ["0x000000000000000000000000000000000000dEaD", PRICE])
    send_transaction(direct(), spender, {"to": token.address, "data": away})
    requesting.request_refund(payment, PRICE, user=clerk)
    assert sending.send_refunds().hindered == 1
    refund = Refund.objects.get()
    assert refund.state == "approved"
    assert "too little of the token" in refund.hindrance
    assert not ChainTransaction.objects.filter(wallet=PAY_TO).exists()
    _give(chain, PRICE)
    send(chain)
    refund.refresh_from_db()
    assert (refund.state, refund.hindrance) == ("final", "")
    assert chain.dollars(account.address) == 1_000_000


def _give(chain: Any, amount: int) -> None:
    """Test dollars for the merchant, from somebody who has some."""
    rich = new_payer(chain, 5, wei=10**18)
    token = token_contract(direct())
    data = token.encode_abi("transfer", [PAY_TO, amount])
    send_transaction(direct(), rich, {"to": token.address, "data": data})


@pytest.mark.parametrize("lost", [False, True])
def test_an_unanswered_broadcast_is_not_sent_twice(chain, clerk, lost) -> None:
    """The node goes away as the transaction is handed over; it may have taken it, or not."""
    payment, account = buy(chain)
    requesting.request_refund(payment, PRICE, user=clerk)
    faults = support.lost if lost else support.down
    faults.add("eth_sendRawTransaction")
    sending.send_refunds()
    faults.clear()
    assert Refund.objects.get().state == ("sent" if lost else "sending")
    assert chain.dollars(account.address) == (1_000_000 if lost else 990_000)
    ChainTransaction.objects.update(
        created_at=ChainTransaction.objects.earliest("pk").created_at - timedelta(hours=1)
    )
    send(chain)
    assert Refund.objects.get().state == "final"
    assert chain.dollars(account.address) == 1_000_000
    assert ChainTransaction.objects.filter(wallet=PAY_TO).count() == 1


def test_a_process_that_dies_after_storing_has_sent_nothing_twice(
    chain, clerk, monkeypatch
) -> None:
    class Killed(BaseException):
        pass

    def die(row: ChainTransaction) -> None:
        raise Killed

    payment, account = buy(chain)
    requesting.request_refund(payment, PRICE, user=clerk)
    with monkeypatch.context() as patch:
        patch.setattr(refunding, "broadcast", die)
        with pytest.raises(Killed):
            sending.send_refunds()
    assert Refund.objects.get().state == "sending"
    assert chain.dollars(account.address) == 990_000
    row = ChainTransaction.objects.get(wallet=PAY_TO)
    ChainTransaction.objects.update(created_at=row.created_at - timedelta(minutes=1))
    send(chain)
    assert Refund.objects.get().state == "final"
    assert chain.dollars(account.address) == 1_000_000
    assert ChainTransaction.objects.filter(wallet=PAY_TO).count() == 1


def test_a_process_that_dies_before_storing_has_taken_nothing(chain, clerk, monkeypatch) -> None:
    class Killed(BaseException):
        pass

    def die(*args: Any) -> None:
        raise Killed

    payment, account = buy(chain)
    requesting.request_refund(payment, PRICE, user=clerk)
    with monkeypatch.context() as patch:
        patch.setattr("x402_django.chain.storing._bind_refund", die)
        with pytest.raises(Killed):
            sending.send_refunds()
    assert Refund.objects.get().state == "approved"
    assert not ChainTransaction.objects.filter(wallet=PAY_TO).exists()
    send(chain)
    assert chain.dollars(account.address) == 1_000_000


def test_a_reorganised_refund_is_followed_to_its_end(chain, clerk) -> None:
    payment, account = buy(chain)
    requesting.request_refund(payment, PRICE, user=clerk)
    sending.send_refunds()
    sending.send_refunds()
    assert Refund.objects.get().state == "sent"
    chain.reorg(1)
    chain.drop_pending()
    chain.mine()
    assert chain.dollars(account.address) == 990_000
    sending.send_refunds()
    assert Refund.objects.get().state == "sending"
    for _ in range(3):
        confirm_pending_payments()  # looks after the outbox: it is sent again as it was
    send(chain)
    assert Refund.objects.get().state == "final"
    assert chain.dollars(account.address) == 1_000_000
    assert states() == ["approved", "sending", "sent", "sending", "sent", "final"]


def test_a_lost_nonce_fails_only_when_nothing_can_bring_it_back(chain, clerk) -> None:
    """Another program uses the wallet's key; its transaction is mined instead of the refund's."""
    payment, account = buy(chain)
    requesting.request_refund(payment, PRICE, user=clerk)
    support.down.add("eth_sendRawTransaction")
    sending.send_refunds()
    support.down.clear()
    owner = Account.from_key(MERCHANT.private_key)
    send_transaction(direct(), owner, {"to": owner.address, "value": 0})
    row = ChainTransaction.objects.get(wallet=PAY_TO)
    outbox.rebroadcast(row)
    assert row.status == "dropped"
    sending.send_refunds()
    assert Refund.objects.get().state == "sending"  # one block deep: it may yet come back
    for _ in range(4):
        chain.mine()
    sending.send_refunds()
    refund = Refund.objects.get()
    assert refund.state == "failed"
    assert requesting.refundable(payment) == PRICE
    again = requesting.request_refund(payment, PRICE, user=clerk)
    send(chain)
    again.refresh_from_db()
    assert again.state == "final"
    assert chain.dollars(account.address) == 1_000_000


def test_another_payees_money_is_not_touched(chain, clerk, settings) -> None:
    """The wallet is of another merchant: it sends nothing, and the refund waits for a hand."""
    settings.X402 = {
        **settings.X402,
        "REFUND_WALLETS": [{"KEY": dev_accounts()[5].private_key}],
    }
    payment, account = buy(chain)
    requesting.request_refund(payment, PRICE, user=clerk)
    send(chain)
    assert Refund.objects.get().state == "approved"
    assert chain.dollars(account.address) == 990_000


def test_a_wallet_sends_for_the_payees_it_names(chain, clerk, settings) -> None:
    hot = dev_accounts()[5]
    settings.X402 = {
        **settings.X402,
        "REFUND_WALLETS": [{"KEY": hot.private_key, "PAYEES": [PAY_TO]}],
    }
    rich = new_payer(chain, 5, wei=10**18)
    token = token_contract(direct())
    data = token.encode_abi("transfer", [hot.address, 50_000])
    send_transaction(direct(), rich, {"to": token.address, "data": data})
    payment, account = buy(chain)
    requesting.request_refund(payment, PRICE, user=clerk)
    send(chain)
    assert Refund.objects.get().state == "final"
    assert chain.dollars(account.address) == 1_000_000
    assert chain.dollars(hot.address) == 40_000
    assert chain.dollars(PAY_TO) == PRICE


# ------------------------------------------------------------------------------- by hand


@pytest.fixture
def no_wallet(chain: Any, settings: Any) -> None:
    settings.X402 = {**settings.X402, "REFUND_WALLETS": []}


def transfer(to: str, amount: int, *, key: str = MERCHANT.private_key) -> str:
    token = token_contract(direct())
    data = token.encode_abi("transfer", [to, amount])
    receipt = send_transaction(direct(), Account.from_key(key), {"to": token.address, "data": data})
    return "0x" + bytes(receipt["transactionHash"]).hex()


def test_a_refund_sent_by_hand_is_proven_by_its_transaction(chain, no_wallet, clerk) -> None:
    payment, account = buy(chain)
    refund = requesting.request_refund(payment, PRICE, user=clerk)
    sent_in = transfer(account.address, PRICE)
    by_hand.enter_transaction(refund, sent_in, user=clerk)
    assert (refund.state, refund.is_by_hand, refund.sender) == ("sent", True, PAY_TO)
    send(chain)
    refund.refresh_from_db()
    payment.refresh_from_db()
    assert (refund.state, payment.state) == ("final", "refunded")
    assert RefundReceipt.objects.get().transaction == sent_in


def test_what_is_no_refund_is_refused(chain, no_wallet, clerk) -> None:
    payment, account = buy(chain)
    refund = requesting.request_refund(payment, 5_000, user=clerk)
    for sent_in, code in (
        ("0x12", "invalid_transaction"),
        ("0x" + "ab" * 32, "transaction_not_found"),
        (transfer(account.address, 4_999), "transfer_not_found"),
        (transfer(dev_accounts()[6].address, 1), "transfer_not_found"),
        (payment.transaction, "transfer_not_found"),
    ):
        with pytest.raises(RefundRefused) as refused:
            by_hand.enter_transaction(refund, sent_in, user=clerk)
        assert refused.value.code == code
    assert Refund.objects.get().state == "approved"


def test_one_transfer_is_one_refund(chain, no_wallet, clerk) -> None:
    payment, account = buy(chain)
    first = requesting.request_refund(payment, 5_000, user=clerk)
    second = requesting.request_refund(payment, 5_000, user=clerk)
    sent_in = transfer(account.address, 5_000)
    by_hand.enter_transaction(first, sent_in, user=clerk)
    with pytest.raises(RefundRefused, match="another refund's"):
        by_hand.enter_transaction(second, sent_in, user=clerk)


# ----------------------------------------------------------------------------- what was owed


def owed(chain: Any) -> tuple[Payment, Any, dict[str, str]]:
    """Paid before the view ran, which then failed: owed to the payer."""
    account = new_payer(chain, 1)
    headers = Payer(account).headers_for(Client().get("/flaky/"))
    client = Client(raise_request_exception=False)
    assert client.get("/flaky/", headers=headers).status_code == 500
    settle_down(chain)
    return Payment.objects.get(), account, headers


def test_a_debt_that_is_given_back_is_owed_no_more(chain, clerk) -> None:
    payment, account, headers = owed(chain)
    refund = requesting.request_refund(payment, PRICE, user=clerk)
    assert refund.ends_debt
    answer = Client().get("/flaky/", headers=headers)
    assert answer.status_code == 402
    assert decode(answer["PAYMENT-REQUIRED"])["error"] == "payment_refunded"
    # The payer may buy it anew meanwhile: it is not served from what goes back.
    again = PayingClient(payer=Payer(account)).get("/flaky/")
    assert (again.status_code, Payment.objects.count()) == (200, 2)
    send(chain)
    payment.refresh_from_db()
    assert payment.state == "refunded"
    assert chain.dollars(account.address) == 990_000


def test_a_rejected_refund_lets_the_debt_stand(chain, clerk, boss) -> None:
    payment, _, headers = owed(chain)
    refund = requesting.request_refund(payment, PRICE, user=clerk)
    requesting.reject(refund, user=boss, reason="They got it")
    assert Client().get("/flaky/", headers=headers).status_code == 200


def test_a_part_of_a_debt_leaves_it_owed(chain, clerk) -> None:
    payment, _, headers = owed(chain)
    requesting.request_refund(payment, 1, user=clerk)
    assert Client().get("/flaky/", headers=headers).status_code == 200


def test_what_is_being_delivered_is_not_given_back(chain, clerk) -> None:
    payment, _, _ = owed(chain)
    Payment.objects.update(delivery_started_at=timezone.now())
    with pytest.raises(RefundRefused, match="being delivered"):
        requesting.request_refund(payment, PRICE, user=clerk)
    assert not Refund.objects.exists()


def test_delivered_once_more_on_demand(chain, clerk) -> None:
    payment, _ = buy(chain)
    account = Payment.objects.get().payer
    Payment.objects.update(response_body=None, response_expires_at=None, response_status=None)
    assert deliver_again(payment, user=clerk)
    payment.refresh_from_db()
    assert payment.delivered_at is None
    event = payment.events.last()
    assert (event.from_state, event.to_state, event.code, event.actor) == (
        "final", "final", "deliver_again", "clerk",
    )  # fmt: skip
    assert account == payment.payer
    requesting.request_refund(payment, PRICE, user=clerk)
    assert not deliver_again(payment, user=clerk)
