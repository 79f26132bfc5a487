"""Threat 9: the money is gone, or the authorization cancelled, between verify and settle."""

from __future__ import annotations

import pytest

from tests.payments.support import ago, signed_payment, stored
from tests.shop.runs import runs
from x402_django.exceptions import SettlementFailed
from x402_django.models import Payment
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer, PayingClient

pytestmark = pytest.mark.django_db(transaction=True)


def test_t09_who_let_a_settlement_fail_makes_no_view_work_for_nothing_again(buyer):
    failure = SettlementFailed(code="insufficient_funds")
    InstantFacilitator.script["settle"] = [failure]
    assert buyer.pay("GET", "/weather/").status_code == 402
    assert runs["weather"] == 1  # once: whose payment fails is known only afterwards

    for _ in range(3):
        InstantFacilitator.script["settle"] = [failure]
        assert buyer.pay("GET", "/weather/").status_code == 402
    assert runs["weather"] == 1
    assert set(Payment.objects.values_list("flow", flat=True)[:3]) == {"upfront"}

    assert buyer.pay("GET", "/weather/").status_code == 200  # honest again: served, settled first
    assert runs["weather"] == 2


def test_t09_other_payers_are_trusted_as_before(payer):
    stored("failed", signed_payment(Payer()))
    assert PayingClient(payer=payer).pay("GET", "/weather/").status_code == 200
    assert Payment.objects.first().flow == "authorization"


@pytest.mark.parametrize(("state", "flow"), [("failed", "upfront"), ("expired", "upfront")])
def test_t09_a_released_payment_presented_again_is_not_trusted_either(buyer, state, flow):
    buyer.pay("GET", "/broken/")
    stored(state, signed_payment(buyer.payer))
    buyer.get("/broken/", headers=buyer.last_headers)
    payment = Payment.objects.get(resource_url__endswith="/broken/")
    assert (payment.flow, payment.state) == (flow, "settled")


def test_t09_an_old_failure_is_forgotten(buyer):
    stored("failed", signed_payment(buyer.payer), state_changed_at=ago(604_801))
    assert buyer.pay("GET", "/weather/").status_code == 200
    assert Payment.objects.first().flow == "authorization"
