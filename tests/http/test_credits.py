"""Credits: bought in one payment, spent on many requests, and never below zero."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Sum
from django.test import Client
from django.utils import timezone

from tests.admin.rows import make_rule
from tests.shop.runs import runs
from x402_django import clock
from x402_django.models import (
    CreditAccount,
    CreditEntry,
    HoldingUse,
    Merchant,
    MerchantPage,
    Payment,
    Receipt,
)
from x402_django.payments.holdings import book
from x402_django.payments.housekeeping import tidy_up
from x402_django.payments.machine import Step, advance
from x402_django.testing.payer import Payer, PayingClient, decode
from x402_django.testing.sign_in import sign_in_headers

pytestmark = pytest.mark.django_db

TOP_UP, WEATHER, METERED = "/report/", "/weather/", "/metered/"
CENT = 1_000_000  # in 10⁻⁸ US dollars


@pytest.fixture(autouse=True)
def _rules() -> None:
    """Ten cents buy eleven; the weather costs four, the meter five at most."""
    make_rule(
        name="Top-up", url_names=[], key="report", price_usd=Decimal("0.10"), grants="credits",
        credits_usd=Decimal("0.11"),
    )  # fmt: skip
    for name, price in (("weather", "0.04"), ("metered", "0.05"), ("broken", "0.04")):
        make_rule(
            name=name, url_names=[f"shop:{name}"], price_usd=Decimal(price), takes_credits=True
        )


def top_up(payer: Payer | None = None) -> str:
    bought = PayingClient(payer=payer or Payer()).get(TOP_UP)
    assert bought.status_code == 200, bought.content
    runs.clear()
    return str(bought["X-402-Access"])


def get(path: str, token: str = "", **headers: str) -> Any:
    given = {"X-402-Access": token} if token else {}
    return Client(raise_request_exception=False).get(path, headers={**given, **headers})


def balance() -> int:
    account = CreditAccount.objects.get()
    total = CreditEntry.objects.aggregate(total=Sum("amount"))["total"]
    last = CreditEntry.objects.order_by("-pk")[0]
    assert account.balance == total == last.balance
    return account.balance


def refused(response: Any, code: str = "insufficient_credits") -> None:
    assert response.status_code == 402
    assert decode(response["PAYMENT-REQUIRED"])["error"] == code
    assert not runs


def test_credits_are_spent_at_the_rules_price_until_they_do_not_suffice() -> None:
    token = top_up()
    assert balance() == 11 * CENT
    left = [get(WEATHER, token)["X-402-Remaining"] for _ in range(2)]
    assert left == ["0.07 USD", "0.03 USD"]
    assert runs["weather"] == 2
    runs.clear()
    answer = get(WEATHER, token)
    refused(answer)
    assert "This costs $0.04, and $0.03 of your credits are left." in answer.content.decode()
    assert balance() == 3 * CENT
    kinds = list(CreditEntry.objects.order_by("pk").values_list("kind", "amount"))
    assert kinds == [("top_up", 11 * CENT), ("spent", -4 * CENT), ("spent", -4 * CENT)]
    assert Payment.objects.count() == Receipt.objects.count() == 1


def test_the_offers_of_the_refusal_can_be_paid() -> None:
    payer = Payer()
    token = top_up(payer)
    for _ in range(2):
        get(WEATHER, token)
    headers = payer.headers_for(get(WEATHER, token))
    assert get(WEATHER, token, **headers)["PAYMENT-RESPONSE"]
    assert balance() == 3 * CENT


def test_a_metered_view_spends_what_it_charges() -> None:
    token = top_up()
    answer = get(METERED + "?charge=0.0123", token)
    assert answer.json()["due"] == 1_230_000
    assert answer["X-402-Remaining"] == "0.0977 USD"
    assert get(METERED + "?units=30", token)["X-402-Remaining"] == "0.0947 USD"
    assert get(METERED + "?charge=0", token)["X-402-Remaining"] == "0.0947 USD"
    assert get(METERED, token)["X-402-Remaining"] == "0.0447 USD"
    assert [use.charged for use in HoldingUse.objects.order_by("pk")] == [
        1_230_000, 300_000, 0, 5 * CENT,
    ]  # fmt: skip
    runs.clear()
    refused(get(METERED + "?charge=0.0001", token))  # the most is taken first
    assert balance() == 4_470_000


def test_a_view_that_fails_spends_nothing() -> None:
    token = top_up()
    assert get("/broken/", token).status_code == 500
    assert get(METERED + "?charge=9", token).status_code == 500  # more than the price
    assert balance() == 11 * CENT
    assert {use.state for use in HoldingUse.objects.all()} == {"returned"}


def test_a_second_top_up_adds_to_the_first() -> None:
    payer = Payer()
    first = top_up(payer)
    second = top_up(payer)
    assert balance() == 22 * CENT
    get(WEATHER, first)
    get(WEATHER, second)
    assert balance() == 14 * CENT


def test_others_credits_are_not_mine() -> None:
    token, other = top_up(), top_up()
    for _ in range(2):
        get(WEATHER, token)
    balances = CreditAccount.objects.order_by("pk").values_list("balance", flat=True)
    assert list(balances) == [3 * CENT, 11 * CENT]
    assert get(WEATHER, other)["X-402-Remaining"] == "0.07 USD"


def test_credits_of_one_seller_are_not_spent_at_another() -> None:
    token = top_up()
    other = Merchant.objects.create(name="Other")
    MerchantPage.objects.create(merchant=other, name="shop:weather")
    make_rule(
        name="theirs", merchant=other, url_names=["shop:weather"], price_usd=Decimal("0.01"),
        takes_credits=True,
    )  # fmt: skip
    answer = get(WEATHER, token)
    assert answer.status_code in (402, 503)
    assert not runs
    assert balance() == 11 * CENT


def test_a_page_that_takes_no_credits_is_asked_to_be_paid() -> None:
    token = top_up()
    refused(get("/slow/", token), "payment_required")


def test_a_payment_that_is_undone_takes_its_credits_with_it() -> None:
    token = top_up()
    get(WEATHER, token)
    payment = Payment.objects.get()
    advance(payment, Step(Payment.State.REVERSED, "reorganised"), actor="test")
    assert balance() == 0
    assert CreditEntry.objects.order_by("-pk")[0].kind == "withdrawn"
    runs.clear()
    refused(get(WEATHER, token), "pass_ended")
    # It settles once more: what was withdrawn is there again, and what was spent is not.
    advance(payment, Step(Payment.State.SETTLING, "again"), actor="test")
    advance(payment, Step(Payment.State.SETTLED, "again"), actor="test")
    assert balance() == 7 * CENT
    assert get(WEATHER, token)["X-402-Remaining"] == "0.03 USD"


def test_booking_twice_credits_once() -> None:
    top_up()
    assert book(Payment.objects.get()) == 0
    tidy_up()
    assert balance() == 11 * CENT


def test_what_a_dead_process_did_not_credit_is_credited() -> None:
    token = top_up()
    CreditEntry.objects.all()._raw_delete("default")
    CreditAccount.objects.all().delete()
    assert get(WEATHER, token)["X-402-Remaining"] == "0.07 USD"
    assert balance() == 7 * CENT


def test_the_task_credits_what_nobody_came_for() -> None:
    top_up()
    CreditEntry.objects.all()._raw_delete("default")
    CreditAccount.objects.all().delete()
    tidy_up()
    assert balance() == 11 * CENT


def test_what_a_dead_process_held_is_given_back(monkeypatch) -> None:
    token = top_up()
    get(WEATHER, token)
    HoldingUse.objects.update(state="held", ended_at=None, charged=None)
    later = timezone.now() + timedelta(hours=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    tidy_up()
    tidy_up()
    assert balance() == 11 * CENT


def test_a_named_use_is_paid_once() -> None:
    token = top_up()
    key = {"Idempotency-Key": "a-key-of-this-very-use"}
    first, again = get(WEATHER, token, **key), get(WEATHER, token, **key)
    assert first.content == again.content
    assert again["X-402-Remaining"] == "0.07 USD"
    assert runs["weather"] == 1
    assert get(METERED, token, **key).status_code == 409
    assert get(WEATHER, token, **{"Idempotency-Key": "short"}).status_code == 400
    assert balance() == 7 * CENT


def test_a_wallet_signs_in_and_spends(settings) -> None:
    settings.X402 = {**settings.X402, "EXTENSIONS": {"sign-in-with-x": {}}}
    payer = Payer()
    token = top_up(payer)
    extension = decode(get(WEATHER)["PAYMENT-REQUIRED"])["extensions"]["sign-in-with-x"]
    answer = get(WEATHER, **sign_in_headers(extension, payer.account))
    assert answer["X-402-Remaining"] == "0.07 USD"
    assert answer["X-402-Access"] == token
    extension = decode(get(WEATHER)["PAYMENT-REQUIRED"])["extensions"]["sign-in-with-x"]
    runs.clear()
    refused(get(WEATHER, **sign_in_headers(extension, Payer().account)), "payment_required")


def test_a_browsers_cookie_spends_no_credits() -> None:
    browser = Client()
    headers = Payer().headers_for(get(TOP_UP))
    assert browser.get(TOP_UP, headers={**headers, "X-402-Paywall": "1"}).json()["paid"] is True
    assert not [name for name in browser.cookies if name.startswith("x402_pass_")]
    assert browser.get(WEATHER).status_code == 402
