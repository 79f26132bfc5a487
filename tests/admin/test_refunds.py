"""Refunds at the desk: two people, the limit, what others may not reach."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from tests.admin.rows import make_payment, make_receipt
from x402_django import clock
from x402_django.models import (
    Membership,
    Merchant,
    Payment,
    Refund,
    RefundEvent,
    RefundReceipt,
)
from x402_django.payments.refunds import requesting

pytestmark = pytest.mark.django_db

CODES = (
    "view_payment", "view_refund", "add_refund", "approve_refund", "view_refundreceipt",
)  # fmt: skip


def person(name: str, *codes: str, merchant: Merchant | None = None) -> Client:
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codes or CODES))
    if merchant is not None:
        Membership.objects.create(merchant=merchant, user=user)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def payment() -> Payment:
    """Ten cents, final and delivered."""
    return make_payment(
        1, state="final", amount=100_000, price_usd=Decimal("0.10"), delivered_at=clock.now()
    )


def url(name: str, *args: Any) -> str:
    return reverse(f"admin:x402_django_{name}", args=args)


def refund(client: Client, payment: Payment, amount: str, reason: str = "") -> Any:
    data = {"amount": amount, "reason": reason}
    return client.post(url("payment_refund", payment.pk), data, follow=True)


def decide(client: Client, decision: str, **data: str) -> Any:
    page = url("refund_decide", Refund.objects.get().pk)
    return client.post(page, {"decision": decision, **data}, follow=True)


def test_a_part_is_refunded_from_the_payments_page(payment: Payment) -> None:
    clerk = person("clerk")
    page = clerk.get(url("payment_change", payment.pk)).content.decode()
    form = url("payment_refund", payment.pk)
    assert form in page
    shown = clerk.get(form).content.decode()
    assert 'value="0.10"' in shown
    assert "0.10 USDC can be given back" in shown

    answer = refund(clerk, payment, "0.025", "Half a page")
    assert "sent as soon as the payment is final" in answer.content.decode()
    row = Refund.objects.get()
    assert (row.amount, row.price_usd, row.state, row.requested_name) == (
        25_000, Decimal("0.025"), "approved", "clerk",
    )  # fmt: skip
    page = clerk.get(url("payment_change", payment.pk)).content.decode()
    assert "0.025 USDC" in page
    assert payment.refunds.get() == row


@pytest.mark.parametrize(
    ("amount", "sentence"),
    [
        ("0.1000001", "The token has no such small parts."),
        ("0.11", "That is more than is left of this payment."),
        ("0", "That is nothing."),
        ("-1", "greater than or equal to 0"),
        ("ten", "Enter a number."),
    ],
)
def test_what_cannot_be_refunded_is_said(payment: Payment, amount: str, sentence: str) -> None:
    answer = refund(person("clerk"), payment, amount)
    assert answer.status_code == 400
    assert sentence in answer.content.decode()
    assert not Refund.objects.exists()


def test_a_second_person_approves_above_the_limit(payment: Payment, settings: Any) -> None:
    settings.X402 = {**settings.X402, "REFUND_APPROVAL_ABOVE": "0.05"}
    clerk, boss = person("clerk"), person("boss")
    assert "waits for a second person" in refund(clerk, payment, "0.10").content.decode()
    own = clerk.get(url("refund_change", Refund.objects.get().pk)).content.decode()
    assert "somebody else" in own
    assert 'value="approve"' not in own
    assert "Somebody else must approve" in decide(clerk, "approve").content.decode()
    assert Refund.objects.get().state == "requested"

    other = boss.get(url("refund_change", Refund.objects.get().pk)).content.decode()
    assert 'value="approve"' in other
    assert "The refund is now: to be sent." in decide(boss, "approve").content.decode()
    assert Refund.objects.get().approved_name == "boss"
    assert "Somebody else has decided" in decide(boss, "approve").content.decode()
    steps = RefundEvent.objects.order_by("pk").values_list("from_state", "to_state", "actor")
    assert list(steps) == [
        ("", "requested", "clerk"), ("requested", "approved", "boss"),
    ]  # fmt: skip


def test_a_rejected_refund_can_be_asked_for_again(payment: Payment) -> None:
    clerk, boss = person("clerk"), person("boss")
    refund(clerk, payment, "0.10")
    decide(boss, "reject")
    assert Refund.objects.get().state == "rejected"
    assert requesting.refundable(payment) == 100_000


def test_who_may_not_is_refused(payment: Payment) -> None:
    looker = person("looker", "view_payment", "view_refund")
    page = looker.get(url("payment_change", payment.pk)).content.decode()
    assert url("payment_refund", payment.pk) not in page
    assert looker.get(url("payment_refund", payment.pk)).status_code == 403
    assert refund(looker, payment, "0.01").status_code == 403
    assert looker.post(url("payment_deliver", payment.pk)).status_code == 403
    requesting.request_refund(payment, 1, user=User.objects.create_user("x"))
    for decision in ("approve", "reject", "enter"):
        assert decide(looker, decision).status_code == 403
    actions = {"action": "refund_whole", "_selected_action": [payment.pk]}
    looker.post(url("payment_changelist"), actions)
    assert Refund.objects.count() == 1


def test_a_get_decides_nothing(payment: Payment) -> None:
    boss = person("boss")
    refund(person("clerk"), payment, "0.10")
    row = Refund.objects.get()
    boss.get(url("refund_decide", row.pk), {"decision": "reject"})
    boss.get(url("payment_deliver", payment.pk))
    assert Refund.objects.get().state == "approved"
    payment.refresh_from_db()
    assert payment.delivered_at is not None


def test_owed_payments_are_refunded_or_delivered_in_one_action() -> None:
    clerk = person("clerk")
    rows = [
        make_payment(n, state="final", delivered_at=None, response_body=None) for n in (1, 2, 3)
    ]
    owed = clerk.get(url("payment_changelist"), {"attention": "owed"})
    assert len(owed.context["cl"].result_list) == 3
    clerk.post(
        url("payment_changelist"),
        {"action": "refund_whole", "_selected_action": [rows[0].pk, rows[1].pk]},
    )
    assert Refund.objects.filter(ends_debt=True, is_whole=True).count() == 2
    again = {"action": "refund_whole", "_selected_action": [rows[0].pk]}
    text = clerk.post(url("payment_changelist"), again, follow=True).content.decode()
    assert "That is nothing." in text
    owed = clerk.get(url("payment_changelist"), {"attention": "owed"})
    assert [row.pk for row in owed.context["cl"].result_list] == [rows[2].pk]
    text = clerk.post(
        url("payment_changelist"),
        {"action": "deliver_once_more", "_selected_action": [row.pk for row in rows]},
        follow=True,
    ).content.decode()
    assert "1 payment is owed to its payer again." in text


def test_a_member_of_another_merchant_reaches_none_of_it(payment: Payment) -> None:
    other = Merchant.objects.create(name="Other")
    Membership.objects.create(
        merchant=Merchant.objects.get(pk=1), user=User.objects.create_user("ours")
    )
    requesting.request_refund(payment, 1_000, user=User.objects.get(username="ours"))
    row = Refund.objects.get()
    receipt = make_refund_receipt(row)
    thief = person("thief", merchant=other)
    for page in (
        url("payment_refund", payment.pk), url("refund_change", row.pk),
        url("refundreceipt_change", receipt.pk),
    ):  # fmt: skip
        assert thief.get(page).status_code in (302, 404)
    assert thief.post(url("payment_refund", payment.pk), {"amount": "0.01"}).status_code == 404
    assert thief.post(url("payment_deliver", payment.pk)).status_code == 404
    for decision in ("approve", "reject", "enter"):
        answer = thief.post(url("refund_decide", row.pk), {"decision": decision})
        assert answer.status_code == 404
    for name in ("refund", "refundreceipt"):
        listed = thief.get(url(f"{name}_changelist"))
        assert list(listed.context["cl"].result_list) == []
    chosen = {"action": "reject", "_selected_action": [row.pk]}
    thief.post(url("refund_changelist"), chosen)
    assert Refund.objects.get().state == "approved"
    exported = thief.get(
        url("receipt_export"),
        {"first": "2020-01-01", "last": "2030-01-01", "subject": "refunds", "file_format": "csv"},
    )
    assert exported.status_code == 403 or receipt.reference not in "".join(
        part.decode() for part in exported.streaming_content
    )


def make_refund_receipt(row: Refund) -> RefundReceipt:
    return RefundReceipt.objects.create(
        refund=row, merchant=row.merchant, issued_at=clock.now(), network=row.network,
        asset=row.asset, asset_symbol=row.asset_symbol, asset_decimals=row.asset_decimals,
        amount=row.amount, price_usd=row.price_usd, payer=row.payer,
        sender="0x" + "1" * 40, transaction="0x" + "ab" * 32,
        resource_url="https://shop.example/weather/", reason="=1+1",
    )  # fmt: skip


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "beancount"])
def test_refunds_are_exported_as_negative_amounts(
    payment: Payment, admin_client: Client, file_format: str
) -> None:
    make_receipt(payment)
    row = requesting.request_refund(payment, 25_000, user=User.objects.create_user("x"))
    receipt = make_refund_receipt(row)
    file = admin_client.get(
        url("receipt_export"),
        {
            "first": "2020-01-01", "last": "2100-01-01", "subject": "refunds",
            "file_format": file_format,
        },
    )  # fmt: skip
    text = "".join(part.decode() for part in file.streaming_content)
    assert receipt.reference in text
    assert "-0.025" in text
    if file_format == "csv":
        assert ",'=1+1," in text or '"\'=1+1"' in text  # no formula
    if file_format == "beancount":
        assert "Income:X402:Refunds  0.025 USDC" in text


def test_the_payer_reads_of_it_on_the_status_page(payment: Payment, settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.admin.urls"
    row = requesting.request_refund(
        payment, 25_000, user=User.objects.create_user("x"), reason="Half a page"
    )
    page = reverse("x402:payment-status", args=[payment.public_id])
    facts = Client().get(page).json()["refunds"]
    assert facts == [
        {
            "refund": row.public_id,
            "state": "approved",
            "amount": "25000",
            "text": "0.025 USDC",
            "arrived": False,
            "reason": "Half a page",
            "transaction": None,
        }
    ]
    html = Client().get(page, headers={"Accept": "text/html"}).content.decode()
    assert "0.025 USDC" in html
    assert "to be sent" in html
    requesting.reject(row, user=User.objects.create_user("y"))
    assert "refunds" not in Client().get(page).json()
