"""Passes: bought once, then shown: as a bearer token, by a wallet, by a browser's cookie."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from eth_account.signers.local import LocalAccount

from tests.admin.rows import make_rule
from tests.shop.runs import runs
from x402_django import clock
from x402_django.models import HoldingUse, Merchant, MerchantPage, Pass, Payment, Receipt
from x402_django.payments.housekeeping import tidy_up
from x402_django.payments.machine import Step, advance
from x402_django.testing.payer import Payer, PayingClient, decode
from x402_django.testing.sign_in import sign_in_headers

pytestmark = pytest.mark.django_db

ARTICLE, OTHER, WEATHER, REPORT = "/articles/a/", "/articles/b/", "/weather/", "/report/"


@pytest.fixture
def day_pass() -> Any:
    """Sold on every article, for a day; opens the weather (priced in code), too."""
    return make_rule(
        name="Day pass",
        url_names=["shop:article"],
        price_usd=Decimal("0.20"),
        grants="pass",
        pass_hours=24,
        pass_pages=["shop:weather"],
    )


def buy(path: str = ARTICLE, payer: Payer | None = None) -> tuple[str, Any]:
    """The token that a purchase brings, and the answer."""
    bought = PayingClient(payer=payer or Payer()).get(path)
    assert bought.status_code == 200, bought.content
    runs.clear()
    return bought["X-402-Access"], bought


def get(path: str, token: str = "", *, method: str = "GET", **headers: str) -> Any:
    given = {"X-402-Access": token} if token else {}
    return Client(raise_request_exception=False).generic(method, path, headers={**given, **headers})


def refused(response: Any, code: str) -> None:
    """A 402 with a fresh challenge; no view ran."""
    assert response.status_code == 402
    assert decode(response["PAYMENT-REQUIRED"])["error"] == code
    assert not runs


def passing_time(monkeypatch: pytest.MonkeyPatch, **span: float) -> None:
    later = timezone.now() + timedelta(**span)
    monkeypatch.setattr(clock, "now", lambda: later)


# ------------------------------------------------------------------------------- the token


def test_a_day_pass_opens_its_pages_for_a_day(day_pass, monkeypatch) -> None:
    token, bought = buy()
    assert bought["X-402-Access"].startswith("x402_")
    for path in (ARTICLE, OTHER, WEATHER):
        answer = get(path, token)
        assert answer.status_code == 200
        assert "PAYMENT-RESPONSE" not in answer
        assert "private" in answer["Cache-Control"]
        assert {"Authorization", "X-402-Access", "Cookie"} <= set(answer["Vary"].split(", "))
    assert runs == {"article": 2, "weather": 1}
    assert Payment.objects.count() == Receipt.objects.count() == 1
    held = Pass.objects.get()
    payment = Payment.objects.get()
    assert (held.payment, held.payer) == (payment, payment.payer)
    assert held.expires_at == payment.settled_at + timedelta(hours=24)
    assert not HoldingUse.objects.exists()  # any number of uses: none is written down

    runs.clear()
    passing_time(monkeypatch, hours=24)
    refused(get(OTHER, token), "pass_ended")


def test_the_token_is_taken_as_a_bearer_too_and_head_costs_what_get_costs(day_pass) -> None:
    token, _ = buy()
    assert get(OTHER, Authorization=f"Bearer {token}").status_code == 200
    assert get(OTHER, token, method="HEAD").status_code == 200
    assert runs["article"] == 2
    # Somebody else's bearer token is none of ours: it is the site's own business.
    assert decode(get(OTHER, Authorization="Bearer abc")["PAYMENT-REQUIRED"])["error"] == (
        "payment_required"
    )


def test_a_pass_opens_nothing_else(day_pass) -> None:
    token, _ = buy()
    make_rule(name="Report", url_names=[], key="report", price_usd=Decimal("1"))
    refused(get(REPORT, token), "invalid_access_token")
    refused(get("/slow/", token), "invalid_access_token")


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1], lambda t: "x402_" + t[6:], lambda t: "x402_."]
)
def test_a_forged_token_opens_nothing(day_pass, change) -> None:
    token, _ = buy()
    refused(get(OTHER, change(token)), "invalid_access_token")
    public_id = Payment.objects.get().public_id
    refused(get(OTHER, f"x402_{public_id}.{public_id}"), "invalid_access_token")


def test_the_token_comes_with_the_purchase_and_not_with_its_replay(day_pass) -> None:
    """A used authorization can be read off the chain, and presented by anybody."""
    headers = Payer().headers_for(get(ARTICLE))
    first = get(ARTICLE, **headers)
    again = get(ARTICLE, **headers)
    assert first.content == again.content
    assert "X-402-Access" in first
    assert "X-402-Access" not in again


def test_a_pass_of_a_payment_that_was_undone_opens_nothing(day_pass) -> None:
    token, _ = buy()
    payment = Payment.objects.get()
    advance(payment, Step(Payment.State.REVERSED, "reorganised"), actor="test")
    refused(get(OTHER, token), "pass_ended")


def test_a_revoked_pass_opens_nothing(day_pass) -> None:
    token, _ = buy()
    Pass.objects.update(revoked_at=timezone.now())
    refused(get(OTHER, token), "pass_ended")


def test_another_sellers_pass_opens_nothing(day_pass) -> None:
    token, _ = buy()
    other = Merchant.objects.create(name="Other")
    MerchantPage.objects.create(merchant=other, name="shop:weather")
    answer = get(WEATHER, token)
    assert answer.status_code in (402, 503)
    assert not runs


def test_what_was_sold_stays_sold_whatever_becomes_of_the_rule(day_pass) -> None:
    token, _ = buy()
    day_pass.pass_pages, day_pass.pass_hours = [], 1
    day_pass.save()
    assert get(WEATHER, token).status_code == 200
    day_pass.active = False
    day_pass.save()
    assert get(WEATHER, token).status_code == 200


def test_a_view_that_fails_sells_no_pass(day_pass) -> None:
    day_pass.url_names = ["shop:missing"]
    day_pass.save()
    answer = PayingClient(payer=Payer()).get("/missing/")
    assert answer.status_code == 404
    assert "X-402-Access" not in answer
    assert not Pass.objects.exists()


def test_an_earlier_price_buys_what_it_was_for(day_pass, settings) -> None:
    """The article cost 20 cents a day; now a cent buys the one request, and nothing more."""
    settings.X402 = {**settings.X402, "PRICE_GRACE": 60}
    day_pass.grants, day_pass.price_usd, day_pass.pass_hours = "request", Decimal("0.01"), None
    day_pass.save()
    payer = Payer()
    headers = payer.headers_for(get(ARTICLE))
    day_pass.grants, day_pass.price_usd, day_pass.pass_hours = "pass", Decimal("5"), 24
    day_pass.save()
    bought = get(ARTICLE, **headers)
    assert bought.status_code == 200
    assert Payment.objects.get().grant is None
    assert "X-402-Access" not in bought


# -------------------------------------------------------------------------------- number of uses


@pytest.fixture
def three_uses() -> Any:
    return make_rule(
        name="Three", url_names=["shop:article"], grants="pass", pass_uses=3,
        pass_pages=["shop:broken", "shop:stream"],
    )  # fmt: skip


def test_a_pass_of_three_uses_is_good_for_three_more(three_uses) -> None:
    token, _ = buy()
    left = [get(OTHER, token)["X-402-Remaining"] for _ in range(3)]
    assert left == ["2 uses", "1 uses", "0 uses"]
    runs.clear()
    refused(get(OTHER, token), "pass_ended")
    assert [use.state for use in HoldingUse.objects.all()] == ["charged"] * 3
    assert Pass.objects.get().uses_taken == 3


def test_a_view_that_fails_uses_nothing_up(three_uses) -> None:
    token, _ = buy()
    assert get("/broken/", token).status_code == 500
    assert Pass.objects.get().uses_taken == 0
    assert HoldingUse.objects.get().state == "returned"


def test_what_a_dead_process_held_is_given_back(three_uses, monkeypatch) -> None:
    token, _ = buy()
    get(OTHER, token)
    HoldingUse.objects.update(state="held", ended_at=None)
    passing_time(monkeypatch, hours=1)
    tidy_up()
    assert HoldingUse.objects.get().state == "returned"
    assert Pass.objects.get().uses_taken == 0
    tidy_up()
    assert Pass.objects.get().uses_taken == 0


def test_a_named_use_is_taken_once(three_uses) -> None:
    token, _ = buy()
    key = {"Idempotency-Key": "a-key-of-this-very-use"}
    first, again = get(OTHER, token, **key), get(OTHER, token, **key)
    assert first.content == again.content
    assert (runs["article"], Pass.objects.get().uses_taken) == (1, 1)
    assert get(ARTICLE, token, **key).status_code == 409
    assert Pass.objects.get().uses_taken == 1


def test_a_stream_uses_one(three_uses) -> None:
    token, _ = buy()
    assert b"".join(get("/stream/", token).streaming_content) == b"one two three"
    assert Pass.objects.get().uses_taken == 1


# ------------------------------------------------------------------------------- one object


def test_a_pass_for_an_object_opens_that_object(day_pass) -> None:
    day_pass.pass_for_object, day_pass.pass_pages = True, []
    day_pass.save()
    token, _ = buy(ARTICLE)
    assert get(ARTICLE, token).status_code == 200
    runs.clear()
    refused(get(OTHER, token), "invalid_access_token")


# --------------------------------------------------------------------------------- by wallet


@pytest.fixture
def signing_in(settings: Any) -> None:
    settings.X402 = {**settings.X402, "EXTENSIONS": {"sign-in-with-x": {}}}


def sign_in(account: LocalAccount, path: str) -> dict[str, str]:
    extension = decode(get(path)["PAYMENT-REQUIRED"])["extensions"]["sign-in-with-x"]
    return sign_in_headers(extension, account)


def test_the_wallet_that_bought_signs_in_and_gets_the_token_again(day_pass, signing_in) -> None:
    payer = Payer()
    token, _ = buy(payer=payer)
    answer = get(WEATHER, **sign_in(payer.account, WEATHER))
    assert answer.status_code == 200
    assert answer["X-402-Access"] == token
    assert get(OTHER, answer["X-402-Access"]).status_code == 200


def test_another_wallet_holds_nothing(day_pass, signing_in) -> None:
    buy()
    refused(get(WEATHER, **sign_in(Payer().account, WEATHER)), "payment_required")


def test_nobody_signs_in_where_no_pass_opens(day_pass, signing_in) -> None:
    assert "sign-in-with-x" not in decode(get("/slow/")["PAYMENT-REQUIRED"])["extensions"]


# -------------------------------------------------------------------------------- by browser


def browser_buys(payer: Payer | None = None) -> Client:
    """A browser after the paywall's script has paid."""
    browser = Client()
    headers = (payer or Payer()).headers_for(get(ARTICLE))
    handed = browser.get(ARTICLE, headers={**headers, "X-402-Paywall": "1"})
    assert handed.status_code == 200
    assert handed.json()["paid"] is True
    return browser


def test_a_browser_that_bought_comes_back_by_its_cookie(day_pass) -> None:
    browser = browser_buys()
    runs.clear()
    cookie = next(m for name, m in browser.cookies.items() if name.startswith("x402_pass_"))
    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == ("/", True, "Lax")
    assert int(cookie["max-age"]) == 24 * 3600
    assert browser.get(OTHER).status_code == 200
    assert browser.get(WEATHER).status_code == 200
    assert browser.post(WEATHER).status_code == 402  # what has effects is not a link's to do
    assert runs == {"article": 1, "weather": 1}


def test_a_replay_to_a_browser_carries_no_cookie_of_the_pass(day_pass) -> None:
    headers = {**Payer().headers_for(get(ARTICLE)), "X-402-Paywall": "1"}
    Client().get(ARTICLE, headers=headers)
    thief = Client()
    thief.get(ARTICLE, headers=headers)
    assert not [name for name in thief.cookies if name.startswith("x402_pass_")]


def test_a_pass_is_made_by_the_task_where_a_process_died(day_pass) -> None:
    token, _ = buy()
    Pass.objects.all().delete()
    tidy_up()
    assert Pass.objects.get().payment == Payment.objects.get()
    assert get(OTHER, token).status_code == 200
