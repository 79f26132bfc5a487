"""“What would this request cost?”: the desk says what HTTP answers, and why."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from tests.admin.rows import make_method, make_rule
from x402_django.models import Membership, Merchant, Payment, PriceRule
from x402_django.pricing.cache import forget_rules
from x402_django.testing.payer import decode

pytestmark = pytest.mark.django_db

URL = "/admin/x402_django/pricerule/try/"


@pytest.fixture
def desk(admin_client: Client) -> Client:
    make_method()
    return admin_client


def ask(client: Client, url: str = "/articles/a/", status: int = 200, **asked: str) -> Any:
    answer = client.get(URL, {"url": url, "method": "GET", **asked})
    assert answer.status_code == status, answer.content
    return answer.context["answer"] if status == 200 else answer.context["form"].errors


def test_the_price_and_the_ways_to_pay_it(desk: Client) -> None:
    make_rule(name="Articles", price_usd=Decimal("0.05"))
    answer = ask(desk, "https://shop.example/articles/a/?page=2")
    assert (answer.page, answer.price, answer.ways) == (
        "shop:article", "$0.05", ["0.05 USDC on Base Sepolia"],
    )  # fmt: skip
    assert answer.source == "the rule “Articles”"
    assert not Payment.objects.exists()
    page = desk.get(URL, {"url": "/articles/a/", "method": "GET"}).content.decode()
    assert "$0.05" in page
    assert "this one" in page


def test_why_a_rule_applies_and_another_does_not(desk: Client) -> None:
    group = Group.objects.create(name="press")
    make_rule(name="Press", price_usd=Decimal("0.01"), priority=2, groups=[group.pk])
    make_rule(name="Get", price_usd=Decimal("0.05"), methods=["GET"])
    ann = User.objects.create_user("ann")
    answer = ask(desk, user="ann")
    assert [(c.rule.name, c.is_chosen) for c in answer.candidates] == [
        ("Press", False), ("Get", True),
    ]  # fmt: skip
    assert [(v.words, v.holds) for v in answer.candidates[0].verdicts] == [
        ("a member of its groups", False)
    ]
    ann.groups.add(group)
    answer = ask(desk, user="ann")
    assert answer.price == "$0.01"
    assert answer.candidates[1].applies
    assert not answer.candidates[1].is_chosen
    assert ask(desk, method="POST").outcome.startswith("Free: no rule applies")


def test_prices_of_the_code_and_pages_that_are_free(desk: Client) -> None:
    answer = ask(desk, "/weather/")
    assert (answer.price, answer.source) == ("$0.01", "the code")
    assert ask(desk, "/free/").outcome.startswith("Free")
    assert ask(desk, "/nowhere/").problem == "There is no page at this address."
    make_rule(name="Guests", url_names=["shop:weather"], effect="free", price_usd=None)
    forget_rules()
    assert ask(desk, "/weather/").outcome == "Free of charge."


def test_a_rule_below_that_cannot_be_judged_changes_nothing(desk: Client) -> None:
    make_rule(name="First", price_usd=Decimal("0.05"), priority=1)
    make_rule(name="Germans", price_usd=Decimal("0.01"), countries=["DE"])
    answer = ask(desk)
    assert (answer.price, answer.problem) == ("$0.05", "")
    assert "COUNTRY_HEADER" in answer.candidates[1].verdicts[0].words


def test_headers_and_another_time(desk: Client) -> None:
    from datetime import time

    make_rule(name="Day", price_usd=Decimal("0.05"))
    make_rule(
        name="Night", price_usd=Decimal("0.01"), priority=1, hours_from=time(22),
        hours_until=time(6), header_name="X-App", header_values=["one"],
    )  # fmt: skip
    night = {"moment_0": "2026-11-27", "moment_1": "23:00:00"}
    assert ask(desk, headers="X-App: one", **night).price == "$0.01"
    assert ask(desk, headers="X-App: two", **night).price == "$0.05"
    noon = {"moment_0": "2026-11-27", "moment_1": "12:00:00"}
    assert ask(desk, headers="X-App: one", **noon).price == "$0.05"


def test_what_cannot_be_read_is_said(desk: Client) -> None:
    errors = ask(desk, status=400, headers="nonsense", user="nobody")
    assert errors["headers"] == ["“nonsense” is no header."]
    assert errors["user"] == ["There is no such user."]


def test_who_may_not_see_rules_or_users_or_other_merchants() -> None:
    make_method()
    make_rule(name="Theirs")
    other = Merchant.objects.create(name="Bakery")
    clerk = User.objects.create_user("clerk", is_staff=True)
    client = Client()
    client.force_login(clerk)
    assert client.get(URL).status_code == 403
    clerk.user_permissions.set(Permission.objects.filter(codename="view_pricerule"))
    Membership.objects.create(merchant=other, user=clerk)
    answer = ask(client)
    assert "sold by another merchant" in answer.problem
    assert not answer.candidates
    User.objects.create_user("ann")
    assert "may not see other users" in ask(client, status=400, user="ann")["user"][0]


def test_the_desk_says_what_http_answers(desk: Client) -> None:
    """Random rules and askers: explanation and answer are never at odds."""
    dice = random.Random(402)
    groups = [Group.objects.create(name=f"group {n}") for n in range(2)]
    users = [None, User.objects.create_user("ann"), User.objects.create_user("bob", is_staff=True)]
    users[1].groups.add(groups[0])  # type: ignore[union-attr]
    for _ in range(25):
        PriceRule.objects.all().delete()
        for number in range(dice.randint(0, 5)):
            make_rule(
                name=f"rule {number}", priority=dice.randint(0, 3),
                price_usd=Decimal(dice.randint(1, 9)) / 100,
                effect=dice.choice(["charge", "charge", "free"]),
                audience=dice.choice(["", "", "anonymous", "users", "staff"]),
                groups=dice.choice([[], [], [groups[0].pk], [groups[1].pk]]),
                methods=dice.choice([[], ["GET"], ["POST"]]),
                header_name=dice.choice(["", "", "X-App"]),
                header_values=dice.choice([[], ["one"]]),
            )  # fmt: skip
        forget_rules()
        user = dice.choice(users)
        header = dice.choice(["", "one", "two"])
        method = dice.choice(["GET", "HEAD", "POST"])
        client = Client()
        if user is not None:
            client.force_login(user)
        sent = {"X-App": header} if header else {}
        answer = client.generic(method, "/articles/a/", headers=sent)
        told = ask(
            desk, method=method, user=user.username if user else "",
            headers=f"X-App: {header}" if header else "",
        )  # fmt: skip
        if answer.status_code == 402:
            amount = decode(answer["PAYMENT-REQUIRED"])["accepts"][0]["amount"]
            assert told.price == f"${Decimal(amount).scaleb(-6):.2f}"
        else:
            assert answer.status_code == 200
            assert told.outcome.startswith("Free")


def test_a_merchant_enters_conditions(desk: Client) -> None:
    group = Group.objects.create(name="press")
    values = {
        "name": "Press", "active": "on", "priority": "0", "url_names": ["shop:article"],
        "price_usd": "0.01", "grants": "request", "effect": "charge", "audience": "users",
        "groups": [group.pk], "header_name": "X-App", "header_values": "one\ntwo\n",
        "hours_from": "22:00", "hours_until": "06:00", "weekdays": ["4", "5"],
    }  # fmt: skip
    answer = desk.post(reverse("admin:x402_django_pricerule_add"), values)
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    rule = PriceRule.objects.get()
    assert (rule.groups, rule.header_values, rule.weekdays) == ([group.pk], ["one", "two"], [4, 5])
    page = desk.get(reverse("admin:x402_django_pricerule_change", args=[rule.pk])).content.decode()
    assert "one\ntwo</textarea>" in page
    refused = (
        desk.post(
            reverse("admin:x402_django_pricerule_add"),
            {**values, "name": "x", "countries": "DE", "header_name": "Cookie", "hours_until": ""},
        )
        .context["adminform"]
        .form.errors
    )
    assert set(refused) >= {"countries", "header_name"}
