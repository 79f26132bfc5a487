"""The scanner on a real EVM: reorganisations, deaths, other scanners, bad nodes."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

import pytest
from django.db import connection

from tests.chain import support
from tests.chain.support import (
    NETWORK,
    answers_forged,
    direct,
    facilitator_body,
    node_down,
    sign,
    store,
)
from tests.payments.support import ago, history
from tests.settings import PAY_TO
from x402_django import clock
from x402_django.chain import scan as chain_scan
from x402_django.chain.devchain.artifacts import load_artifact
from x402_django.chain.devchain.deployment import MULTICALL3_ADDRESS
from x402_django.chain.evidence import find_settlement
from x402_django.models import ChainScan, Payment, Receipt, ScannedBlock
from x402_django.payments import findings, scanner
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.cursor import LEASE, Lease, LeaseLost
from x402_django.payments.recording import mark_settled
from x402_django.payments.report import Report
from x402_django.testing.chain import new_payer, reset_dev_chains, send_transaction
from x402_django.testing.submission import submit_authorization, transfer_call

pytestmark = pytest.mark.django_db(transaction=True)


class Killed(BaseException):
    """As SIGKILL, as far as Python can."""


@pytest.fixture
def chain(settings):
    from x402_django.testing.chain import dev_chain

    reset_dev_chains()
    support.down.clear()
    support.lost.clear()
    settings.X402 = {**support.x402_settings(CONFIRMATIONS=20), "CONFIRMATION_INTERVAL": 0}
    support.requests.clear()
    yield dev_chain(NETWORK)
    reset_dev_chains()


def pay(chain, count: int = 1):
    """Authorizations that somebody has settled, in one block, and their rows."""
    payer = new_payer(chain, 1)
    signed = [sign(payer) for _ in range(count)]
    for one in signed:
        submit_authorization(direct(), facilitator_body(one))
    if count > 1:
        chain.reorg(count, keep_transactions=True)
    return signed, [store(one) for one in signed]


def settle(signed, payment) -> Payment:
    """Write down what the chain has, as a request does."""
    found = find_settlement(signed)
    mark_settled(payment, found.as_settlement(), {}, actor="test")
    return payment


def unknown(payment) -> Payment:
    Payment.objects.filter(pk=payment.pk).update(
        outcome_unknown_at=ago(100), state_changed_at=ago(100)
    )
    payment.refresh_from_db()
    return payment


def place(payment) -> tuple[str, str, int | None, str, int | None]:
    payment.refresh_from_db()
    return (
        payment.state,
        payment.transaction,
        payment.block_number,
        payment.block_hash,
        payment.log_index,
    )


def on_chain(signed, state: str):
    found = find_settlement(signed)
    where = (found.transaction, found.block_number, found.block_hash, found.log_index)
    return (state, *where)


# ------------------------------------------------------------------ what it does


def test_unknown_outcomes_are_settled_and_then_final(chain) -> None:
    signed, rows = pay(chain, 3)
    for row in rows:
        unknown(row)
    support.requests.clear()

    assert confirm_pending_payments().settled == 3

    assert support.requests["eth_getTransactionReceipt"] == support.requests["eth_call"] == 0
    assert [place(row) for row in rows] == [on_chain(one, "settled") for one in signed]
    assert Receipt.objects.count() == 3
    chain.mine(20)
    support.requests.clear()
    assert confirm_pending_payments().final == 3
    assert support.requests["eth_getTransactionReceipt"] == support.requests["eth_call"] == 0
    assert history(rows[0]) == [("settling", "settled"), ("settled", "final")]


def test_payments_of_one_transaction_are_told_apart(chain) -> None:
    payer = new_payer(chain, 1)
    signed = [sign(payer) for _ in range(3)]
    rows = [unknown(store(one)) for one in signed]
    calls = [transfer_call(direct(), facilitator_body(one)) for one in signed]
    multicall = direct().eth.contract(
        address=MULTICALL3_ADDRESS, abi=load_artifact("Multicall3").abi
    )
    data = multicall.functions.aggregate3(
        [(call["to"], False, call["data"]) for call in calls]
    )._encode_transaction_data()
    from eth_account import Account

    settler = Account.from_key(support.SETTLER.private_key)
    send_transaction(direct(), settler, {"to": MULTICALL3_ADDRESS, "data": data, "value": 0})
    assert confirm_pending_payments().settled == 3
    assert [place(row)[4] for row in rows] == [1, 3, 5]
    assert chain.dollars(PAY_TO) == 3 * support.PRICE


def test_what_a_live_request_settles_is_noted_and_left_to_it(chain) -> None:
    signed, [row] = pay(chain)
    confirm_pending_payments()
    assert place(row) == on_chain(signed[0], "settling")
    # Its worker dies; the cursor is past the block, and the note says where to look.
    chain.mine(20)
    confirm_pending_payments()
    support.requests.clear()
    with clock.shifted(timedelta(seconds=60)):
        report = confirm_pending_payments()
    assert (report.settled, report.final) == (1, 1)
    assert support.requests["eth_getTransactionReceipt"] == support.requests["eth_call"] == 0


def test_the_worker_of_a_noted_payment_settles_it_as_ever(chain) -> None:
    signed, [row] = pay(chain)
    confirm_pending_payments()
    settle(signed[0], row)
    assert place(row) == on_chain(signed[0], "settled")
    assert Receipt.objects.count() == 1


def test_others_are_left_alone(chain) -> None:
    _, rows = pay(chain, 6)
    states = ("claimed", "verified", "failed", "released", "rejected", "expired")
    for row, state in zip(rows, states, strict=True):
        Payment.objects.filter(pk=row.pk).update(state=state)
    signed, [live] = pay(chain)
    settle(signed[0], live)
    before = list(Payment.objects.exclude(pk=live.pk).order_by("pk").values())
    confirm_pending_payments()
    assert list(Payment.objects.exclude(pk=live.pk).order_by("pk").values()) == before


# ---------------------------------------------------------------- reorganisations


def test_a_payment_that_moves_to_another_block_is_followed(chain) -> None:
    signed, rows = pay(chain, 2)
    before = [place(settle(one, row)) for one, row in zip(signed, rows, strict=True)]
    confirm_pending_payments()

    chain.reorg(3, keep_transactions=True)
    report = confirm_pending_payments()

    assert (report.reversed, report.out_of_reach) == (0, 0)
    after = [place(row) for row in rows]
    assert after == [on_chain(one, "settled") for one in signed]
    assert [a != b for a, b in zip(after, before, strict=True)] == [True, True]
    chain.mine(20)
    for _ in range(3):  # their logs have changed places in the block: room is made one by one
        confirm_pending_payments()
    assert [place(row) for row in rows] == [on_chain(one, "final") for one in signed]
    assert Receipt.objects.count() == 2


def test_a_reorganisation_below_the_payments_costs_them_nothing(chain) -> None:
    signed, [row] = pay(chain)
    settle(signed[0], row)
    confirm_pending_payments()
    chain.mine(2)
    confirm_pending_payments()
    chain.reorg(2)
    confirm_pending_payments()
    chain.mine(20)
    confirm_pending_payments()
    assert place(row) == on_chain(signed[0], "final")
    assert history(row) == [("settling", "settled"), ("settled", "final")]


def test_a_removed_payment_is_reversed_and_settled_again(chain, caplog) -> None:
    signed, [row] = pay(chain)
    settle(signed[0], row)
    confirm_pending_payments()
    chain.reorg(1)
    chain.drop_pending()
    assert chain.dollars(PAY_TO) == 0

    with caplog.at_level(logging.ERROR, logger="x402_django.payments"):
        assert confirm_pending_payments().reversed == 1
    assert row.public_id in caplog.text
    assert place(row) == ("reversed", "", None, "", None)

    for _ in range(3):
        confirm_pending_payments()
    assert place(row) == on_chain(signed[0], "settled")
    assert chain.dollars(PAY_TO) == support.PRICE
    assert Receipt.objects.count() == 1


def test_a_reversed_payment_that_comes_back_is_settled(chain) -> None:
    """Also when its authorization could not be settled again."""
    signed, [row] = pay(chain)
    settle(signed[0], row)
    confirm_pending_payments()
    chain.reorg(1)
    Payment.objects.update(valid_before=1)
    confirm_pending_payments()
    assert place(row)[0] == "reversed"
    submit_authorization(direct(), facilitator_body(signed[0]))
    assert confirm_pending_payments().settled == 1
    assert place(row) == on_chain(signed[0], "settled")
    assert Receipt.objects.count() == 1


def test_a_shorter_chain_reverses_nothing_until_it_has_grown(chain) -> None:
    """It looks like a node that is behind."""
    before = chain.snapshot()
    signed, [row] = pay(chain)
    settle(signed[0], row)
    confirm_pending_payments()
    chain.revert(before)
    chain.drop_pending()
    assert confirm_pending_payments().reversed == 0
    assert place(row)[0] == "settled"
    chain.mine(4)
    assert confirm_pending_payments().reversed == 1


def test_a_chain_that_shares_no_remembered_block_is_read_again(chain) -> None:
    signed, [row] = pay(chain)
    settle(signed[0], row)
    ScannedBlock.objects.create(network=NETWORK, number=1, hash="0x" + "11" * 32)
    ScannedBlock.objects.create(network=NETWORK, number=2, hash="0x" + "22" * 32)
    confirm_pending_payments()
    assert place(row) == on_chain(signed[0], "settled")
    [only] = ScannedBlock.objects.all()
    assert only.number == chain.height


# ------------------------------------------------------------------------ bad nodes


@pytest.mark.parametrize("method", ["*", "eth_getBlockByNumber", "eth_getLogs"])
def test_a_dead_node_reverses_nothing_and_loses_nothing(chain, method) -> None:
    signed, [row] = pay(chain)
    settle(signed[0], row)
    chain.mine(20)
    with node_down(method, "eth_getTransactionReceipt"):
        report = confirm_pending_payments()
    assert (report.reversed, report.final, report.out_of_reach) == (0, 0, 1)
    assert (place(row)[0], ScannedBlock.objects.count()) == ("settled", 0)
    assert confirm_pending_payments().final == 1


def test_a_dead_node_is_not_asked_about_every_payment(chain) -> None:
    signed, rows = pay(chain, 8)
    for one, row in zip(signed, rows, strict=True):
        settle(one, row)
    support.requests.clear()
    with node_down():
        assert confirm_pending_payments().out_of_reach == 8
    assert support.requests.total() <= 2 + 3


def test_a_node_that_forgets_logs_reverses_nothing(chain) -> None:
    """It answers, with an empty list; the state and the receipt say that the payment is there."""
    signed, rows = pay(chain, 2)
    settle(signed[0], rows[0])
    unknown(rows[1])
    chain.mine(20)
    with answers_forged(eth_getLogs=[]):
        report = confirm_pending_payments()
    assert (report.reversed, report.final) == (0, 1)  # by its receipt
    assert [place(row)[0] for row in rows] == ["final", "settling"]
    assert confirm_pending_payments().settled == 1


def test_a_spent_authorization_is_never_reversed(chain) -> None:
    """Neither log nor receipt, but the token says "used": our node is behind with its indexes."""
    signed, [row] = pay(chain)
    settle(signed[0], row)
    chain.mine(20)
    with answers_forged(eth_getLogs=[], eth_getTransactionReceipt=None):
        report = confirm_pending_payments()
    assert (report.reversed, report.final, report.out_of_reach) == (0, 0, 1)
    assert place(row)[0] == "settled"


def test_a_node_that_lags_behind_the_payment_reverses_nothing(chain, monkeypatch) -> None:
    """It is at a block from before the payment, where the authorization is unused."""
    before = chain.snapshot()
    signed, [row] = pay(chain)
    settle(signed[0], row)
    chain.revert(before)
    report = confirm_pending_payments()
    assert (report.reversed, report.out_of_reach) == (0, 0)
    Payment.objects.update(block_number=chain.height + 1)
    monkeypatch.setattr(scanner, "scan", _unreadable)
    report = confirm_pending_payments()
    assert (report.reversed, report.out_of_reach) == (0, 1)
    assert place(row)[0] == "settled"


def _unreadable(network, report):
    raise chain_scan.RpcUnavailable


def test_a_chain_that_moves_while_it_is_read_moves_no_payment(chain, monkeypatch) -> None:
    _, [row] = pay(chain)
    unknown(row)
    original, asked = support.FaultyProvider.make_request, []

    def moving(self, method, params):
        answer = original(self, method, params)
        if method == "eth_getLogs" and not asked:
            asked.append(1)
            chain.reorg(1)
        return answer

    monkeypatch.setattr(support.FaultyProvider, "make_request", moving)
    report = Report()
    with pytest.raises(chain_scan.ChainMoved):
        scanner.scan(NETWORK, report)
    assert (report.settled, place(row)[0], ScannedBlock.objects.count()) == (0, "settling", 0)
    assert ChainScan.objects.get().holder == ""


# ---------------------------------------------------------------- several, and death


def test_one_scanner_at_a_time(chain) -> None:
    signed, [row] = pay(chain)
    unknown(row)
    lease = Lease.acquire(NETWORK)
    assert Lease.acquire(NETWORK) is None
    report = Report()
    support.requests.clear()
    assert scanner.scan(NETWORK, report) is None
    assert support.requests.total() == 0
    lease.release()
    assert scanner.scan(NETWORK, report) == []
    assert place(row) == on_chain(signed[0], "settled")


def test_a_dead_holder_is_followed_when_its_lease_is_over(chain) -> None:
    dead = Lease.acquire(NETWORK)
    assert dead is not None
    with clock.shifted(LEASE - timedelta(seconds=1)):
        assert Lease.acquire(NETWORK) is None
    with clock.shifted(LEASE + timedelta(seconds=1)):
        successor = Lease.acquire(NETWORK)
        assert successor is not None
        with pytest.raises(LeaseLost):  # it was not dead, only slow: its cursor does not count
            dead.move(5, "0x" + "aa" * 32)
        with pytest.raises(LeaseLost):
            dead.keep()
        dead.release()
        assert Lease.acquire(NETWORK) is None
        successor.move(6, "0x" + "bb" * 32)
    assert list(ScannedBlock.objects.values_list("number", flat=True)) == [6]


def test_a_lease_that_is_kept_does_not_end(chain) -> None:
    lease = Lease.acquire(NETWORK)
    for minutes in range(1, 6):
        with clock.shifted(timedelta(minutes=minutes)):
            lease.keep()
            assert Lease.acquire(NETWORK) is None


def test_leases_are_per_network(chain) -> None:
    assert Lease.acquire(NETWORK) is not None
    assert Lease.acquire("eip155:1") is not None


@pytest.mark.parametrize("deaths", range(1, 6))
def test_a_scanner_killed_between_two_payments_loses_nothing(chain, monkeypatch, deaths) -> None:
    signed, rows = pay(chain, 6)
    for row in rows:
        unknown(row)
    original, calls = findings.mark_settled, []

    def deadly(*args, **kwargs):
        calls.append(1)
        if len(calls) == deaths + 1:
            raise Killed
        return original(*args, **kwargs)

    monkeypatch.setattr(findings, "mark_settled", deadly)
    with pytest.raises(Killed):
        confirm_pending_payments()
    assert Payment.objects.filter(state="settled").count() == deaths
    assert ScannedBlock.objects.count() == 0  # the cursor has not moved

    assert confirm_pending_payments().settled == 6 - deaths
    assert [place(row) for row in rows] == [on_chain(one, "settled") for one in signed]
    assert Receipt.objects.count() == 6


def test_killed_at_any_statement_nothing_is_lost(chain) -> None:
    """Before its first statement to the database, before its second, and so on."""
    for at in range(1, 100):
        signed, [row] = pay(chain)
        unknown(row)
        ChainScan.objects.update(holder="")
        if _run_until(at):
            break
        with clock.shifted(LEASE + timedelta(seconds=1)):
            confirm_pending_payments()
        assert place(row)[1:] == on_chain(signed[0], "")[1:]
    assert at > 8
    assert Payment.objects.exclude(state__in=("settled", "final")).count() == 0
    assert Receipt.objects.count() == at


def _run_until(at: int) -> bool:
    """Whether the run came to its end before statement ``at``."""
    statements = []

    def reaper(execute, sql, params, many, context):
        statements.append(sql)
        if len(statements) >= at:
            raise Killed
        return execute(sql, params, many, context)

    try:
        with connection.execute_wrapper(reaper):
            confirm_pending_payments()
    except Killed:
        return False
    return True


def test_many_scanners_at_once_settle_each_payment_once(chain) -> None:
    signed, rows = pay(chain, 10)
    for row in rows:
        unknown(row)
    start = threading.Barrier(4)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            start.wait()
            confirm_pending_payments()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    confirm_pending_payments()
    assert failures == []
    assert [place(row) for row in rows] == [on_chain(one, "settled") for one in signed]
    assert [history(row) for row in rows] == [[("settling", "settled")]] * 10
    assert Receipt.objects.count() == 10


def test_two_scanners_that_both_believe_in_their_lease_do_no_harm(chain, monkeypatch) -> None:
    """The first is paused after reading the ledger until the second has done it all."""
    signed, rows = pay(chain, 3)
    for row in rows:
        unknown(row)
    original, nested = findings.mark_settled, []

    def paused(*args, **kwargs):
        if not nested:
            nested.append(1)
            with clock.shifted(LEASE + timedelta(seconds=1)):
                assert confirm_pending_payments().settled == 3
        return original(*args, **kwargs)

    monkeypatch.setattr(findings, "mark_settled", paused)
    report = confirm_pending_payments()
    assert report.settled == 0
    assert [place(row) for row in rows] == [on_chain(one, "settled") for one in signed]
    assert Receipt.objects.count() == 3


def test_one_hopeless_payment_does_not_stop_the_others(chain, monkeypatch) -> None:
    _, rows = pay(chain, 3)
    for row in rows:
        unknown(row)
    original = findings.mark_settled

    def broken(payment, *args, **kwargs):
        if payment.pk == rows[0].pk:
            raise ValueError("cannot")
        return original(payment, *args, **kwargs)

    monkeypatch.setattr(findings, "mark_settled", broken)
    assert scanner.scan(NETWORK, Report()) == []
    assert [place(row)[0] for row in rows] == ["settling", "settled", "settled"]


def test_the_cursor_moves_with_the_chain(chain) -> None:
    signed, [row] = pay(chain)
    settle(signed[0], row)
    confirm_pending_payments()
    heights = [chain.height]
    for _ in range(2):
        chain.mine()
        heights.append(chain.height)
        confirm_pending_payments()
    blocks = ScannedBlock.objects.order_by("number").values_list("number", "hash")
    hashes = [direct().eth.get_block(number)["hash"].to_0x_hex() for number in heights]
    assert list(blocks) == list(zip(heights, hashes, strict=True))
