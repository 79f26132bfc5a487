"""What the demo does for the merchant: once, and without undoing what the merchant did."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from demo_project import shop
from x402_django.models import PaymentMethod, PriceRule
from x402_django.protocol.assets import KnownAsset

ASSET = KnownAsset(
    "eip155:84532", "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "USDC", "2", 6, "USDC"
)

pytestmark = pytest.mark.django_db


def test_a_method_and_a_price_for_the_articles() -> None:
    shop.open_shop(ASSET)
    method = PaymentMethod.objects.get()
    assert (method.network, method.asset, method.asset_version, method.facilitator) == (
        "eip155:84532",
        ASSET.address,
        "2",
        "default",
    )
    assert method.pay_to == "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    method.full_clean()
    rules = PriceRule.objects.order_by("pk")
    assert [(rule.url_names, rule.price_usd, rule.grants) for rule in rules] == [
        (["article"], Decimal("0.05"), "request"),
        (["day-pass"], Decimal("0.10"), "pass"),
        (["credits"], Decimal("0.10"), "credits"),
        (["forecast"], Decimal("0.02"), "request"),
    ]
    for rule in rules:
        rule.full_clean()


def test_again_changes_nothing_that_the_merchant_changed() -> None:
    shop.open_shop(ASSET)
    PriceRule.objects.update(price_usd=Decimal("0.07"))
    shop.open_shop(ASSET)
    assert PaymentMethod.objects.count() == 1
    assert set(PriceRule.objects.values_list("price_usd", flat=True)) == {Decimal("0.07")}
    assert PriceRule.objects.count() == 4


def test_methods_of_a_chain_that_is_gone_are_not_offered() -> None:
    shop.open_shop(ASSET)
    other = KnownAsset("eip155:1337", "0x" + "1" * 40, "Test Dollar", "1", 6, "TUSD")
    shop.open_shop(other)
    active = PaymentMethod.objects.filter(active=True)
    assert [method.network for method in active] == ["eip155:1337"]
    shop.open_shop(ASSET)
    assert [method.network for method in active.all()] == ["eip155:84532"]


def test_the_merchant_reads_the_ledger_and_edits_prices(client: Client) -> None:
    shop.open_shop(ASSET)
    password = shop.merchant_login(renew=True)
    assert client.login(username="merchant", password=password)
    assert client.get("/admin/").status_code == 200
    for model in ("payment", "receipt", "pricerule", "paymentmethod"):
        assert client.get(f"/admin/x402_django/{model}/").status_code == 200
    assert client.get("/admin/x402_django/pricerule/add/").status_code == 200
    assert client.get("/admin/x402_django/payment/add/").status_code == 403
    assert client.get("/admin/auth/user/").status_code == 403


def test_a_login_that_exists_is_kept_unless_renewed(client: Client) -> None:
    first = shop.merchant_login(renew=False)
    assert first
    assert shop.merchant_login(renew=False) is None
    assert client.login(username="merchant", password=first)
    second = shop.merchant_login(renew=True)
    assert second not in (None, first)
    assert not client.login(username="merchant", password=first)
    assert get_user_model().objects.count() == 1
