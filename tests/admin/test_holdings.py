"""Passes and credits at the desk: the form that sells them, and the lists of what was sold."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.admin.rows import make_method, make_payment, make_rule
from x402_django.models import (
    CreditAccount,
    CreditEntry,
    HoldingUse,
    Membership,
    Merchant,
    Pass,
    PriceRule,
)
from x402_django.testing.payer import Payer, PayingClient

pytestmark = pytest.mark.django_db

FORM = {
    "name": "Day pass",
    "active": "on",
    "priority": "0",
    "url_names": ["shop:article"],
    "price_usd": "0.20",
    "grants": "pass",
    "effect": "charge",
}


@pytest.fixture
def desk(admin_client: Client) -> Client:
    make_method()
    return admin_client


def add(desk: Client, **changes: Any) -> Any:
    return desk.post(reverse("admin:x402_django_pricerule_add"), {**FORM, **changes})


def errors(response: Any) -> dict[str, list[str]]:
    assert response.status_code == 200
    found: dict[str, list[str]] = response.context["adminform"].form.errors
    return found


def test_a_merchant_sells_a_pass_and_a_buyer_uses_it(desk: Client) -> None:
    assert add(desk, pass_hours="24", pass_pages=["shop:weather"]).status_code == 302
    rule = PriceRule.objects.get()
    assert (rule.pass_hours, rule.pass_pages) == (24, ["shop:weather"])
    token = PayingClient(payer=Payer()).get("/articles/a/")["X-402-Access"]
    assert Client().get("/weather/", headers={"X-402-Access": token}).status_code == 200

    listed = desk.get(reverse("admin:x402_django_pass_changelist")).content.decode()
    assert "any number" in listed
    held = Pass.objects.get()
    page = desk.get(reverse("admin:x402_django_pass_change", args=[held.pk])).content.decode()
    assert "shop:article<br>shop:weather" in page
    payment = reverse("admin:x402_django_payment_change", args=[held.payment_id])
    assert "a pass for 24 hours" in desk.get(payment).content.decode()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "A pass needs a number of hours, of uses, or both."),
        (
            {"pass_hours": "1", "takes_credits": "on"},
            "Only a single request with a price in US dollars can be paid with credits.",
        ),
        (
            {"pass_hours": "1", "flow": "deferred"},
            "A pass or credits are sold for a fixed price that is settled at once: leave the "
            "price of a unit empty, and do not defer.",
        ),
        (
            {"grants": "credits", "price_usd": "", "token_amount": "5"},
            "Say how many credits are bought; with a price in token units it is not known.",
        ),
    ],
)
def test_what_cannot_be_sold_is_said(desk: Client, changes: Any, sentence: str) -> None:
    assert [sentence] in errors(add(desk, **changes)).values()
    assert not PriceRule.objects.exists()


def test_a_pass_opens_no_other_merchants_pages(desk: Client) -> None:
    from x402_django.models import MerchantPage

    other = Merchant.objects.create(name="Other")
    MerchantPage.objects.create(merchant=other, name="shop:weather")
    found = errors(add(desk, merchant="1", pass_hours="1", pass_pages=["shop:weather"]))
    assert "is not among the pages of this merchant" in found["pass_pages"][0]


def sold(merchant: Merchant) -> tuple[Pass, CreditAccount, HoldingUse]:
    now = timezone.now()
    payment = make_payment(merchant.pk, merchant=merchant, grant={"kind": "pass", "pages": []})
    held = Pass.objects.create(
        payment=payment, merchant=merchant, payer=payment.payer, uses=3, created_at=now,
        expires_at=now + timedelta(hours=1),
    )  # fmt: skip
    account = CreditAccount.objects.create(
        merchant=merchant, payer=payment.payer, network=payment.network, balance=498_000_000,
        created_at=now,
    )  # fmt: skip
    use = HoldingUse.objects.create(
        merchant=merchant, account=account, held=2_000_000, charged=2_000_000, state="charged",
        request_method="GET", request_fingerprint="f" * 64, resource_url="https://shop.example/x/",
        started_at=now, ended_at=now,
    )  # fmt: skip
    for amount, balance in ((500_000_000, 500_000_000), (-2_000_000, 498_000_000)):
        CreditEntry.objects.create(
            account=account, at=now, kind="spent" if amount < 0 else "top_up", amount=amount,
            balance=balance,
        )  # fmt: skip
    return held, account, use


def test_the_account_shows_its_entries(desk: Client) -> None:
    _, account, _ = sold(Merchant.objects.get())
    url = reverse("admin:x402_django_creditaccount_change", args=[account.pk])
    page = desk.get(url).content.decode()
    for text in ("$4.98", "−$0.02", "+$5.00"):
        assert text in page
    uses = desk.get(reverse("admin:x402_django_holdinguse_changelist")).content.decode()
    assert "$0.02" in uses


def test_a_pass_is_revoked_once_and_by_who_may(desk: Client) -> None:
    held, _, _ = sold(Merchant.objects.get())
    url = reverse("admin:x402_django_pass_changelist")
    chosen = {"action": "revoke", "_selected_action": [str(held.pk)]}

    looker = User.objects.create_user("looker", password="x", is_staff=True)
    looker.user_permissions.set(Permission.objects.filter(codename="view_pass"))
    other = Client()
    other.force_login(looker)
    other.post(url, chosen)
    held.refresh_from_db()
    assert held.revoked_at is None

    assert "1 pass was revoked." in desk.post(url, chosen, follow=True).content.decode()
    held.refresh_from_db()
    revoked = held.revoked_at
    assert revoked is not None
    assert "0 passes were revoked." in desk.post(url, chosen, follow=True).content.decode()
    held.refresh_from_db()
    assert held.revoked_at == revoked


def test_a_member_of_another_merchant_reaches_none_of_it() -> None:
    first, other = Merchant.objects.get(), Merchant.objects.create(name="Other")
    theirs, mine = sold(first), sold(other)
    member = User.objects.create_user("member", password="x", is_staff=True)
    names = ("pass", "creditaccount", "holdinguse")
    codes = [f"{may}_{name}" for name in names for may in ("view", "change")]
    member.user_permissions.set(Permission.objects.filter(codename__in=codes))
    Membership.objects.create(merchant=other, user=member)
    client = Client()
    client.force_login(member)
    for name, their, my in zip(names, theirs, mine, strict=True):
        change = f"admin:x402_django_{name}_change"
        assert client.get(reverse(change, args=[their.pk])).status_code == 302
        assert client.get(reverse(change, args=[my.pk])).status_code == 200
        listed = client.get(reverse(f"admin:x402_django_{name}_changelist"))
        assert [row.pk for row in listed.context["cl"].result_list] == [my.pk]
    chosen = {"action": "revoke", "_selected_action": [str(theirs[0].pk)]}
    client.post(reverse("admin:x402_django_pass_changelist"), chosen)
    theirs[0].refresh_from_db()
    assert theirs[0].revoked_at is None


def test_the_number_of_queries_does_not_grow(desk: Client, django_assert_max_num_queries) -> None:
    merchant = Merchant.objects.get()
    sold(merchant)
    rule = make_rule(price_usd=Decimal("0.02"))
    account = CreditAccount.objects.get()
    for number in range(20):
        HoldingUse.objects.create(
            merchant=merchant, account=account, held=number, state="held", rule=rule,
            request_method="GET", request_fingerprint="f" * 64, resource_url="https://x/",
            started_at=timezone.now(),
        )  # fmt: skip
    with django_assert_max_num_queries(10):
        desk.get(reverse("admin:x402_django_holdinguse_changelist"))
