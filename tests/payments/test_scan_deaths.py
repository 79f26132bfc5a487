"""Several scanners at once, and scanners that die."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection

from tests.chain import support
from tests.chain.support import (
    NETWORK,
)
from tests.payments.scanning import chain, on_chain, pay, place, unknown
from tests.payments.support import history
from x402_django import clock
from x402_django.exceptions import RpcUnavailable
from x402_django.models import ChainScan, Payment, Receipt, ScannedBlock
from x402_django.payments import findings, scanner
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.cursor import Lease, LeaseLost, lease_time
from x402_django.payments.report import Report

__all__ = ["chain"]

pytestmark = pytest.mark.django_db(transaction=True)


class Killed(BaseException):
    """As SIGKILL, as far as Python can."""


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
    with clock.shifted(lease_time(NETWORK) - timedelta(seconds=1)):
        assert Lease.acquire(NETWORK) is None
    with clock.shifted(lease_time(NETWORK) + timedelta(seconds=1)):
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


def test_an_operator_can_see_how_far_it_came(chain) -> None:
    _, [row] = pay(chain)
    unknown(row)
    assert scanner.scan(NETWORK, Report()) == []
    scan = ChainScan.objects.get(network=NETWORK)
    assert scan.head == ScannedBlock.objects.latest("number").number == chain.height
    assert (scan.holder, scan.held_until) == ("", None)
    assert clock.now() - scan.finished_at < timedelta(seconds=30)


def test_a_run_that_breaks_off_does_not_count_as_complete(chain, monkeypatch) -> None:
    _, [row] = pay(chain)
    unknown(row)
    monkeypatch.setattr(findings.Findings, "apply", _lost)
    with pytest.raises(RpcUnavailable):
        scanner.scan(NETWORK, Report())
    scan = ChainScan.objects.get(network=NETWORK)
    assert (scan.head, scan.finished_at, scan.holder) == (chain.height, None, "")


def _lost(*args) -> None:
    raise RpcUnavailable(NETWORK)


def test_leases_are_per_network(chain, settings) -> None:
    networks = settings.X402["NETWORKS"]
    networks = {**networks, "eip155:1": {**networks[NETWORK], "RPC_TIMEOUT": 0.5}}
    settings.X402 = {**settings.X402, "NETWORKS": networks}
    assert lease_time(NETWORK) == timedelta(minutes=1)
    assert lease_time("eip155:1") == timedelta(seconds=10)
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
        with clock.shifted(lease_time(NETWORK) + timedelta(seconds=1)):
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
            with clock.shifted(lease_time(NETWORK) + timedelta(seconds=1)):
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
