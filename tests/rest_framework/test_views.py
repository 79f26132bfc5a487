"""Kinds of views, where their price comes from, and what the site's own code does with a 402."""

from __future__ import annotations

import pytest
from rest_framework.test import APIRequestFactory

from tests.rest_framework.people import token
from tests.rest_framework.views import Sold
from tests.shop.runs import runs
from x402_django.exceptions import ConfigurationError
from x402_django.models import Payment, PriceRule
from x402_django.testing.payer import decode

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.rest_framework.urls")]


def amount(response) -> str:
    assert response.status_code == 402
    return decode(response["PAYMENT-REQUIRED"])["accepts"][0]["amount"]


def ledger() -> list[str]:
    return list(Payment.objects.values_list("state", flat=True))


class TestKindsOfViews:
    def test_actions_of_a_viewset_have_their_own_permissions(self, buyer, people):
        assert buyer.get("/desk/").status_code == 200
        assert amount(buyer.get("/desk/member/")) == "20000"
        assert buyer.post("/desk/", {"username": "new"}).status_code == 401
        assert ledger() == []

        assert buyer.pay("GET", "/desk/member/").json()["username"] == "member"
        created = buyer.pay("POST", "/desk/", data={"username": "new"}, headers=token("member"))
        assert created.json() == {"username": "new", "first_name": ""}
        assert ledger() == ["settled", "settled"]

    def test_a_rule_on_a_url_waits_for_the_actions_permissions(self, client, people):
        PriceRule.objects.create(
            name="desk", url_names=["desk-list", "greetings-greet"], price_usd="0.07"
        )

        assert client.get("/desk/").status_code == 200
        assert client.post("/desk/", {"username": "new"}).status_code == 401
        assert client.get("/greetings/greet/").status_code == 401
        assert amount(client.get("/greetings/greet/", headers=token("member"))) == "70000"
        assert runs["greet"] == 0

    def test_api_view_functions_are_sold_by_a_rule_on_their_url(self, buyer):
        PriceRule.objects.create(name="function", url_names=["function"], price_usd="0.05")

        assert amount(buyer.get("/function/")) == "50000"
        assert buyer.pay("GET", "/function/").json() == {"payer": buyer.payer.address}
        assert Payment.objects.get().rule_name == "function"

    def test_the_decorator_works_under_api_view(self, buyer):
        assert amount(buyer.get("/decorated/")) == "30000"
        assert buyer.pay("GET", "/decorated/").json() == {"payer": buyer.payer.address}
        assert runs["decorated"] == 1

    def test_a_handler_may_raise_payment_required(self, buyer):
        assert amount(buyer.get("/raising/")) == "40000"
        assert buyer.pay("GET", "/raising/").json() == {"payer": buyer.payer.address}

    def test_a_payment_of_another_price_does_not_do(self, buyer):
        response = buyer.pay("GET", "/twice/")

        assert amount(response) == "5000000"
        assert runs["view"] == 0
        assert ledger() == ["released"]


