"""What payers owe under the flow ``deferred``, at the merchant's desk."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.test import Client

from tests.admin.rows import START, make_payment
from tests.admin.test_ledger import page

OWED = {"flow": "deferred", "transaction": "", "settled_at": None}


@pytest.fixture
def rows(db: None) -> None:
    make_payment(1)
    make_payment(2, state="verified", **OWED)
    make_payment(3, state="settling", price_usd=Decimal("0.021"), **OWED)
    make_payment(4, state="failed", **OWED)
    make_payment(5, state="expired", **OWED)
    make_payment(6, state="expired", **{**OWED, "delivered_at": None, "flow": "authorization"})
    make_payment(7, state="verified", payer="0x70997970C51812dc3A010C7d01b50e0d17dc79C8", **OWED)
    make_payment(8, flow="deferred", settled_at=START)


@pytest.mark.parametrize(("query", "expected"), [("unsettled", {2, 3, 7}), ("default", {4, 5})])
def test_who_owes_and_who_is_in_default_can_be_listed(rows, desk: Client, query, expected):
    answer = desk.get(f"{page('payment_changelist')}?attention={query}")
    assert {int(p.public_id, 16) for p in answer.context["cl"].result_list} == expected
    html = answer.content.decode()
    note = {"unsettled": "owed by the payer", "default": "in default"}[query]
    badge = f'<span class="x402-badge x402-badge-attention">{note}</span>'
    assert html.count(badge) == len(expected)


def test_a_payments_page_says_what_its_payer_owes_in_all(rows, desk: Client):
    from x402_django.models import Payment

    for number in (1, 2):
        payment = Payment.objects.get(public_id=f"{number:040x}")
        html = desk.get(page("payment_change", payment.pk)).content.decode()
        assert "$0.031 in 2 payments" in html
    Payment.objects.filter(public_id=f"{3:040x}").update(state="settled", transaction="0x1",
                                                         settled_at=START)  # fmt: skip
    assert "$0.01 in 1 payment<" in desk.get(page("payment_change", payment.pk)).content.decode()
