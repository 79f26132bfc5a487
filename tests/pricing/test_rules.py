"""Which rule is in force for a request, and what it makes of the price."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.http import HttpRequest
from django.test import override_settings
from django.utils import timezone

from tests.settings import PAY_TO, TEST_DOLLAR, X402
from x402_django import clock
from x402_django.exceptions import ConfigurationError, PriceNotConfigured
from x402_django.models import PaymentMethod, PriceRule
from x402_django.pricing import PaidViewOptions, quote_request

pytestmark = pytest.mark.django_db


def rule(name="rule", price="1", **values):
    if "token_amount" not in values:
        values["price_usd"] = Decimal(price)
    return PriceRule.objects.create(name=name, **values)


def method(name="base", **values):
    return PaymentMethod.objects.create(
        name=name,
        **{
            "network": "eip155:84532",
            "asset": TEST_DOLLAR,
            "asset_symbol": "USDC",
            "asset_name": "USDC",
            "asset_version": "2",
            "pay_to": PAY_TO,
            **values,
        },
    )


def quoted(options=None, url_name=None, verb="GET"):
    request = HttpRequest()
    request.method = verb
    return quote_request(request, options, url_name)


CODE = PaidViewOptions(price="$0.01", rule="report", description="from code", mime_type="text/a")


def test_nothing_prices_a_free_view():
    assert quoted() is None
    assert quoted(url_name="shop:article") is None


def test_key_wins_over_url_name_wins_over_code():
    assert quoted(CODE, "shop:report").price_usd == Decimal("0.01")
    rule("by url", "2", url_names=["shop:report"])
    assert quoted(CODE, "shop:report").rule_name == "by url"
    rule("by key", "3", key="report", priority=-100)
    found = quoted(CODE, "shop:report")
    assert (found.rule_name, found.price_usd) == ("by key", Decimal(3))
    assert found.offers[0].amount == 3_000_000


def test_the_higher_priority_wins_then_the_older_row():
    rule("old", "1", key="report")
    rule("young", "2", key="report")
    assert quoted(CODE).rule_name == "old"
    rule("urgent", "3", key="report", priority=1)
    assert quoted(CODE).rule_name == "urgent"


def test_code_fills_in_what_a_rule_leaves_open():
    rule(key="report")
    found = quoted(CODE, verb="POST")
    assert (found.description, found.mime_type, found.flow) == ("from code", "text/a", "upfront")
    PriceRule.objects.all().delete()
    rule(key="report", description="from admin", mime_type="text/b", flow="authorization")
    found = quoted(CODE, verb="POST")
    assert (found.description, found.mime_type, found.flow) == (
        "from admin",
        "text/b",
        "authorization",
    )


def test_the_period_includes_its_first_moment_and_not_its_last(monkeypatch):
    start = timezone.now().replace(microsecond=0) + timedelta(days=10)
    rule(key="report", valid_from=start, valid_until=start + timedelta(hours=1))
    quoted(CODE)
    real = timezone.now()
    monkeypatch.setattr(clock, "_source", lambda: real)

    def price_at(moment):
        with clock.shifted(moment - real):
            return quoted(CODE).price_usd

    tick = timedelta(microseconds=1)
    assert price_at(start - tick) == Decimal("0.01")
    assert price_at(start) == Decimal(1)
    assert price_at(start + timedelta(hours=1) - tick) == Decimal(1)
    assert price_at(start + timedelta(hours=1)) == Decimal("0.01")


def test_when_the_better_rule_ends_the_next_is_in_force():
    now = clock.now()
    rule("sale", "1", key="report", priority=5, valid_until=now + timedelta(hours=1))
    rule("usual", "2", key="report")
    assert quoted(CODE).rule_name == "sale"
    with clock.shifted(timedelta(hours=2)):
        assert quoted(CODE).rule_name == "usual"


@pytest.mark.parametrize(
    ("methods", "priced", "free"),
    [
        ([], ["GET", "HEAD", "POST", "OPTIONS", "BREW"], []),
        (["GET"], ["GET", "HEAD", "BREW", "TRACE", "get"], ["POST", "PUT", "PATCH", "DELETE"]),
        (["get"], ["GET", "HEAD"], ["POST"]),
        (["POST"], ["POST", "PROPFIND"], ["GET", "HEAD", "PUT"]),
        (["HEAD"], ["BREW"], ["POST"]),
        ("GET", ["GET", "HEAD"], ["POST"]),
        (["GET "], ["GET", "HEAD"], ["POST"]),
    ],
)
def test_methods(methods, priced, free):
    rule(url_names=["shop:article"], methods=methods)
    for verb in priced:
        assert quoted(url_name="shop:article", verb=verb) is not None, verb
    for verb in free:
        assert quoted(url_name="shop:article", verb=verb) is None, verb


def test_a_page_that_is_not_in_a_list_is_priced_all_the_same():
    rule(url_names="shop:article")
    assert quoted(url_name="shop:article") is not None


def test_an_inactive_rule_is_no_rule():
    rule(key="report", url_names=["shop:report"], active=False)
    assert quoted(CODE, "shop:report").rule_name == ""
    assert quoted(None, "shop:report") is None


def test_a_view_that_only_names_a_rule_is_never_free():
    options = PaidViewOptions(rule="report")
    for make in (
        lambda: None,
        lambda: rule("off", key="report", active=False),
        lambda: rule("later", key="report", valid_from=clock.now() + timedelta(days=1)),
        lambda: rule("other verb", key="report", methods=["POST"]),
    ):
        make()
        with pytest.raises(PriceNotConfigured):
            quoted(options)


def test_a_rule_is_paid_by_its_own_methods():
    method("other", network="eip155:8453", priority=9)
    chosen = method("chosen", asset_decimals=18)
    rule(key="report").payment_methods.add(chosen)
    offers = quoted(CODE).offers
    assert [(o.network, o.amount, o.method_id) for o in offers] == [
        ("eip155:84532", 10**18, chosen.pk)
    ]


def test_methods_are_offered_by_priority():
    method("low", network="eip155:1", priority=1)
    method("high", network="eip155:8453", priority=2)
    assert [o.network for o in quoted(CODE).offers] == ["eip155:8453", "eip155:1"]


def test_a_rule_whose_methods_are_all_inactive_cannot_be_paid_otherwise():
    method("usable", network="eip155:8453")
    off = method("off", active=False)
    rule(key="report", url_names=["shop:article"]).payment_methods.add(off)
    with pytest.raises(PriceNotConfigured, match="no way of being paid"):
        quoted(CODE)
    with pytest.raises(PriceNotConfigured):
        quoted(None, "shop:article")


def test_inactive_methods_are_left_out():
    on, off = method("on"), method("off", network="eip155:8453", active=False)
    rule(key="report").payment_methods.add(on, off)
    assert [o.network for o in quoted(CODE).offers] == ["eip155:84532"]


def test_a_price_in_token_units_is_taken_as_it_is():
    rule(key="report", token_amount=2**256 - 1)
    found = quoted(CODE)
    assert (found.offers[0].amount, found.price_usd) == (2**256 - 1, None)


def test_a_price_of_no_units_at_all_is_dust():
    rule(key="report", token_amount=0)
    with pytest.raises(PriceNotConfigured):
        quoted(CODE)


@pytest.mark.parametrize("price", ["0", "0.00000001", "0.00001"])
def test_a_price_of_nothing_or_dust_is_not_free(price):
    rule(key="report", price=price)
    with pytest.raises(PriceNotConfigured):
        quoted(CODE)


def test_a_price_the_token_cannot_express_is_an_error():
    rule(key="report", price="0.01000001")
    with pytest.raises(PriceNotConfigured, match="exactly"):
        quoted(CODE)
    with pytest.raises(PriceNotConfigured, match="exactly"):
        quoted(PaidViewOptions(price="0.01000001"))


def test_no_way_of_being_paid_is_an_error():
    with override_settings(X402={**X402, "PAY_TO": None}), pytest.raises(PriceNotConfigured):
        quoted(CODE)


@pytest.mark.parametrize("answer", ["free", None, 0.01, Decimal(0), -1])
def test_a_callable_price_that_is_no_price_is_an_error(answer):
    with pytest.raises(PriceNotConfigured):
        quoted(PaidViewOptions(price=lambda request: answer))


def test_a_callable_price_is_asked_for_each_request():
    prices = iter(["$0.01", "$0.02"])
    options = PaidViewOptions(price=lambda request: next(prices))
    assert [quoted(options).offers[0].amount for _ in range(2)] == [10_000, 20_000]


def test_many_different_prices_do_not_fill_memory():
    from x402_django.pricing.cache import current_rules

    prices = iter(range(1, 3000))
    options = PaidViewOptions(price=lambda request: f"${next(prices)}")
    for n in range(1, 3000):
        assert quoted(options).offers[0].amount == n * 10**6
    assert len(current_rules()._priced) <= 1024


@pytest.mark.parametrize(
    "wrong", [{}, {"price": None, "rule": ""}, {"price": "$1", "flow": "later"}]
)
def test_wrong_options_fail_at_import(wrong):
    with pytest.raises(ConfigurationError):
        PaidViewOptions(**wrong)
