"""Threat 26: one merchant's staff at another merchant's prices, payments and receipts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from tests.admin.rows import START, make_method, make_payment, make_receipt, make_rule
from tests.shop.runs import runs
from x402_django import clock
from x402_django.constants import DEFAULT_MERCHANT
from x402_django.desk.following import count_days
from x402_django.models import (
    Membership,
    Merchant,
    MerchantPage,
    Payment,
    PaymentEvent,
    PaymentMethod,
    PriceRule,
)
from x402_django.testing.payer import decode

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

THEIRS = "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"
MODELS = ("paymentmethod", "pricerule", "payment", "receipt")


@pytest.fixture
def bakery() -> Merchant:
    """Another merchant, to whom the page of plans belongs."""
    merchant = Merchant.objects.create(name="Bakery")
    MerchantPage.objects.create(merchant=merchant, name="shop:plan")
    return merchant


@pytest.fixture
def baker(bakery: Merchant) -> Client:
    """A member of the bakery with every permission that a merchant's staff could have."""
    user = User.objects.create_user("baker", password="x", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="x402_django").exclude(
            codename="all_merchants"
        )
    )
    Membership.objects.create(merchant=bakery, user=user)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def others() -> dict[str, Any]:
    """What belongs to the site's own merchant."""
    method = make_method(name="The site's own way")
    rule = make_rule(name="The site's own price")
    rule.payment_methods.add(method)
    payment = make_payment(1, rule=rule, rule_name=rule.name)
    return {
        "paymentmethod": method,
        "pricerule": rule,
        "payment": payment,
        "receipt": make_receipt(payment),
    }


def page(model: str, name: str, *args: Any) -> str:
    return reverse(f"admin:x402_django_{model}_{name}", args=args)


@pytest.mark.parametrize("model", MODELS)
def test_t26_lists_show_only_ones_own(
    model: str, baker: Client, bakery: Merchant, others: dict[str, Any]
) -> None:
    other = str(others[model])
    html = baker.get(page(model, "changelist")).content.decode()
    assert other not in html
    assert str(others[model].pk) not in [
        str(row.pk) for row in baker.get(page(model, "changelist")).context["cl"].result_list
    ]
    searched = baker.get(page(model, "changelist"), {"q": other})
    assert list(searched.context["cl"].result_list) == []
    by_merchant = baker.get(page(model, "changelist"), {"merchant": DEFAULT_MERCHANT})
    if by_merchant.status_code == 200:  # else sent back: there is no such filter
        assert list(by_merchant.context["cl"].result_list) == []


@pytest.mark.parametrize("name", ["change", "history", "delete"])
@pytest.mark.parametrize("model", MODELS)
def test_t26_pages_by_url_are_refused(
    model: str, name: str, baker: Client, others: dict[str, Any]
) -> None:
    answer = baker.get(page(model, name, others[model].pk))
    assert answer.status_code in (302, 403)
    if answer.status_code == 302:  # "doesn't exist", on the way to the index
        assert answer["Location"] == reverse("admin:index")
    assert baker.post(page(model, name, others[model].pk), {"post": "yes"}).status_code in (
        302,
        403,
        405,
    )
    assert type(others[model])._default_manager.filter(pk=others[model].pk).exists()


def test_t26_a_price_of_others_cannot_be_edited_or_previewed(
    baker: Client, others: dict[str, Any]
) -> None:
    rule = others["pricerule"]
    form = {"name": "Mine now", "price_usd": "0.0001", "url_names": ["shop:plan"], "priority": 9}
    answer = baker.post(page("pricerule", "change", rule.pk), form)
    assert (answer.status_code, answer["Location"]) == (302, reverse("admin:index"))
    preview = f"{page('pricerule', 'preview')}?rule={rule.pk}"
    shown = baker.post(preview, form).content.decode()
    assert "The site's own" not in shown
    rule.refresh_from_db()
    assert (rule.name, rule.merchant_id) == ("The site's own price", DEFAULT_MERCHANT)


def test_t26_the_dashboard_adds_up_only_ones_own(
    baker: Client, bakery: Merchant, others: dict[str, Any]
) -> None:
    make_receipt(make_payment(7, merchant=bakery, price_usd="3"), merchant=bakery)
    with clock.shifted(START - clock.now() + timedelta(days=1)):
        count_days()
        for query in ("", f"?merchant={DEFAULT_MERCHANT}"):
            answer = baker.get(f"/admin/x402_django/desk/{query}")
            assert [tile["value"] for tile in answer.context["tiles"][:2]] == ["$3.00", "1"]
            assert answer.context["wallets"] is None
            assert Merchant.objects.get(pk=DEFAULT_MERCHANT).name not in answer.content.decode()


def test_t26_histories_of_others_are_not_listed(baker: Client, others: dict[str, Any]) -> None:
    PaymentEvent.objects.bulk_create(
        [
            PaymentEvent(
                payment=others["payment"],
                at=others["payment"].created_at,
                from_state="settling",
                to_state="settled",
                reason="Of the site's own",
                actor="request",
            )
        ]
    )
    answer = baker.get(page("paymentevent", "changelist"))
    assert list(answer.context["cl"].result_list) == []


@pytest.mark.parametrize(
    "model",
    [
        "chaintransaction",
        "chaintransactionitem",
        "settlementwallet",
        "settlementlane",
        "chainscan",
        "periodicrun",
        "facilitatorkey",
        "servicepayment",
    ],
)
def test_t26_what_is_the_sites_is_refused(model: str, baker: Client) -> None:
    assert baker.get(page(model, "changelist")).status_code == 403


