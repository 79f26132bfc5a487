"""Fees, bounds and earlier prices on the merchant's desk."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import Client
from django.urls import reverse

from tests.admin.rows import PAY_TO, make_method, make_rule
from tests.admin.test_payment_methods import ADD as ADD_METHOD
from tests.admin.test_payment_methods import errors as method_errors
from tests.admin.test_payment_methods import form as method_form
from tests.admin.test_price_rules import change_url, errors, form
from x402_django.models import PaymentMethod, PreviousPrice

METHODS = "admin:x402_django_paymentmethod_changelist"


def test_fees_and_bounds_are_saved_and_shown(desk: Client) -> None:
    sent = method_form(
        fee_amount="0.002", fee_percent="1.5", minimum_amount="0.01", maximum_amount="100"
    )
    assert desk.post(reverse(ADD_METHOD), sent).status_code == 302
    method = PaymentMethod.objects.get()
    assert (method.fee_amount, method.fee_percent) == (Decimal("0.002"), Decimal("1.5"))
    assert (method.minimum_amount, method.maximum_amount) == (Decimal("0.01"), Decimal(100))
    html = desk.get(reverse(METHODS)).content.decode()
    assert "1.5 % + 0.002 USDC" in html
    assert "≥ 0.01, ≤ 100" in html
    url = reverse("admin:x402_django_paymentmethod_change", args=[method.pk])
    assert 'value="0.002"' in desk.get(url).content.decode()


def test_what_is_left_empty_is_no_fee_and_no_bound(desk: Client) -> None:
    empty = dict.fromkeys(("fee_amount", "fee_percent", "minimum_amount", "maximum_amount"), "")
    assert desk.post(reverse(ADD_METHOD), method_form(**empty)).status_code == 302
    method = PaymentMethod.objects.get()
    assert (method.fee_amount, method.fee_percent) == (0, 0)
    assert (method.minimum_amount, method.maximum_amount) == (None, None)


@pytest.mark.parametrize(
    ("field", "wrong", "part"),
    [
        ("fee_amount", "-1", "greater than or equal to 0"),
        ("fee_amount", "0.0000001", "no more than 6 decimals"),
        ("fee_percent", "1000", "no more than 3 digits before"),
        ("minimum_amount", "0.0000001", "no more than 6 decimals"),
    ],
)
def test_amounts_that_cannot_be(field: str, wrong: str, part: str, desk: Client) -> None:
    assert part in method_errors(desk, **{field: wrong})[field][0]


def test_a_minimum_above_the_maximum(desk: Client) -> None:
    found = method_errors(desk, minimum_amount="2", maximum_amount="1")
    assert found["__all__"] == ["The minimum must not be more than the maximum."]


def test_the_order_is_edited_in_the_list(desk: Client) -> None:
    first, second = make_method(), make_method(name="Other", network="eip155:8453")
    sent = {
        "form-TOTAL_FORMS": 2, "form-INITIAL_FORMS": 2,
        "form-0-id": first.pk, "form-0-priority": 1,
        "form-1-id": second.pk, "form-1-priority": 5, "_save": "Save",
    }  # fmt: skip
    assert desk.post(reverse(METHODS), sent).status_code == 302
    assert list(PaymentMethod.objects.all()) == [second, first]


def test_a_price_that_no_method_takes(desk: Client) -> None:
    method = make_method(minimum_amount=1)
    found = errors(desk, price_usd="0.5", payment_methods=[method.pk])
    assert found["price_usd"] == [
        "No payment method takes this price: it is below the minimum or above the maximum of each."
    ]
    found = errors(desk, price_usd="", token_amount="999999", payment_methods=[method.pk])
    assert "No payment method takes" in found["token_amount"][0]


def test_the_preview_shows_fees_and_what_is_left_out(desk: Client) -> None:
    rule = make_rule(price_usd=Decimal("0.50"))
    make_method(fee_amount=Decimal("0.01"))
    make_method(name="Big", network="eip155:8453", minimum_amount=5)
    answer = desk.get(change_url(rule))
    preview = answer.context["preview"]
    assert preview.ways_to_pay == (
        f"0.51 USDC on Base Sepolia (eip155:84532) to {PAY_TO} (with a fee of 0.01 USDC)",
    )
    assert preview.not_offered == (
        "USDC on Base (eip155:8453): the amount is below its minimum or above its maximum.",
    )
    assert "Not offered for this price" in answer.content.decode()


@pytest.mark.urls("tests.http.test_terms")
def test_the_preview_says_where_the_code_names_the_payee(desk: Client) -> None:
    rule = make_rule(url_names=["story"])
    assert "The code of “story” says who is paid." in desk.get(change_url(rule)).content.decode()


def test_earlier_prices_are_listed_and_cannot_be_written(desk: Client) -> None:
    rule = make_rule(price_usd=Decimal("0.50"))
    changed: Any = form(name=rule.name, price_usd="0.75", previous_prices_shown="x")
    assert desk.post(change_url(rule), changed).status_code == 302
    assert PreviousPrice.objects.get().price_usd == Decimal("0.50")
    html = desk.get(change_url(rule)).content.decode()
    assert "$0.50 until " in html
    assert desk.post(change_url(rule), changed).status_code == 302
    assert PreviousPrice.objects.count() == 1


def test_who_takes_a_price_its_last_way_of_being_paid_is_told(desk: Client) -> None:
    rule = make_rule(price_usd=Decimal("0.50"))
    method = make_method()
    rule.payment_methods.add(method)
    url = reverse("admin:x402_django_paymentmethod_change", args=[method.pk])
    said = desk.post(url, method_form(minimum_amount="5"), follow=True).content.decode()
    assert "Nobody can pay “Articles” any more: No payment method takes this price" in said
    said = desk.post(url, method_form(minimum_amount="6"), follow=True).content.decode()
    assert "Nobody can pay" not in said  # said before
    found = run_checks(tags=["database"], databases=["default"])
    assert [m.msg.partition(":")[0] for m in found if m.id == "x402_django.W018"] == [
        "The price rule “Articles” cannot be used"
    ]
    desk.post(url, method_form(minimum_amount="0.5"))
    found = run_checks(tags=["database"], databases=["default"])
    assert "x402_django.W018" not in [m.id for m in found]
