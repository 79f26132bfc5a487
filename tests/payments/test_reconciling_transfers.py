"""Ledger against chain where payers send their own transfers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.chain.support import NETWORK
from tests.http.proving import Agent, proof_settings, send_many
from tests.payments.onchain import stray_transfer
from tests.settings import PAY_TO
from x402_django import clock
from x402_django.models import Payment
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.period import period_by_blocks
from x402_django.payments.reconciliation import Count, Finding, Kind, Report, reconcile
from x402_django.testing.chain import dev_chain, reset_dev_chains
from x402_django.testing.payer import Payer, PayingClient

pytestmark = pytest.mark.django_db(transaction=True)

PRICE = 10_000
NONE = Count()


@pytest.fixture
def chain(settings):
    reset_dev_chains()
    settings.X402 = proof_settings()
    yield dev_chain(NETWORK)
    reset_dev_chains()


@pytest.fixture
def agent(chain) -> Agent:
    return Agent(chain)


def run() -> tuple[Report, list[Finding]]:
    findings: list[Finding] = []
    report = reconcile(period_by_blocks(NETWORK, None, None), found=findings.append)
    return report, findings


def explained(report: Report) -> tuple[Count, Count, Count]:
    (tally,) = report.tallies.values()
    return tally.on_chain, tally.explained, tally.receipts


def test_what_was_proven_is_explained_to_the_unit(chain, agent):
    """At the price and above it, two in one transaction, and a signed payment beside them."""
    assert agent.buy("/weather/?one").status_code == 200
    assert agent.buy("/weather/?two", amount=25_000).status_code == 200
    challenges = [agent.challenge("/weather/?three"), agent.challenge("/weather/?four")]
    transaction = send_many(agent.account, [(PAY_TO, PRICE), (PAY_TO, 12_000)])
    for challenge, path in zip(challenges, ("/weather/?three", "/weather/?four"), strict=True):
        assert agent.present(challenge, transaction, path).status_code == 200
    buyer = PayingClient(payer=Payer(agent.account))
    assert buyer.pay("GET", "/weather/?five").status_code == 200
    confirm_pending_payments()

    report, findings = run()

    total = Count(5, PRICE + 25_000 + PRICE + 12_000 + PRICE)
    assert chain.dollars(PAY_TO) == total.units
    assert (findings, report.in_order) == ([], True)
    assert explained(report) == (total, total, total)


def test_what_waits_for_its_depth_is_on_the_way(chain, agent, settings):
    settings.X402 = proof_settings(confirmations=30)
    challenge = agent.challenge()
    assert agent.present(challenge, agent.send(challenge)).status_code == 402
    with clock.shifted(timedelta(minutes=50)):
        report, [finding] = run()
        assert report.in_order
    assert finding.kind is Kind.ON_THE_WAY
    assert finding.payment is not None
    assert finding.payment.payment == Payment.objects.get().public_id
    with clock.shifted(timedelta(minutes=70)):  # nobody seems to look after it
        report, [finding] = run()
        assert (report.in_order, finding.kind) == (False, Kind.UNEXPLAINED)
        assert finding.payment.state == "settling"
    chain.mine(30)
    confirm_pending_payments()
    report, findings = run()
    assert (findings, report.in_order) == ([], True)


def test_what_was_presented_before_it_was_mined_is_on_the_way(chain, agent, settings):
    settings.X402 = proof_settings(confirmations=3)
    challenge = agent.challenge()
    agent.present(challenge, agent.send(challenge))
    Payment.objects.update(block_number=None, block_hash="", log_index=None)
    _, [finding] = run()
    assert finding.kind is Kind.ON_THE_WAY


def test_what_nobody_proved_is_unexplained(chain, agent):
    """A transfer that was too small, refused and not booked; one that failed; and a stranger's."""
    challenge = agent.challenge()
    assert agent.present(challenge, agent.send(challenge, amount=5)).status_code == 402
    assert agent.buy().status_code == 200
    stray_transfer(PAY_TO, 7)
    report, findings = run()
    assert not report.in_order
    assert [(one.kind, one.transfer.value, one.payment) for one in findings] == [
        (Kind.UNEXPLAINED, 5, None),
        (Kind.UNEXPLAINED, 7, None),
    ]
    assert explained(report) == (Count(3, PRICE + 12), Count(1, PRICE), Count(1, PRICE))


def test_a_second_transfer_beside_a_booked_one_is_not_taken_for_it(chain, agent):
    challenge = agent.challenge()
    transaction = send_many(agent.account, [(PAY_TO, PRICE), (PAY_TO, PRICE)])
    assert agent.present(challenge, transaction).status_code == 200
    report, [finding] = run()
    assert (finding.kind, finding.transfer.log_index, finding.payment) == (
        Kind.UNEXPLAINED,
        1,
        None,
    )
    assert explained(report) == (Count(2, 2 * PRICE), Count(1, PRICE), Count(1, PRICE))


def test_one_that_failed_is_named(chain, agent):
    challenge = agent.challenge()
    transaction = agent.send(challenge)
    assert agent.present(challenge, transaction).status_code == 200
    payment = Payment.objects.get()
    payment.receipt.__class__.objects.filter(pk=payment.receipt.pk)._raw_delete("default")
    Payment.objects.update(state="failed", log_index=None, block_number=None)
    report, [finding] = run()
    assert (report.in_order, finding.kind) == (False, Kind.UNEXPLAINED)
    assert (finding.payment.payment, finding.payment.state) == (payment.public_id, "failed")


def test_one_that_a_reorganisation_took_away_has_no_transfer(chain, agent):
    assert agent.buy().status_code == 200
    chain.reorg(1)
    confirm_pending_payments()
    assert Payment.objects.get().state == "reversed"
    report, [finding] = run()
    assert (report.in_order, finding.kind) == (False, Kind.WITHOUT_TRANSFER)
    assert finding.receipt is not None
    assert finding.receipt.transaction == Payment.objects.get().transaction