def test_t26_nobody_takes_a_page_or_a_payee_of_others(
    baker: Client, bakery: Merchant, others: dict[str, Any]
) -> None:
    """A price on the site's page, in the name of the site, or paid to the site: all refused."""
    mine = make_method(name="Bakery's", pay_to=THEIRS, merchant=bakery)
    form: dict[str, Any] = {
        "name": "Stolen",
        "active": "on",
        "priority": "99",
        "price_usd": "0.01",
        "grants": "request",
        "effect": "charge",
        "payment_methods": [mine.pk],
    }
    form |= dict.fromkeys(("valid_from_0", "valid_from_1", "valid_until_0", "valid_until_1"), "")
    add = page("pricerule", "add")
    stolen = baker.post(add, {**form, "url_names": ["shop:article"]})
    assert list(stolen.context["adminform"].form.errors) == ["url_names"]
    named = baker.post(add, {**form, "url_names": ["shop:plan"], "merchant": DEFAULT_MERCHANT})
    assert list(named.context["adminform"].form.errors) == ["merchant"]
    paid = {"url_names": ["shop:plan"], "payment_methods": [others["paymentmethod"].pk]}
    assert list(baker.post(add, {**form, **paid}).context["adminform"].form.errors) == [
        "payment_methods"
    ]
    assert PriceRule.objects.count() == 1
    assert baker.post(add, {**form, "url_names": ["shop:plan"]}).status_code == 302
    assert PriceRule.objects.get(name="Stolen").merchant == bakery


def test_t26_members_cannot_take_in_others_or_pages(baker: Client, bakery: Merchant) -> None:
    form = {
        "name": "Bakery",
        "address": "1 Oven Street",
        "tax_id": "",
        "note": "",
        "pages-TOTAL_FORMS": "1",
        "pages-INITIAL_FORMS": "0",
        "pages-0-name": "shop:article",
        "membership_set-TOTAL_FORMS": "1",
        "membership_set-INITIAL_FORMS": "0",
        "membership_set-0-user": User.objects.create_user("friend").pk,
    }
    assert baker.post(page("merchant", "change", bakery.pk), form).status_code == 302
    bakery.refresh_from_db()
    assert bakery.address == "1 Oven Street"
    assert [one.name for one in bakery.pages.all()] == ["shop:plan"]
    assert [one.username for one in bakery.members.all()] == ["baker"]
    assert baker.get(page("merchant", "change", DEFAULT_MERCHANT)).status_code == 302
    assert baker.get(page("merchant", "add")).status_code == 403


def test_t26_rows_written_past_the_form_price_and_pay_nobody_elses_page(
    client: Client, buyer: Any, bakery: Merchant
) -> None:
    """As a script or a careless migration would: what is compiled holds the line, too."""
    mine = make_method(name="Bakery's", pay_to=THEIRS, merchant=bakery)
    thief = make_rule(
        name="Stolen", url_names=["shop:article"], priority=99, price_usd="9", merchant=bakery
    )
    thief.payment_methods.add(mine)
    make_rule(name="Own", url_names=["shop:article"], price_usd="0.5")
    offers = decode(client.get("/articles/a/")["PAYMENT-REQUIRED"])["accepts"]
    assert [one["amount"] for one in offers] == ["500000"]
    assert THEIRS not in [one["payTo"] for one in offers]


def test_t26_a_sale_belongs_to_who_sells_the_page(buyer: Any, bakery: Merchant) -> None:
    """Price, payee, payment and receipt; where the code gives the price as well."""
    make_method(name="Bakery's", pay_to=THEIRS, merchant=bakery)
    make_method(name="The site's own")
    make_rule(name="Articles", price_usd="0.5")
    runs.clear()
    assert buyer.pay("GET", "/plan/7/").status_code == 200
    assert buyer.pay("GET", "/articles/a/").status_code == 200
    sold = {
        payment.request_method + payment.resource_url.split("/", 3)[3]: (
            payment.merchant.name,
            payment.receipt.merchant.name,
            payment.pay_to == THEIRS,
        )
        for payment in Payment.objects.all()
    }
    assert sold == {
        "GETplan/7/": ("Bakery", "Bakery", True),
        "GETarticles/a/": ("This site", "This site", False),
    }


def test_t26_without_a_way_of_being_paid_nobody_else_is_paid(
    client: Client, bakery: Merchant
) -> None:
    make_method(name="The site's own")
    assert client.get("/plan/7/").status_code == 503
    assert Payment.objects.count() == 0


def test_t26_one_merchant_is_noticed_by_nobody(client: Client, others: dict[str, Any]) -> None:
    clerk = User.objects.create_user("clerk", password="x", is_staff=True)
    clerk.user_permissions.set(
        Permission.objects.filter(codename__in=["view_payment", "add_pricerule", "view_pricerule"])
    )
    client.force_login(clerk)
    assert [row.pk for row in client.get(page("payment", "changelist")).context["cl"].queryset] == [
        others["payment"].pk
    ]
    html = client.get(page("pricerule", "add")).content.decode()
    assert 'type="hidden" name="merchant" value="1"' in html
    assert PaymentMethod.objects.get().merchant_id == DEFAULT_MERCHANT
