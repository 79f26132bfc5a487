"""The scanner and chains that change, nodes that lag, forget or are dead."""

from __future__ import annotations

import logging

import pytest

from tests.chain import support
from tests.chain.support import (
    NETWORK,
    answers_forged,
    direct,
    facilitator_body,
    node_down,
)
from tests.payments.scanning import chain, on_chain, pay, place, settle, unknown
from tests.payments.support import history
from tests.settings import PAY_TO
from x402_django.chain import scan as chain_scan
from x402_django.models import ChainScan, Payment, Receipt, ScannedBlock
from x402_django.payments import scanner
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.report import Report
from x402_django.testing.submission import submit_authorization

__all__ = ["chain"]

pytestmark = pytest.mark.django_db(transaction=True)


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
