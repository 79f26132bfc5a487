"""Good customers pay less: who holds a pass, and who buys much."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.admin.rows import make_method, make_payment, make_receipt, make_rule
from x402_django import clock
from x402_django.models import Merchant, Payment, PriceRule, Receipt
from x402_django.pricing.cache import forget_rules
from x402_django.testing.payer import Payer, PayingClient, decode, encode
from x402_django.testing.sign_in import sign_in_headers

pytestmark = pytest.mark.django_db

PAGE, PASS = "/articles/a/", "/report/"


@pytest.fixture(autouse=True)
def _rules(db: None) -> None:
    """The article costs ten cents, a quarter less for holders of the pass that is sold beside."""
    make_rule(
        name="Articles", price_usd=Decimal("0.10"), holder_discount=25,
        volume_tiers=[[2, 10], [4, 50]],
    )  # fmt: skip
    make_rule(
        name="Pass", url_names=[], key="report", price_usd=Decimal("1"), grants="pass",
        pass_hours=1, pass_pages=["shop:weather"],
    )  # fmt: skip
    forget_rules()


def asked(**headers: str) -> int:
    """What the page costs, in hundredths of a cent."""
    answer = Client().get(PAGE, headers=headers)
    assert answer.status_code == 402
    return int(decode(answer["PAYMENT-REQUIRED"])["accepts"][0]["amount"])


def bought(payer: Payer, times: int, *, merchant: Any = None, days: int = 1) -> None:
    first = Payment.objects.count() + 1
    more = {"merchant": merchant} if merchant else {}
    for number in range(first, first + times):
        payment = make_payment(number, payer=payer.address, **more)
        make_receipt(payment, issued_at=clock.now() - timedelta(days=days), **more)


def own_price(payer: Payer, amount: int) -> int:
    """Whether the payer's own price is taken, by the status."""
    offer = decode(Client().get(PAGE)["PAYMENT-REQUIRED"])["accepts"][0]
    payload = payer.payload({**offer, "amount": str(amount)})
    return Client().get(PAGE, headers={"PAYMENT-SIGNATURE": encode(payload)}).status_code


def test_a_pass_holder_is_asked_for_less() -> None:
    payer = Payer()
    token = PayingClient(payer=payer).get(PASS)["X-402-Access"]
    assert asked() == 100_000
    assert asked(**{"X-402-Access": token}) == 75_000
    assert own_price(payer, 75_000) == 200
    assert Payment.objects.order_by("-pk")[0].price_usd == Decimal("0.075")
    assert Receipt.objects.order_by("-pk")[0].amount == 75_000


def test_the_price_of_a_holder_is_nobody_elses() -> None:
    """T12: who has no pass cannot pay as if."""
    assert own_price(Payer(), 75_000) == 402
    assert not Payment.objects.exists()


def test_an_ended_pass_takes_nothing_off(monkeypatch: Any) -> None:
    payer = Payer()
    token = PayingClient(payer=payer).get(PASS)["X-402-Access"]
    later = clock.now() + timedelta(hours=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert asked(**{"X-402-Access": token}) == 100_000


@pytest.mark.parametrize(
    ("times", "amount"),
    [(0, 100_000), (1, 100_000), (2, 90_000), (3, 90_000), (4, 50_000), (9, 50_000)],
)
def test_who_buys_much_pays_less(settings: Any, times: int, amount: int) -> None:
    settings.X402 = {**settings.X402, "EXTENSIONS": {"sign-in-with-x": {}}}
    payer = Payer()
    bought(payer, times)
    extension = decode(Client().get(PAGE)["PAYMENT-REQUIRED"])["extensions"]["sign-in-with-x"]
    assert asked(**sign_in_headers(extension, payer.account)) == amount
    assert own_price(payer, amount) == 200


def test_what_is_long_ago_or_another_sellers_does_not_count() -> None:
    payer = Payer()
    bought(payer, 4, days=31)
    bought(payer, 4, merchant=Merchant.objects.create(name="Other"))
    assert own_price(payer, 90_000) == 402
    assert own_price(payer, 100_000) == 200


def test_the_greater_discount_counts_and_the_full_price_is_taken_too() -> None:
    payer = Payer()
    token = PayingClient(payer=payer).get(PASS)["X-402-Access"]  # one purchase of its own
    bought(payer, 1)
    assert asked(**{"X-402-Access": token}) == 75_000
    bought(payer, 2)
    assert asked(**{"X-402-Access": token}) == 50_000
    assert own_price(payer, 100_000) == 200


def test_it_is_rounded_up_to_what_the_token_can_say() -> None:
    PriceRule.objects.filter(name="Articles").update(price_usd=Decimal("0.000301"))
    forget_rules()
    payer = Payer()
    token = PayingClient(payer=payer).get(PASS)["X-402-Access"]
    assert asked(**{"X-402-Access": token}) == 226


def test_no_discounts_no_queries(django_assert_num_queries: Any) -> None:
    PriceRule.objects.filter(name="Articles").update(holder_discount=None, volume_tiers=[])
    forget_rules()
    Client().get(PAGE)
    with django_assert_num_queries(0):
        asked()


def test_a_merchant_enters_tiers(admin_client: Client) -> None:
    make_method()
    rule = PriceRule.objects.get(name="Articles")
    url = reverse("admin:x402_django_pricerule_change", args=[rule.pk])
    assert "2: 10%, 4: 50%" in admin_client.get(url).content.decode()
    values = {"name": "Articles", "active": "on", "priority": "0", "url_names": ["shop:article"],
              "price_usd": "0.10", "volume_tiers": "10: 5%, 100: 20"}  # fmt: skip
    assert admin_client.post(url, values).status_code == 302
    rule.refresh_from_db()
    assert rule.volume_tiers == [[10, 5], [100, 20]]
    for wrong in ("10", "10: x", "10: 5, 5: 9", "10: 5, 20: 5", "10: 96"):
        answer = admin_client.post(url, {**values, "volume_tiers": wrong})
        assert "volume_tiers" in answer.context["adminform"].form.errors
