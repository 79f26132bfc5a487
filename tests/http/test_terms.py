"""Terms that move: payees from code, fees, bounds, and a price that was edited a moment ago."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from django.views import View
from rest_framework.response import Response
from rest_framework.views import APIView

from tests.admin.rows import make_method
from tests.settings import PAY_TO, TEST_DOLLAR, X402
from tests.shop.runs import runs
from x402_django import clock
from x402_django.exceptions import ConfigurationError, PaymentRequired
from x402_django.http.decorators import payment_required
from x402_django.http.views import PaymentRequiredMixin
from x402_django.models import Payment, PaymentMethod, PreviousPrice, PriceRule
from x402_django.pricing.cache import forget_rules
from x402_django.rest_framework import HasPaid
from x402_django.testing.payer import decode

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.http.test_terms")]

ANNA = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
BELA = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
AUTHORS: dict[str, Any] = {
    "anna": ANNA,
    "bela": BELA.lower(),
    "house": None,
    "elsewhere": {"eip155:1": ANNA},
    "here": {"eip155:84532": BELA, "eip155:1": ANNA},
    "mistyped": ANNA.replace("3C44C", "3C44c"),
    "nobody": "0x" + "0" * 40,
    "token": TEST_DOLLAR,
    "word": "anna",
}


def author_of(request: HttpRequest) -> Any:
    return AUTHORS[request.resolver_match.kwargs["author"]]  # type: ignore[union-attr]


@payment_required("$0.01", rule="story", pay_to=author_of)
def story(request: HttpRequest, author: str) -> HttpResponse:
    runs["story"] += 1
    return HttpResponse("once upon a time")


def asked_story(request: HttpRequest, author: str) -> HttpResponse:
    if request.payment is None:  # type: ignore[attr-defined]
        raise PaymentRequired("$0.01", pay_to=AUTHORS[author])
    return HttpResponse("once upon a time")


class MixinStory(PaymentRequiredMixin, View):
    price = "$0.01"

    def get_pay_to(self, request: HttpRequest) -> Any:
        return AUTHORS[self.kwargs["author"]]  # type: ignore[attr-defined]

    def get(self, request: HttpRequest, author: str) -> HttpResponse:
        return HttpResponse("once upon a time")


class ApiStory(APIView):
    permission_classes = [HasPaid]
    price = "$0.01"

    def get_pay_to(self, request: Any) -> Any:
        return AUTHORS[self.kwargs["author"]]

    def get(self, request: Any, author: str) -> Response:
        return Response("once upon a time")


def by_length(request: HttpRequest) -> Decimal:
    return Decimal("0.001") * int(request.GET["length"])


@payment_required(by_length, minimum="$0.002", maximum="$0.05")
def by_word(request: HttpRequest) -> HttpResponse:
    runs["by_word"] += 1
    return HttpResponse("words")


class ByWord(APIView):
    permission_classes = [HasPaid]
    minimum_price, maximum_price = "$0.002", "$0.05"

    def get_price(self, request: Any) -> Decimal:
        return by_length(request)

    def get(self, request: Any) -> Response:
        return Response("words")


urlpatterns = [
    path("story/<slug:author>/", story, name="story"),
    path("asked/<slug:author>/", asked_story),
    path("mixin/<slug:author>/", MixinStory.as_view()),
    path("api/<slug:author>/", ApiStory.as_view()),
    path("words/", by_word),
    path("api-words/", ByWord.as_view()),
    path("", include("tests.urls")),
]


def accepts(client: Any, url: str) -> list[dict[str, Any]]:
    response = client.get(url)
    assert response.status_code == 402, response.content
    offers: list[dict[str, Any]] = decode(response["PAYMENT-REQUIRED"])["accepts"]
    return offers


def amounts(client: Any, url: str = "/articles/a/") -> list[int]:
    return [int(offer["amount"]) for offer in accepts(client, url)]


@pytest.fixture
def article_rule() -> PriceRule:
    return PriceRule.objects.create(name="a", price_usd=Decimal("0.50"), url_names=["shop:article"])


class TestPayee:
    @pytest.mark.parametrize("kind", ["story", "asked", "mixin", "api"])
    def test_each_author_is_paid(self, kind, buyer):
        for author, address in [("anna", ANNA), ("bela", BELA), ("house", PAY_TO), ("here", BELA)]:
            assert buyer.pay("get", f"/{kind}/{author}/").status_code == 200
            assert Payment.objects.latest("pk").pay_to == address
            assert Payment.objects.latest("pk").receipt.pay_to == address

    def test_a_payment_to_another_author_is_refused(self, client, payer):
        headers = payer.headers_for(client.get("/story/bela/"))
        answer = client.get("/story/anna/", headers=headers)
        assert answer.status_code == 402
        assert answer.json()["error"] == "invalid_payment_requirements"
        assert (Payment.objects.count(), runs["story"]) == (0, 0)

    def test_the_code_goes_before_the_payment_methods_of_a_rule(self, client):
        rule = PriceRule.objects.create(name="s", key="story", price_usd=2)
        rule.payment_methods.add(make_method())
        (offer,) = accepts(client, "/story/anna/")
        assert (offer["payTo"], offer["amount"]) == (ANNA, "2000000")

    @pytest.mark.parametrize("author", ["elsewhere", "mistyped", "nobody", "token", "word"])
    @pytest.mark.parametrize("priced_by", ["code", "rule"])
    def test_where_nobody_could_be_paid_nothing_is_sold(self, author, priced_by, client, caplog):
        if priced_by == "rule":
            PriceRule.objects.create(name="s", key="story", price_usd=2)
        answer = client.get(f"/story/{author}/")
        assert (answer.status_code, answer.json()["error"]) == (503, "price_not_configured")
        assert "the code says to pay" in caplog.text.lower()
        assert runs["story"] == 0


class TestBoundsOfCode:
    @pytest.mark.parametrize("page", ["/words/", "/api-words/"])
    @pytest.mark.parametrize(
        ("length", "amount"), [(0, 2_000), (1, 2_000), (3, 3_000), (50, 50_000), (51, 50_000)]
    )
    def test_a_price_beyond_them_becomes_them(self, page, length, amount, client):
        assert amounts(client, f"{page}?length={length}") == [amount]

    def test_less_than_nothing_is_no_price(self, client):
        assert client.get("/words/?length=-1").status_code == 503
        assert runs["by_word"] == 0

    @pytest.mark.parametrize(
        "wrong", [{"minimum": "$2", "maximum": "$1"}, {"minimum": 0}, {"maximum": "much"}]
    )
    def test_wrong_ones_fail_at_import(self, wrong):
        with pytest.raises(ConfigurationError):
            payment_required("$1", **wrong)


class TestFees:
    def test_both_are_added_and_rounded_up(self, buyer, article_rule):
        make_method(fee_amount=Decimal("0.002"), fee_percent=Decimal("0.33"))
        article_rule.price_usd = Decimal("0.0101")
        article_rule.save()
        # 10,100 + 0.33 % (33.33) + 2,000
        assert amounts(buyer) == [12_134]
        assert buyer.pay("get", "/articles/a/").status_code == 200
        payment = Payment.objects.get()
        assert (payment.amount, payment.price_usd) == (12_134, Decimal("0.012134"))
        assert payment.receipt.price_usd == Decimal("0.012134")

    def test_the_price_alone_does_not_pay(self, client, payer, article_rule):
        make_method(fee_amount=Decimal("0.002"))
        challenge = client.get("/articles/a/")
        for version in (1, 2):
            headers = payer.headers_for(challenge, version=version, value="500000")
            answer = client.get("/articles/a/", headers=headers)
            assert answer.status_code == 402
            assert "value_mismatch" in answer.json()["error"]
        assert (Payment.objects.count(), runs["article"]) == (0, 0)

    def test_of_a_price_in_token_units_and_of_a_price_in_code(self, client, article_rule):
        make_method(fee_percent=Decimal(10))
        article_rule.price_usd, article_rule.token_amount = None, 55
        article_rule.save()
        assert amounts(client) == [61]
        assert amounts(client, "/weather/") == [11_000]

    def test_no_finer_than_prices_are_kept(self, buyer, article_rule):
        make_method(fee_percent=Decimal("0.01"), asset_decimals=18)
        article_rule.price_usd = Decimal("0.00012345")
        article_rule.save()
        assert amounts(buyer) == [123_470_000_000_000]  # the fee is 0.000000012345
        assert buyer.pay("get", "/articles/a/").status_code == 200
        assert Payment.objects.get().price_usd == Decimal("0.00012347")

    def test_the_paywall_says_what_is_paid(self, client, article_rule):
        make_method(fee_amount=Decimal("0.002"))
        browser = {"Accept": "text/html", "User-Agent": "Mozilla/5.0"}
        html = client.get("/articles/a/", headers=browser).content.decode()
        assert "$0.502" in html
        assert "with a fee of 0.002 USDC for the network" in html
        assert "$0.50<" not in html


class TestBounds:
    @pytest.mark.parametrize(
        ("price", "offered"),
        [
            ("0.98", ["small"]),
            ("0.99", ["small", "large"]),  # with the fee it is 1.00
            ("1.00", ["small", "large"]),
            ("2.00", ["small", "large"]),
            ("2.01", ["large"]),
            ("9.99", ["large"]),
            ("10.00", None),
        ],
    )
    def test_of_methods(self, price, offered, client, article_rule):
        small = make_method(name="small", maximum_amount=2, priority=1)
        large = make_method(
            name="large",
            network="eip155:8453",
            fee_amount=Decimal("0.01"),
            minimum_amount=1,
            maximum_amount=10,
        )
        article_rule.price_usd = Decimal(price)
        article_rule.save()
        if offered is None:
            answer = client.get("/articles/a/")
            assert (answer.status_code, answer.json()["error"]) == (503, "price_not_configured")
            assert runs["article"] == 0
            return
        networks = {"small": small.network, "large": large.network}
        found = [offer["network"] for offer in accepts(client, "/articles/a/")]
        assert found == [networks[name] for name in offered]

    def test_methods_come_in_the_merchants_order(self, client, article_rule):
        for name, network, priority in [("a", 1, 0), ("b", 10, 7), ("c", 8453, 3)]:
            make_method(name=name, network=f"eip155:{network}", priority=priority)
        found = [offer["network"] for offer in accepts(client, "/articles/a/")]
        assert found == ["eip155:10", "eip155:8453", "eip155:1"]


def edit(rule: PriceRule, **values: Any) -> None:
    """An edit in another process: what this one had in memory is old, the database tells."""
    PriceRule.objects.filter(pk=rule.pk).update(**values)
    forget_rules()


class TestGrace:
    @pytest.mark.parametrize("version", [1, 2])
    @pytest.mark.parametrize("price", ["0.75", "0.25"])
    def test_who_was_asked_before_an_edit_pays_what_was_asked(
        self, version, price, client, payer, article_rule
    ):
        headers = payer.headers_for(client.get("/articles/a/"), version=version)
        article_rule.price_usd = Decimal(price)
        article_rule.save()
        assert amounts(client) == [int(Decimal(price) * 10**6)]
        answer = client.get("/articles/a/", headers=headers)
        assert answer.status_code == 200
        payment = Payment.objects.get()
        assert (payment.amount, payment.price_usd) == (500_000, Decimal("0.50"))
        assert payment.requirements["amount"] == "500000"
        assert (payment.rule, payment.receipt.amount) == (article_rule, 500_000)
        assert client.get("/articles/a/", headers=headers).content == answer.content
        assert runs["article"] == 1

    def test_the_price_before_comes_from_the_database(self, client, payer, article_rule):
        headers = payer.headers_for(client.get("/articles/a/"))
        edit(article_rule, price_usd=None, token_amount=7)
        assert amounts(client) == [7]
        assert client.get("/articles/a/", headers=headers).status_code == 200
        assert Payment.objects.get().price_usd == Decimal("0.50")

    def test_several_edits_in_a_row(self, client, payer, article_rule):
        signed = [payer.headers_for(client.get("/articles/a/"))]
        for price in ("0.60", "0.70"):
            article_rule.price_usd = Decimal(price)
            PriceRule.objects.bulk_update([article_rule], ["price_usd"])
            forget_rules()
            signed.append(payer.headers_for(client.get("/articles/a/")))
        answers = [client.get("/articles/a/", headers=headers) for headers in signed]
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        paid = Payment.objects.order_by("pk").values_list("amount", flat=True)
        assert list(paid) == [500_000, 600_000, 700_000]

    def test_it_ends(self, client, payer, article_rule):
        headers = payer.headers_for(client.get("/articles/a/"))
        article_rule.price_usd = 1
        article_rule.save()
        # PRICE_GRACE, and before it the time in which other processes still ask for the old one.
        with clock.shifted(timedelta(seconds=60 + 4 + 1)):
            answer = client.get("/articles/a/", headers=headers)
        assert answer.status_code == 402
        assert decode(answer["PAYMENT-REQUIRED"])["accepts"][0]["amount"] == "1000000"
        assert (Payment.objects.count(), runs["article"]) == (0, 0)
        forget_rules()  # read when the earlier price was over
        with clock.shifted(timedelta(seconds=60)):
            assert client.get("/articles/a/", headers=headers).status_code == 200

    def test_a_site_may_do_without(self, client, payer, article_rule):
        headers = payer.headers_for(client.get("/articles/a/"))
        with override_settings(X402={**X402, "PRICE_GRACE": 0}):
            article_rule.price_usd = 1
            article_rule.save()
            assert client.get("/articles/a/", headers=headers).status_code == 402
        assert (Payment.objects.count(), runs["article"]) == (0, 0)

    def test_an_invented_price_is_no_earlier_one(self, client, payer, article_rule):
        article_rule.price_usd = 1
        article_rule.save()
        challenge = client.get("/articles/a/")
        for version in (1, 2):
            headers = payer.headers_for(challenge, version=version, value="499999")
            assert client.get("/articles/a/", headers=headers).status_code == 402
        assert (Payment.objects.count(), runs["article"]) == (0, 0)

    def test_of_another_rule_it_is_none(self, client, payer, article_rule):
        other = PriceRule.objects.create(name="b", price_usd=1, url_names=["shop:free"])
        headers = payer.headers_for(client.get("/free/"))
        other.price_usd = 3
        other.save()
        assert client.get("/articles/a/", headers=headers).status_code == 402
        assert client.get("/free/", headers=headers).status_code == 200

    def test_where_the_money_goes_is_in_force_at_once(self, client, payer, article_rule):
        method = make_method()
        headers = payer.headers_for(client.get("/articles/a/"))
        PaymentMethod.objects.filter(pk=method.pk).update(pay_to=ANNA)
        article_rule.price_usd = 1
        article_rule.save()
        assert client.get("/articles/a/", headers=headers).status_code == 402
        assert Payment.objects.count() == 0

    @pytest.mark.parametrize("then", ["before", "after"])
    def test_a_sale_that_has_just_ended(self, then, client, payer, article_rule):
        """By its own dates, not by an edit."""
        end = clock.now() + timedelta(seconds=30)
        PriceRule.objects.create(
            name="sale", price_usd=Decimal("0.25"), url_names=["shop:article"],
            priority=1, valid_until=end,
        )  # fmt: skip
        headers = payer.headers_for(client.get("/articles/a/"))
        late = 60 if then == "after" else 0
        with clock.shifted(timedelta(seconds=35 + late)):
            assert amounts(client) == [500_000]
            answer = client.get("/articles/a/", headers=headers)
        if then == "after":
            assert (answer.status_code, Payment.objects.count()) == (402, 0)
        else:
            assert (answer.status_code, Payment.objects.get().rule_name) == (200, "sale")
            assert Payment.objects.get().price_usd == Decimal("0.25")

    def test_a_challenge_still_asks_the_database_nothing(self, client, article_rule):
        edit(article_rule, price_usd=1)
        client.get("/articles/a/")
        with CaptureQueriesContext(connection) as context:
            assert client.get("/articles/a/").status_code == 402
        control = ("SAVEPOINT", "ROLLBACK", "RELEASE", "BEGIN", "COMMIT")
        assert [q["sql"] for q in context if not q["sql"].startswith(control)] == []

    def test_only_prices_that_changed_are_kept(self, article_rule):
        article_rule.refresh_from_db()
        article_rule.save()
        article_rule.description = "New"
        article_rule.save(update_fields=["description"])
        PriceRule.objects.update(description="Newer")
        assert PreviousPrice.objects.count() == 0
        with transaction.atomic():
            article_rule.price_usd = 1
            article_rule.save()
            transaction.set_rollback(True)
        assert PreviousPrice.objects.count() == 0
        PriceRule.objects.update(price_usd=2)
        assert PreviousPrice.objects.get().price_usd == Decimal("0.50")
