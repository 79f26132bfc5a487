"""Ledger against chain, on payments that were really settled: every unit finds its receipt."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from web3.exceptions import Web3RPCError

from tests.chain import support
from tests.chain.fixtures import chain
from tests.chain.support import (
    NETWORK,
    PRICE,
    TOKEN_ADDRESS,
    direct,
    facilitator_body,
    node_down,
    sign,
    store,
    x402_settings,
)
from tests.payments.onchain import STRANGER, hash_of, settled, stray_transfer, token_call
from tests.settings import PAY_TO
from x402_django import clock
from x402_django.exceptions import RpcUnavailable
from x402_django.models import Payment, PaymentMethod, Receipt
from x402_django.payments import booked
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.period import period_by_blocks, period_by_time
from x402_django.payments.reconciliation import Count, Finding, Kind, Report, Tally, reconcile
from x402_django.testing.chain import deploy_contract, new_payer
from x402_django.testing.submission import submit_authorization

__all__ = ["chain"]

pytestmark = pytest.mark.django_db(transaction=True)

NONE = Count()


def run(first: int | None = None, last: int | None = None) -> tuple[Report, list[Finding]]:
    findings: list[Finding] = []
    report = reconcile(period_by_blocks(NETWORK, first, last), found=findings.append)
    for tally in report.tallies.values():  # holds whatever else is wrong
        assert tally.on_chain.units == (
            tally.explained.units
            + tally.differing_on_chain.units
            + tally.on_the_way.units
            + tally.unexplained.units
        )
        assert tally.receipts.units == (
            tally.explained.units + tally.differing_receipts.units + tally.without_transfer.units
        )
        assert tally.in_order == (
            not any(f.kind is not Kind.ON_THE_WAY for f in findings if f.token == tally.token)
        )
    return report, findings


def book(payment: Payment, paid_by: Payment, **terms: Any) -> None:
    """Another receipt than the one ``payment`` has, for the transfer of ``paid_by``."""
    Receipt.objects.filter(payment=payment)._raw_delete("default")  # which the ledger never does
    facts = {
        "network": NETWORK,
        "asset": TOKEN_ADDRESS,
        "asset_symbol": "TUSD",
        "asset_decimals": 6,
        "amount": PRICE,
        "payer": paid_by.payer,
        "pay_to": PAY_TO,
        "transaction": paid_by.transaction,
        "resource_url": "https://shop.example/",
    }
    Receipt.objects.create(payment=payment, issued_at=clock.now(), **(facts | terms))


def dollar(report: Report) -> Tally:
    return report.tallies[TOKEN_ADDRESS]


def test_every_unit_has_its_receipt(chain):
    settled(amount=10_000)
    settled(amount=2**60 + 1, payer=new_payer(chain, 2 * 10**12))
    report, findings = run()
    assert findings == []
    assert report.in_order
    assert report.payees == (PAY_TO,)
    assert dollar(report).on_chain == dollar(report).receipts == Count(2, 2**60 + 10_001)
    assert dollar(report).explained == Count(2, 2**60 + 10_001)
    assert chain.dollars(PAY_TO) == 2**60 + 10_001


def test_a_stray_transfer_is_unexplained(chain):
    settled()
    stray = stray_transfer(PAY_TO, 123)
    report, [finding] = run()
    assert not report.in_order
    assert dollar(report).unexplained == Count(1, 123)
    assert dollar(report).on_chain == Count(2, PRICE + 123)
    assert dollar(report).explained == dollar(report).receipts == Count(1, PRICE)
    assert (finding.kind, finding.payment, finding.receipt) == (Kind.UNEXPLAINED, None, None)
    transfer = finding.transfer
    assert transfer.transaction == hash_of(stray)
    assert transfer.block_number == stray["blockNumber"]
    assert transfer.log_index == stray["logs"][0]["logIndex"]
    assert (transfer.sender, transfer.pay_to, transfer.value) == (STRANGER.address, PAY_TO, 123)


def test_transfers_to_others_are_none_of_our_business(chain):
    stray_transfer("0x" + "77" * 20)
    report, findings = run()
    assert findings == []
    assert dollar(report).on_chain == NONE


def test_a_transfer_that_was_reorganised_away_leaves_a_receipt_without_one(chain, settings):
    settings.X402 = {**x402_settings(CONFIRMATIONS=3), "CONFIRMATION_INTERVAL": 0}
    settled()
    lost = settled()
    chain.reorg(1)
    report, [finding] = run()
    assert not report.in_order
    assert dollar(report).on_chain == dollar(report).explained == Count(1, PRICE)
    assert dollar(report).receipts == Count(2, 2 * PRICE)
    assert dollar(report).without_transfer == Count(1, PRICE)
    assert (finding.kind, finding.transfer) == (Kind.WITHOUT_TRANSFER, None)
    assert finding.receipt.reference == Receipt.objects.get(payment=lost).reference
    assert finding.receipt.state == "settled"

    Payment.objects.filter(pk=lost.pk).update(
        state="reversed", transaction="", block_number=None, block_hash="", log_index=None
    )
    report, [finding] = run()  # now the ledger knows, and still it has no transfer
    assert finding.receipt.state == "reversed"
    assert finding.receipt.transaction == lost.transaction
    assert dollar(report).without_transfer == Count(1, PRICE)

    confirm_pending_payments()  # settles again
    report, findings = run()
    assert (report.in_order, findings) == (True, [])
    assert dollar(report).on_chain == dollar(report).receipts == Count(2, 2 * PRICE)


def test_a_transfer_that_a_reorganisation_moved_is_found_where_it_is(chain):
    settled()
    moved = settled()
    chain.mine(2)
    chain.reorg(3, keep_transactions=True)
    before = Payment.objects.get(pk=moved.pk).block_number
    Payment.objects.filter(pk=moved.pk).update(block_number=before + 1)  # an outdated note
    report, findings = run()
    assert (report.in_order, findings) == (True, [])
    # In each part of the period it is in that part alone in which it truly is.
    early, findings = run(0, before)
    assert (dollar(early).explained, findings) == (Count(2, 2 * PRICE), [])
    late, findings = run(before + 1)
    assert (dollar(late).receipts, findings) == (NONE, [])


def test_amounts_that_differ(chain):
    payment = settled(amount=700)
    book(payment, payment, amount=701)
    report, [finding] = run()
    assert not report.in_order
    assert finding.kind is Kind.DIFFERS
    assert (finding.transfer.value, finding.receipt.amount) == (700, 701)
    assert dollar(report).differing_on_chain == Count(1, 700)
    assert dollar(report).differing_receipts == Count(1, 701)
    assert dollar(report).explained == NONE


def test_one_transfer_explains_one_receipt_only(chain):
    payment = settled()
    twin = store(sign(new_payer(chain, 1)))
    Payment.objects.filter(pk=twin.pk).update(
        state="settled", transaction=payment.transaction, settled_at=clock.now()
    )
    book(twin, payment)
    report, [finding] = run()
    assert finding.kind is Kind.WITHOUT_TRANSFER
    assert finding.receipt.payment == twin.public_id
    assert dollar(report).explained == Count(1, PRICE)
    assert dollar(report).receipts == Count(2, 2 * PRICE)


def test_a_payment_that_is_being_settled_is_on_the_way(chain):
    signed = sign(new_payer(chain, 1))
    payment = store(signed)
    submit_authorization(direct(), facilitator_body(signed))
    report, [finding] = run()
    assert report.in_order
    assert (finding.kind, finding.payment.payment) == (Kind.ON_THE_WAY, payment.public_id)
    assert dollar(report).on_the_way == Count(1, PRICE)

    Payment.objects.update(created_at=clock.now() - timedelta(minutes=5))
    report, [finding] = run()  # for five minutes: somebody should look at it
    assert not report.in_order
    assert (finding.kind, finding.payment.state) == (Kind.UNEXPLAINED, "settling")


@pytest.mark.parametrize("state", ["failed", "released", "rejected", "expired"])
def test_a_transfer_of_a_payment_that_was_let_go_is_unexplained_by_name(chain, state):
    signed = sign(new_payer(chain, 1))
    payment = store(signed)
    Payment.objects.filter(pk=payment.pk).update(state=state)
    submit_authorization(direct(), facilitator_body(signed))
    report, [finding] = run()
    assert not report.in_order
    assert finding.kind is Kind.UNEXPLAINED
    assert (finding.payment.payment, finding.payment.state) == (payment.public_id, state)


def test_several_assets_and_payees(chain):
    other = deploy_contract(direct(), "TestDollar")
    payer = new_payer(chain, 1)
    token_call("mint", payer.address, 10**6, token=other)
    elsewhere = "0x" + "77" * 20
    PaymentMethod.objects.create(
        name="other", network=NETWORK, asset=other, pay_to=elsewhere, asset_symbol="ODD",
        asset_name="Test Dollar", asset_version="1", asset_decimals=3, active=False,
    )  # fmt: skip
    settled(payer, amount=5)
    settled(payer, amount=7, token=other)
    stray_transfer(elsewhere, 11)  # known from the method alone
    report, [finding] = run()
    assert dollar(report).on_chain == Count(2, 16)
    assert dollar(report).explained == Count(1, 5)
    assert dollar(report).unexplained == Count(1, 11)
    assert report.tallies[other].on_chain == report.tallies[other].receipts == Count(1, 7)
    assert (report.tallies[other].token.symbol, report.tallies[other].token.decimals) == ("ODD", 3)
    assert finding.transfer.value == 11
    assert len(report.payees) == 2


def test_dollars_are_added_exactly(chain):
    for price in (Decimal("0.1"), Decimal("0.00000001"), None):
        payment = settled()
        book(payment, payment, price_usd=price)
    report, _ = run()
    assert dollar(report).usd == Decimal("0.10000001")
    assert dollar(report).without_usd == 1


def test_nothing_sold_is_an_empty_period_in_order(chain):
    stray_transfer(PAY_TO)  # before the ledger's first payment: not its business
    period = period_by_time(NETWORK, None, None)
    report = reconcile(period)
    assert period.blocks == 0
    assert report.in_order
    assert dollar(report).on_chain == dollar(report).receipts == NONE


def test_a_time_before_the_chain_has_no_blocks(chain):
    settled()
    year = datetime(2001, 1, 1, tzinfo=UTC)
    period = period_by_time(NETWORK, year, year + timedelta(days=1))
    assert (period.first, period.last, period.blocks) == (0, -1, 0)
    assert reconcile(period).in_order


def test_periods_in_time_are_those_blocks_that_lie_in_them(chain):
    started = int(time.time())
    chain.set_time(started + 1000)
    settled(valid_before=started + 9000)
    border = chain.height + 1
    chain.set_time(started + 2000)
    settled(valid_before=started + 9000)
    at = datetime.fromtimestamp(started + 2000, UTC)
    before, after = period_by_time(NETWORK, None, at), period_by_time(NETWORK, at, None)
    assert before.last == after.first - 1
    assert after.first >= border
    assert dollar(reconcile(before)).explained == Count(1, PRICE)
    assert dollar(reconcile(after)).explained == Count(1, PRICE)
    assert dollar(reconcile(period_by_time(NETWORK, None, None))).explained == Count(2, 2 * PRICE)


def test_the_chain_is_read_in_windows_and_refused_windows_in_halves(chain, settings, monkeypatch):
    for _ in range(3):
        settled()
        chain.mine(3)
    settings.X402 = x402_settings(LOG_RANGE=7)
    asked = []
    real = support.FaultyProvider.make_request

    def strict(self, method, params):
        if method == "eth_getLogs":
            first, last = (int(params[0][key], 16) for key in ("fromBlock", "toBlock"))
            asked.append(last - first + 1)
            if last - first + 1 > 3:
                raise Web3RPCError("too many", rpc_response={"error": {"code": -32000}})
        return real(self, method, params)

    monkeypatch.setattr(support.FaultyProvider, "make_request", strict)
    seen = []
    period = period_by_blocks(NETWORK, None, None)
    report = reconcile(period, progress=seen.append)
    assert (report.in_order, dollar(report).explained) == (True, Count(3, 3 * PRICE))
    assert max(asked) == 7
    assert seen == sorted(seen)
    assert seen[-1] == period.blocks


def test_a_node_that_is_down_is_no_answer(chain):
    settled()
    period = period_by_blocks(NETWORK, None, None)
    for methods in (("eth_getLogs",), ("*",)):
        with node_down(*methods), pytest.raises(RpcUnavailable):
            reconcile(period)


def test_a_reorganisation_meanwhile_is_no_answer(chain, monkeypatch):
    settled()
    period = period_by_blocks(NETWORK, None, None)
    real = booked.booked_by_transaction

    def reorganise(network, hashes):
        chain.reorg(1, keep_transactions=True)
        return real(network, hashes)

    monkeypatch.setattr("x402_django.payments.reconciliation.booked_by_transaction", reorganise)
    with pytest.raises(RpcUnavailable, match="reorganised while it was read"):
        reconcile(period)


def test_many_payments_in_small_chunks(chain, monkeypatch):
    monkeypatch.setattr("x402_django.payments.reconciliation.CHUNK", 2)
    monkeypatch.setattr(booked, "CHUNK", 2)
    payer = new_payer(chain, 1)
    for _ in range(7):
        settled(payer)
    report, findings = run()
    assert (report.in_order, findings) == (True, [])
    assert dollar(report).explained == Count(7, 7 * PRICE)
    assert chain.dollars(payer.address) == 10**6 - 7 * PRICE
