"""Ledger against chain, for what Permit2 has moved: nothing on chain names such a payment."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.chain.fixtures import chain
from tests.chain.permits import approving_payer, permit2_offer, sign_permit, submit, submit_together
from tests.chain.permits import settle_data as data_of
from tests.chain.support import NETWORK, PRICE, TOKEN_ADDRESS, direct, store, x402_settings
from tests.settings import PAY_TO
from x402_django import clock
from x402_django.facilitators.base import get_facilitator
from x402_django.payments.period import period_by_blocks
from x402_django.payments.reconciliation import Count, Finding, Kind, reconcile
from x402_django.payments.recording import mark_settled
from x402_django.protocol.transfer_methods import PROXIES

__all__ = ["chain"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def settings_for(chain, settings):
    settings.X402 = x402_settings()


def run() -> tuple[object, list[Finding]]:
    findings: list[Finding] = []
    report = reconcile(period_by_blocks(NETWORK, None, None), found=findings.append)
    return report.tallies[TOKEN_ADDRESS], findings


@pytest.mark.parametrize("scheme", ["exact", "upto"])
def test_a_pending_payment_is_on_the_way(chain, scheme) -> None:
    signed = sign_permit(approving_payer(), permit2_offer(scheme=scheme))
    if scheme == "upto":
        signed = replace(signed, charged=4_200)
    payment = store(signed)
    settlement = get_facilitator("default").settle(signed, payment)

    tally, [finding] = run()
    assert tally.on_the_way == tally.on_chain == Count(1, signed.amount)
    assert (finding.kind, finding.payment.payment) == (Kind.ON_THE_WAY, payment.public_id)
    assert tally.in_order

    with clock.shifted(timedelta(hours=1)):  # by then it should have its receipt
        tally, [finding] = run()
    assert (finding.kind, finding.payment.payment) == (Kind.UNEXPLAINED, payment.public_id)

    mark_settled(payment, settlement, {}, actor="test")
    tally, findings = run()
    assert (findings, tally.explained) == ([], Count(1, signed.amount))


def test_each_transfer_is_its_own_payments(chain) -> None:
    """One payer, one amount, one transaction; one of the two was presented here."""
    account = approving_payer()
    ours, foreign = sign_permit(account), sign_permit(account)
    payment = store(ours)
    proxy = PROXIES["exact"]
    transaction = submit_together((proxy, data_of(foreign)), (proxy, data_of(ours)))

    tally, findings = run()

    assert (tally.on_the_way, tally.unexplained) == (Count(1, PRICE), Count(1, PRICE))
    kinds = {
        finding.transfer.log_index: (finding.kind, finding.payment and finding.payment.payment)
        for finding in findings
    }
    moved = [
        log["logIndex"]
        for log in direct().eth.get_transaction_receipt(transaction)["logs"]
        if log["address"] == TOKEN_ADDRESS and PAY_TO[2:].lower() in log["topics"][-1].hex()
    ]
    assert kinds == {
        moved[0]: (Kind.UNEXPLAINED, None),
        moved[1]: (Kind.ON_THE_WAY, payment.public_id),
    }


def test_what_was_never_presented_stays_unexplained(chain) -> None:
    submit(sign_permit(approving_payer()))
    tally, [finding] = run()
    assert (tally.unexplained, finding.payment) == (Count(1, PRICE), None)
    assert not tally.in_order
