"""The form of a price rule, and the preview of the 402 that it makes."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client, override_settings
from django.urls import reverse

from tests.admin.rows import NETWORK, PAY_TO, make_method, make_payment, make_rule
from x402_django import clock
from x402_django.admin.preview import preview_rule
from x402_django.models import Payment, PriceRule
from x402_django.protocol.challenge import Challenge

ADD = "admin:x402_django_pricerule_add"
LIST = "admin:x402_django_pricerule_changelist"
PREVIEW = "admin:x402_django_pricerule_preview"
FRAGMENT = {"x-preview-fragment": "1"}
EIGHTEEN = {"name": "Fine dollars", "asset": PAY_TO.lower(), "asset_decimals": 18}


def form(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": "Weather",
        "active": "on",
        "priority": "0",
        "url_names": ["shop:free"],
        "key": "",
        "methods": [],
        "price_usd": "0.01",
        "token_amount": "",
        "payment_methods": [],
        "grants": "request",
        "effect": "charge",
        "flow": "",
        "description": "Today's weather",
        "mime_type": "application/json",
    }
    values |= dict.fromkeys(("valid_from_0", "valid_from_1", "valid_until_0", "valid_until_1"), "")
    return {**values, **changes}


def change_url(rule: PriceRule) -> str:
    return reverse("admin:x402_django_pricerule_change", args=[rule.pk])


def errors(client: Client, **changes: Any) -> dict[str, list[str]]:
    answer = client.post(reverse(ADD), form(**changes))
    assert answer.status_code == 200
    assert PriceRule.objects.count() == 0
    found: dict[str, list[str]] = answer.context["adminform"].form.errors
    return found


class TestForm:
    def test_a_rule_is_saved_as_it_was_entered(self, desk: Client) -> None:
        method = make_method()
        chosen = form(
            url_names=["shop:article", "shop:free"],
            methods=["GET", "POST"],
            payment_methods=[method.pk],
            flow="upfront",
        )
        assert desk.post(reverse(ADD), chosen).status_code == 302
        rule = PriceRule.objects.get()
        assert rule.url_names == ["shop:article", "shop:free"]
        assert rule.methods == ["GET", "POST"]
        assert rule.price_usd == Decimal("0.01")
        assert rule.token_amount is None
        assert list(rule.payment_methods.all()) == [method]

    def test_pages_are_those_of_the_site_and_nobody_elses(self, desk: Client) -> None:
        html = desk.get(reverse(ADD)).content.decode()
        assert (
            '<option value="shop:article">shop:article: /articles/&lt;slug:slug&gt;/</option>'
        ) in html
        assert 'value="admin:' not in html
        assert 'value="x402:' not in html

    def test_a_page_that_is_gone_is_kept_and_named(self, desk: Client) -> None:
        rule = make_rule(url_names=["shop:closed"])
        assert "shop:closed (no such page any more)" in desk.get(change_url(rule)).content.decode()
        assert desk.post(change_url(rule), form(url_names=["shop:closed"])).status_code == 302
        rule.refresh_from_db()
        assert rule.url_names == ["shop:closed"]

    def test_pages_that_never_were_are_refused(self, desk: Client) -> None:
        assert list(errors(desk, url_names=["shop:invented"])) == ["url_names"]

    def test_a_rule_that_applies_to_nothing(self, desk: Client) -> None:
        assert "applies to nothing" in errors(desk, url_names=[])["url_names"][0]
        assert desk.post(reverse(ADD), form(url_names=[], key="weather")).status_code == 302

    @pytest.mark.parametrize("token_amount", ["", "10000"])
    def test_exactly_one_price(self, token_amount: str, desk: Client) -> None:
        price = "" if token_amount == "" else "0.01"
        found = errors(desk, price_usd=price, token_amount=token_amount)
        assert found["__all__"] == ["Give either a price in US dollars or a price in token units."]

    @pytest.mark.parametrize(
        ("price", "part"),
        [
            ("0.00009", "below X402['MINIMUM_PRICE']"),
            ("0", "not positive"),
            ("0.00010001", "cannot be paid exactly in a token with 6 decimals"),
            ("-1", "not positive"),
            ("a cent", "Enter a number"),
            ("0.000000001", "8 decimal places"),
        ],
    )
    def test_prices_that_cannot_be(self, price: str, part: str, desk: Client) -> None:
        assert part in errors(desk, price_usd=price)["price_usd"][0]

    def test_the_price_must_be_exact_in_every_token(self, desk: Client) -> None:
        fine, coarse = make_method(**EIGHTEEN), make_method(name="Coarse", asset_decimals=2)
        fits = form(price_usd="0.001", payment_methods=[fine.pk])
        assert desk.post(reverse(ADD), fits).status_code == 302
        PriceRule.objects.all().delete()
        found = errors(desk, price_usd="0.001", payment_methods=[fine.pk, coarse.pk])
        assert "2 decimals" in found["price_usd"][0]

    def test_a_token_amount(self, desk: Client) -> None:
        amount = str(2**256 - 1)
        assert desk.post(reverse(ADD), form(price_usd="", token_amount=amount)).status_code == 302
        assert PriceRule.objects.get().token_amount == 2**256 - 1

    def test_a_token_amount_of_nothing(self, desk: Client) -> None:
        assert (
            "more than nothing" in errors(desk, price_usd="", token_amount="0")["token_amount"][0]
        )

    def test_a_token_amount_in_tokens_of_different_decimals(self, desk: Client) -> None:
        methods = [make_method().pk, make_method(**EIGHTEEN).pk]
        found = errors(desk, price_usd="", token_amount="10000", payment_methods=methods)
        assert "different decimals, USDC (18), USDC (6)" in found["token_amount"][0]
        # None chosen means both, too.
        assert list(errors(desk, price_usd="", token_amount="10000")) == ["token_amount"]

    def test_nobody_could_pay(self, desk: Client, settings: Any) -> None:
        method = make_method(active=False)
        found = errors(desk, payment_methods=[method.pk])
        assert found["payment_methods"] == [
            "The chosen payment method is not active, so nobody could pay."
        ]
        settings.X402 = {**settings.X402, "PAY_TO": None}
        assert "Add one first" in errors(desk)["payment_methods"][0]
        # A rule that is not in force may be prepared.
        assert desk.post(reverse(ADD), form(active="")).status_code == 302

    def test_a_period_that_ends_before_it_begins(self, desk: Client) -> None:
        found = errors(
            desk,
            valid_from_0="2026-02-02",
            valid_from_1="00:00",
            valid_until_0="2026-02-01",
            valid_until_1="00:00",
        )
        assert "before" in found["__all__"][0]


class TestDeleting:
    def test_a_price_that_nobody_paid(self, desk: Client) -> None:
        rule = make_rule()
        url = reverse("admin:x402_django_pricerule_delete", args=[rule.pk])
        assert desk.post(url, {"post": "yes"}).status_code == 302
        assert PriceRule.objects.count() == 0

    def test_a_price_that_was_paid_stays(self, desk: Client) -> None:
        rule = make_rule()
        make_payment(1, rule=rule)
        url = reverse("admin:x402_django_pricerule_delete", args=[rule.pk])
        assert desk.post(url, {"post": "yes"}).status_code == 403
        action = {"action": "delete_selected", "_selected_action": [rule.pk], "post": "yes"}
        desk.post(reverse(LIST), action)
        assert Payment.objects.get().rule == rule


class TestList:
    def test_prices_and_what_they_apply_to(self, desk: Client) -> None:
        make_rule(name="a", key="report", methods=["GET", "POST"], price_usd=Decimal("0.5"))
        by_token = make_rule(name="b", price_usd=None, token_amount=1_500_000, url_names=[])
        by_token.payment_methods.add(make_method())
        make_rule(name="c", price_usd=None, token_amount=7)
        html = desk.get(reverse(LIST)).content.decode()
        assert '<td class="field-price_shown">$0.50</td>' in html
        assert "GET/POST key “report”, shop:article" in html
        assert '<td class="field-price_shown">1.50 USDC</td>' in html
        assert '<td class="field-price_shown">7 token units</td>' in html

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({}, True),
            ({"active": False}, False),
            ({"valid_from": 1}, False),
            ({"valid_from": -1, "valid_until": 1}, True),
            ({"valid_until": -1}, False),
        ],
    )
    def test_in_force_now(self, changes: dict[str, Any], expected: bool, db: None) -> None:
        hours = {
            name: clock.now() + timedelta(hours=value) if name.startswith("valid") else value
            for name, value in changes.items()
        }
        rule = PriceRule(name="a", **hours)
        assert admin.site._registry[PriceRule].in_force(rule) is expected  # type: ignore[attr-defined]

    def test_more_rules_cost_no_more_queries(
        self, desk: Client, django_assert_max_num_queries: Any
    ) -> None:
        method = make_method()
        for number in range(30):
            make_rule(name=f"rule {number}").payment_methods.add(method)
        desk.get(reverse(LIST))
        with django_assert_max_num_queries(7):
            desk.get(reverse(LIST))


class TestPreview:
    def test_the_change_page_shows_the_real_challenge(self, desk: Client) -> None:
        rule = make_rule()
        answer = desk.get(change_url(rule))
        preview = answer.context["preview"]
        assert preview.ways_to_pay == (f"0.01 USDC on Base Sepolia (eip155:84532) to {PAY_TO}",)
        v2 = json.loads(preview.v2)
        assert v2["x402Version"] == 2
        assert v2["resource"]["url"] == "https://shop.example/articles/<slug:slug>/"
        assert v2["accepts"][0]["amount"] == "10000"
        assert v2["accepts"][0]["payTo"] == PAY_TO
        assert v2["accepts"][0]["network"] == NETWORK
        v1 = json.loads(preview.v1)
        assert v1["accepts"][0]["maxAmountRequired"] == "10000"
        assert v1["accepts"][0]["network"] == "base-sepolia"
        assert "0.01 USDC on Base Sepolia" in answer.content.decode()

    def test_it_is_what_a_buyer_gets(self, desk: Client, client: Client) -> None:
        make_rule(url_names=["shop:free"], description="Not free at all")
        rule = PriceRule.objects.get()
        v2 = json.loads(desk.get(change_url(rule)).context["preview"].v2)
        answer = client.get(reverse("shop:free"))
        assert answer.status_code == 402
        import base64

        real = json.loads(base64.b64decode(answer["PAYMENT-REQUIRED"]))
        real.pop("extensions", None)
        assert v2 == real

    def test_unsaved_values(self, desk: Client) -> None:
        answer = desk.post(reverse(PREVIEW), form(price_usd="0.25", name=""), headers=FRAGMENT)
        html = answer.content.decode()
        assert answer.status_code == 200
        assert "0.25 USDC on Base Sepolia" in html
        assert "&quot;amount&quot;: &quot;250000&quot;" in html
        assert "https://shop.example/free/" in html
        assert "<html" not in html
        assert PriceRule.objects.count() == 0

    def test_without_a_script_it_is_a_page(self, desk: Client) -> None:
        html = desk.post(reverse(PREVIEW), form()).content.decode()
        assert "<html" in html
        assert "0.01 USDC on Base Sepolia" in html

    def test_unsaved_values_of_a_saved_rule_change_nothing(self, desk: Client) -> None:
        rule = make_rule()
        before = PriceRule.objects.values().get()
        url = f"{reverse(PREVIEW)}?rule={rule.pk}"
        answer = desk.post(url, form(name=rule.name, price_usd="3"), headers=FRAGMENT)
        assert "3.00 USDC" in answer.content.decode()
        assert PriceRule.objects.values().get() == before

    @pytest.mark.parametrize(
        ("changes", "part"),
        [
            ({"price_usd": ""}, "Give either a price"),
            ({"price_usd": "0.0000001"}, "below"),
            ({"price_usd": "x"}, "Enter a number"),
        ],
    )
    def test_problems_instead(self, changes: dict[str, str], part: str, desk: Client) -> None:
        answer = desk.post(reverse(PREVIEW), form(**changes), headers=FRAGMENT)
        assert part in answer.content.decode()
        assert "<pre" not in answer.content.decode()

    def test_a_saved_rule_that_nobody_could_pay(self, desk: Client) -> None:
        rule = make_rule()
        rule.payment_methods.add(make_method(active=False))
        assert "There is no way of being paid" in desk.get(change_url(rule)).content.decode()

    def test_a_network_without_a_name_in_version_one(self, desk: Client, settings: Any) -> None:
        local = "eip155:31337"
        settings.X402 = {**settings.X402, "NETWORKS": {local: {"RPC_URLS": ["https://r"]}}}
        rule = make_rule()
        rule.payment_methods.add(make_method(network=local))
        html = desk.get(change_url(rule)).content.decode()
        assert "v1 clients cannot pay" in html

    def test_without_a_base_url_it_names_the_host_asked(self, desk: Client, settings: Any) -> None:
        settings.X402 = {**settings.X402, "BASE_URL": None}
        rule = make_rule(url_names=[], key="report")
        preview = desk.get(change_url(rule)).context["preview"]
        assert preview.resource_url == "http://testserver/…"

    def test_what_was_typed_is_text(self, desk: Client) -> None:
        nasty = form(description="<script>alert(1)</script>", mime_type="<b>")
        html = desk.post(reverse(PREVIEW), nasty, headers=FRAGMENT).content.decode()
        assert "<script" not in html
        assert "<b>" not in html

    def test_only_by_post(self, desk: Client) -> None:
        assert desk.get(reverse(PREVIEW)).status_code == 405

    def test_only_with_a_csrf_token(self, staff: Any) -> None:
        clerk = staff("add_pricerule", enforce_csrf_checks=True)
        assert clerk.post(reverse(PREVIEW), form()).status_code == 403

    def test_only_for_those_who_may_edit(self, staff: Any, client: Client) -> None:
        rule = make_rule()
        clerk = staff("view_pricerule")
        page = clerk.get(change_url(rule))
        assert page.status_code == 200
        assert b"data-preview-url" not in page.content
        assert clerk.post(reverse(PREVIEW), form()).status_code == 403
        assert clerk.post(f"{reverse(PREVIEW)}?rule={rule.pk}", form()).status_code == 403
        assert client.post(reverse(PREVIEW), form()).status_code == 302

    def test_pages_have_no_inline_script_or_style(self, desk: Client) -> None:
        import re

        html = desk.get(change_url(make_rule())).content.decode()
        panel = html[html.index("x402-preview") :].partition("submit-row")[0]
        assert not re.search(r"<script(?![^>]*\bsrc=)", panel)
        assert "style=" not in panel
        assert not re.search(r"\son\w+=", panel)
        assert "x402_django/admin/price_rule.js" in html


def test_a_preview_is_built_by_the_code_that_answers_buyers(
    db: None, rf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Challenge] = []
    real = Challenge.header_value
    monkeypatch.setattr(Challenge, "header_value", lambda self: made.append(self) or real(self))
    preview_rule(make_rule(), [], rf.get("/"))
    assert len(made) == 1


@override_settings(ROOT_URLCONF="tests.admin.urls")
def test_routes_in_namespaces_regular_expressions_and_duplicates() -> None:
    from x402_django.admin.routes import example_path, named_routes

    assert [(route.name, route.patterns) for route in named_routes()] == [
        ("inner:outer:leaf", ("/in/(?P<number>[0-9]+)/leaf/",)),
        ("twice", ("/one/", "/two/")),
    ]
    assert example_path(["twice"]) == "/two/"
    assert example_path(["inner:outer:leaf"]) == "/in/(?P<number>[0-9]+)/leaf/"
    assert example_path(["gone"]) == "/…"
    assert example_path([]) == "/…"


def test_the_history_says_from_what_to_what(desk):
    from django.contrib.admin.models import LogEntry

    rule = PriceRule.objects.create(name="Weather", price_usd="0.01", url_names=["weather"])
    url = f"/admin/x402_django/pricerule/{rule.pk}/change/"
    changed = form(name="Weather", price_usd="0.05", url_names=["weather"], description="Sunny")
    assert desk.post(url, changed).status_code == 302
    said = LogEntry.objects.latest("pk").get_change_message()
    assert "Price in US dollars: 0.01 → 0.05" in said
    assert "→ Sunny" in said
    history = desk.get(f"/admin/x402_django/pricerule/{rule.pk}/history/").content.decode()
    assert "0.01 → 0.05" in history
