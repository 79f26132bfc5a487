"""Pages of other origins that buy: preflights, and what they may read."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import Client, override_settings
from django.urls import include, path
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView

from tests import settings as test_settings
from tests.http.conftest import Shopper
from tests.settings import X402
from tests.shop.runs import runs
from x402_django.constants import EXPOSED_HEADERS
from x402_django.models import Payment, PriceRule
from x402_django.rest_framework import HasPaid
from x402_django.testing.instant import InstantFacilitator

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.http.test_cors")]

PAGE = "https://app.example"
ORIGIN = {"Origin": PAGE}
PREFLIGHT = {
    **ORIGIN,
    "Access-Control-Request-Method": "GET",
    "Access-Control-Request-Headers": "payment-signature",
}


class Members(APIView):
    permission_classes = [IsAuthenticated & HasPaid]
    price = "$0.02"

    def get(self, request: Any) -> Response:
        return Response({})


urlpatterns = [path("members/", Members.as_view()), path("", include("tests.urls"))]


def opened(*origins: str) -> Any:
    return override_settings(X402={**X402, "CORS_ORIGINS": list(origins)})


@pytest.fixture
def article_rule() -> None:
    PriceRule.objects.create(name="a", price_usd=1, url_names=["shop:article"])


@pytest.mark.parametrize(
    "url",
    ["/weather/", "/async-weather/", "/photo/", "/by-size/?cents=x", "/articles/a/", "/members/"],
)
@pytest.mark.parametrize("allowed", [PAGE, "*"])
def test_a_preflight_is_free_and_right(url, allowed, transport, payer, article_rule):
    shopper = Shopper(transport, 2, payer)
    with opened(allowed):
        answer = shopper.send(url, PREFLIGHT, method="OPTIONS")
    assert answer.status_code == 204
    assert answer["Access-Control-Allow-Origin"] == allowed
    names = answer["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"payment-signature", "x-payment", "x-402-proof", "content-type"} <= set(names)
    assert "GET" in answer["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in answer
    assert ("Origin" in answer.get("Vary", "")) is (allowed != "*")
    assert (runs, Payment.objects.count(), InstantFacilitator.settled) == ({}, 0, [])


def test_every_answer_of_a_purchase_can_be_read(transport, version, payer):
    shopper = Shopper(transport, version, payer)
    with opened(PAGE):
        challenge = shopper.send("/weather/", ORIGIN)
        headers = payer.headers_for(challenge, version=version)
        paid = shopper.send("/weather/", {**headers, **ORIGIN})
        refused = shopper.send("/photo/", {**headers, **ORIGIN})
        broken = shopper.send("/weather/", {"X-PAYMENT": "%", **ORIGIN})
        asked = shopper.send("/asking/", ORIGIN)
        bought = shopper.send("/asking/", {**payer.headers_for(asked, version=version), **ORIGIN})
    answers = [challenge, paid, refused, broken, asked, bought]
    assert [a.status_code for a in answers] == [402, 200, 402, 400, 402, 200]
    assert {a["Access-Control-Allow-Origin"] for a in answers} == {PAGE}
    for answer in (challenge, paid, asked, bought):
        assert set(EXPOSED_HEADERS) <= set(answer["Access-Control-Expose-Headers"].split(", "))


@pytest.mark.parametrize("origins", [(), ("https://other.example",)])
def test_no_other_origin_is_let_in(origins, client):
    with opened(*origins):
        preflight = client.options("/weather/", headers=PREFLIGHT)
        challenge = client.get("/weather/", headers=ORIGIN)
    assert (preflight.status_code, challenge.status_code) == (204, 402)
    for answer in (preflight, challenge):
        assert "Access-Control-Allow-Origin" not in answer
    assert "Access-Control-Allow-Methods" not in preflight


def test_what_is_not_for_sale_stays_closed(client):
    with opened("*"):
        for answer in (
            client.get("/free/", headers=ORIGIN),
            client.options("/free/", headers=PREFLIGHT),
            client.get("/admin/login/", headers=ORIGIN),
        ):
            assert "Access-Control-Allow-Origin" not in answer


def with_cors_headers(**settings: Any) -> Any:
    return override_settings(
        INSTALLED_APPS=[*test_settings.INSTALLED_APPS, "corsheaders"],
        MIDDLEWARE=["corsheaders.middleware.CorsMiddleware", *test_settings.MIDDLEWARE],
        CORS_ALLOWED_ORIGINS=[PAGE],
        **settings,
    )


class TestDjangoCorsHeaders:
    """The other way: the site has django-cors-headers, and says there who may."""

    ALLOWED = ["accept", "content-type", "payment-signature", "x-payment"]

    def test_it_answers_preflights_and_the_gate_exposes_its_headers(self):
        with with_cors_headers(CORS_ALLOW_HEADERS=self.ALLOWED):
            client = Client()
            preflight = client.options("/members/", headers=PREFLIGHT)
            challenge = client.get("/weather/", headers=ORIGIN)
            messages = [m.id for m in run_checks(tags=["x402"])]
        assert preflight.status_code == 200
        assert "payment-signature" in preflight["Access-Control-Allow-Headers"]
        assert challenge.status_code == 402
        assert challenge["Access-Control-Allow-Origin"] == PAGE
        assert "PAYMENT-REQUIRED" in challenge["Access-Control-Expose-Headers"]
        assert "x402_django.W071" not in messages
        assert not runs

    @pytest.mark.parametrize(
        ("settings", "part"),
        [
            ({}, "CORS_ALLOW_HEADERS of django-cors-headers lacks PAYMENT-SIGNATURE"),
            (
                {"CORS_ALLOW_HEADERS": ALLOWED, "CORS_EXPOSE_HEADERS": ["X-Own"]},
                "CORS_EXPOSE_HEADERS of django-cors-headers lacks PAYMENT-REQUIRED",
            ),
        ],
    )
    def test_w071_what_it_would_forbid(self, settings, part):
        with with_cors_headers(**settings):
            (message,) = [m for m in run_checks(tags=["x402"]) if m.id == "x402_django.W071"]
        assert part in message.msg


@pytest.mark.parametrize("wrong", ["*", ["app.example"], ["https://app.example/page"], [7]])
def test_e070_what_is_no_origin(wrong):
    with override_settings(X402={**X402, "CORS_ORIGINS": wrong}):
        assert "x402_django.E070" in [m.id for m in run_checks(tags=["x402"])]