class TestPrices:
    def test_a_rule_is_found_by_its_key_and_then_by_the_url(self, client):
        assert client.get("/ruled/").status_code == 503

        PriceRule.objects.create(name="by url", url_names=["ruled"], price_usd="0.30")
        assert amount(client.get("/ruled/")) == "300000"

        PriceRule.objects.create(name="by key", key="forecast", price_usd="0.20")
        response = client.get("/ruled/")
        assert amount(response) == "200000"
        assert decode(response["PAYMENT-REQUIRED"])["resource"] == {
            "url": "https://shop.example/ruled/",
            "description": "Tomorrow's weather",
            "mimeType": "application/json",
        }

    def test_get_price_may_read_the_body(self, buyer):
        body = {"data": {"pages": 3}, "content_type": "application/json"}

        assert amount(buyer.post("/pages/", **body)) == "30000"
        assert buyer.pay("POST", "/pages/", **body).json()["data"] == {"pages": 3}
        assert Payment.objects.get().amount == 30_000

    def test_a_payment_for_less_does_not_buy_more(self, client, payer):
        cheap = client.post("/pages/", {"pages": 1}, content_type="application/json")
        response = client.post(
            "/pages/",
            {"pages": 50},
            content_type="application/json",
            headers=payer.headers_for(cheap),
        )

        assert amount(response) == "500000"
        assert runs["view"] == 0
        assert ledger() == []

    def test_what_was_asked_for_is_what_is_paid(self, buyer):
        """A price that changes between the two passes of a request changes nothing for it."""
        assert buyer.pay("GET", "/whimsical/").status_code == 200
        assert runs["get_price"] == 2

    def test_the_price_of_a_cheap_thing_does_not_buy_a_dear_one(self, buyer):
        assert amount(buyer.get("/bundle/")) == "500000"
        assert buyer.pay("GET", "/bundle/").status_code == 402  # one payment, one thing
        assert "settled" not in ledger()

    def test_without_a_price_it_is_503_and_not_free(self, client):
        response = client.get("/unpriced/")

        assert response.status_code == 503
        assert response.json() == {
            "error": "price_not_configured",
            "message": "This resource is for sale, but has no price at the moment.",
            "retryable": True,
        }
        assert int(response["Retry-After"]) > 0
        assert runs["view"] == 0

    def test_who_need_not_pay_need_no_price(self, client, member):
        assert client.get("/unpriced-for-strangers/", headers=member).status_code == 200
        assert client.get("/unpriced-for-strangers/").status_code == 503

    @pytest.mark.parametrize(
        ("path", "flow"), [("/expression/paid/", "upfront"), ("/on-account/", "authorization")]
    )
    def test_the_flow_of_a_post(self, buyer, path, flow):
        assert buyer.pay("POST", path).status_code == 201
        assert Payment.objects.get().flow == flow
        assert ledger() == ["settled"]


class TestHandWork:
    def test_without_the_middleware_nothing_is_free(self):
        with pytest.raises(ConfigurationError, match="PaymentMiddleware"):
            Sold.as_view()(APIRequestFactory().get("/"))
        assert runs["view"] == 0

    def test_called_from_a_handler_it_asks(self, buyer):
        assert amount(buyer.get("/by-hand/")) == "20000"
        assert runs["view"] == 0
        assert buyer.pay("GET", "/by-hand/").json() == {"allowed": True}

    def test_called_from_another_permission_it_asks(self, buyer):
        assert buyer.get("/wrapping/").status_code == 200
        assert amount(buyer.post("/wrapping/")) == "20000"
        assert buyer.pay("POST", "/wrapping/").status_code == 201
        assert ledger() == ["settled"]

    def test_a_subclass_composes_as_well(self, buyer, member):
        assert buyer.get("/subclassing/", headers=member).status_code == 200
        assert buyer.post("/subclassing/").status_code == 401
        assert amount(buyer.post("/subclassing/", headers=member)) == "20000"
        assert buyer.pay("POST", "/subclassing/", headers=member).status_code == 201


class TestExceptionHandlers:
    def test_one_that_renames_keeps_its_shape_and_v2_clients_pay(self, buyer):
        response = buyer.get("/renamed/")

        assert amount(response) == "20000"
        assert response.json() == {
            "problem": {
                "codes": "payment_required",
                "full": {
                    "message": "Payment is required: 0.02 USDC on Base Sepolia.",
                    "code": "payment_required",
                },
            }
        }
        assert buyer.pay("GET", "/renamed/").status_code == 200

    @pytest.mark.parametrize("path", ["/cheerful/", "/unhandled/"])
    def test_one_that_hides_the_402_does_not(self, buyer, path):
        response = buyer.get(path)

        assert amount(response) == "20000"
        assert response.json()["x402Version"] == 1
        assert buyer.pay("GET", path).status_code == 200
