"""What the site says it sells is what it asks for: lists, OpenAPI, well-known addresses."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import include, path, re_path
from django.utils import translation
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from tests.admin.rows import make_method
from tests.settings import PAY_TO, X402
from x402_django.http.decorators import payment_required
from x402_django.http.routes import site_routes
from x402_django.http.state import never_for_sale
from x402_django.models import PriceRule
from x402_django.rest_framework import HasPaid
from x402_django.testing.payer import decode

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.http.test_discovery")]

ROOT = "https://shop.example"
BAZAAR = {
    "INPUT": {"city": "Berlin"},
    "INPUT_SCHEMA": {"properties": {"city": {"type": "string"}}, "required": ["city"]},
    "OUTPUT": {"sky": "blue"},
}


@payment_required("$0.01", description="Weather", extensions={"bazaar": BAZAAR})
def forecast(request: HttpRequest) -> HttpResponse:
    return HttpResponse("blue")


@payment_required("$0.01", extensions={"bazaar": False})
def unlisted(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hidden")


@payment_required(lambda request: "$0.03", minimum="$0.02", maximum="$0.50", description="Varies")
def varying(request: HttpRequest) -> HttpResponse:
    raise AssertionError("nobody runs a view to list it")


@payment_required("$0.10", pay_to=lambda request: None)
def market(request: HttpRequest) -> HttpResponse:
    return HttpResponse("market")


@payment_required(rule="unpriced")
def unpriced(request: HttpRequest) -> HttpResponse:
    return HttpResponse("unpriced")


@never_for_sale
def health(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


class Sold(APIView):
    """Sold by its permission."""

    permission_classes = [HasPaid]
    price, price_description = "$0.02", "An answer"

    def get(self, request: Any, pk: int) -> Response:
        return Response({})

    def post(self, request: Any, pk: int) -> Response:
        return Response({})


class Ruled(APIView):
    """Knows nothing of payments."""

    def get(self, request: Any) -> Response:
        return Response({})


urlpatterns = [
    path("forecast/", forecast),
    path("unlisted/", unlisted),
    path("varying/", varying),
    path("market/", market),
    path("unpriced/", unpriced),
    path("healthy/", health, name="healthy"),
    path("sold/<int:pk>/", Sold.as_view()),
    path("ruled/", Ruled.as_view(), name="ruled"),
    re_path(r"^old/(?P<year>[0-9]{4})/$", payment_required("$0.05")(lambda r, year: None)),
    path("", include("x402_django.root_urls")),
    path("x402/", include("x402_django.urls")),
    path("", include("tests.shop.urls")),
]


@pytest.fixture(autouse=True)
def _rules() -> Any:
    PriceRule.objects.create(name="r", price_usd="1.50", url_names=["ruled", "healthy"])
    PriceRule.objects.create(
        name="p", token_amount=7, url_names=["shop:article"], methods=["GET", "POST"]
    )
    with override_settings(X402={**X402, "EXTENSIONS": {"bazaar": {}}}):
        yield


def items(client: Client) -> dict[tuple[str, str], dict[str, Any]]:
    answer = client.get("/x402/discovery/?limit=100").json()
    assert answer["pagination"]["total"] == len(answer["items"])
    return {(one["method"], one["resource"].removeprefix(ROOT)): one for one in answer["items"]}


def test_the_list_has_what_is_sold_and_nothing_else(client):
    found = items(client)
    ours = [key for key in found if not key[1].startswith(("/weather", "/asy"))]
    assert {
        ("GET", "/forecast/"), ("GET", "/varying/"), ("GET", "/market/"),
        ("GET", "/sold/{pk}/"), ("POST", "/sold/{pk}/"), ("GET", "/ruled/"),
        ("GET", "/articles/{slug}/"), ("POST", "/articles/{slug}/"), ("GET", "/photo/"),
    } <= set(ours)  # fmt: skip
    paths = {path for _method, path in found}
    assert not paths & {"/unlisted/", "/unpriced/", "/healthy/", "/free/", "/report/"}


@pytest.mark.parametrize("url", ["/forecast/", "/ruled/", "/photo/", "/weather/"])
def test_it_says_what_the_challenge_says(url, client):
    challenge = decode(client.get(url)["PAYMENT-REQUIRED"])
    item = items(client)["GET", url]
    assert item["resource"] == challenge["resource"]["url"]
    assert item["accepts"] == challenge["accepts"]
    assert item.get("description") == challenge["resource"].get("description")


def test_fees_bounds_and_order_are_in_it(client):
    make_method(fee_amount="0.01")
    make_method(name="big", network="eip155:8453", minimum_amount=5, priority=9)
    challenge = decode(client.get("/ruled/")["PAYMENT-REQUIRED"])
    assert [one["amount"] for one in challenge["accepts"]] == ["1510000"]
    assert items(client)["GET", "/ruled/"]["accepts"] == challenge["accepts"]


def test_what_depends_on_the_request_is_said_to(client):
    found = items(client)
    varying, market = found["GET", "/varying/"], found["GET", "/market/"]
    assert (varying["accepts"], market["accepts"]) == ([], [])
    assert varying["price"] == {"mode": "dynamic", "currency": "USD", "min": "0.02", "max": "0.50"}
    assert market["price"] == {"mode": "fixed", "currency": "USD", "amount": "0.10"}
    article = found["GET", "/articles/{slug}/"]
    assert article["price"] == {"mode": "fixed", "currency": "USDC", "amount": "0.000007"}
    assert article["parameters"] == ["slug"]


def test_an_edited_price_is_in_the_list(client):
    assert items(client)["GET", "/ruled/"]["price"]["amount"] == "1.50"
    rule = PriceRule.objects.get(name="r")
    rule.price_usd = 2
    rule.save()
    assert items(client)["GET", "/ruled/"]["price"]["amount"] == "2.00"


def test_pages_of_it(client):
    everything = list(items(client))
    page = client.get("/x402/discovery/?limit=2&offset=3").json()
    assert page["pagination"] == {"limit": 2, "offset": 3, "total": len(everything)}
    assert [(i["method"], i["resource"].removeprefix(ROOT)) for i in page["items"]] == everything[
        3:5
    ]
    for query in ("limit=0", "limit=101", "offset=-1", "limit=x", "limit=²"):
        assert client.get(f"/x402/discovery/?{query}").status_code == 400


def test_the_well_known_address_names_what_can_be_asked_for(client):
    answer = client.get("/.well-known/x402")
    document = answer.json()
    assert (document["version"], document["x402Version"]) == (1, 2)
    assert f"{ROOT}/forecast/" in document["resources"]
    assert not [url for url in document["resources"] if "{" in url or "unlisted" in url]
    assert len(set(document["resources"])) == len(document["resources"])
    for url in document["resources"]:
        if "by-size" not in url:
            assert client.get(url.removeprefix(ROOT)).status_code == 402, url
    for name in ("discovery", "openapi"):
        assert client.get(document[name].removeprefix(ROOT)).status_code == 200
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert answer["Cache-Control"] == "public, max-age=60"


def test_llms_txt(client):
    answer = client.get("/llms.txt")
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    text = answer.content.decode()
    assert (
        f"- [GET /forecast/]({ROOT}/forecast/): Weather. Price: 0.01 USDC on Base Sepolia.\n"
        in text
    )
    assert "Price: depends on the request from $0.02 up to $0.50." in text
    assert "/unlisted/" not in text


def test_openapi_of_everything_for_sale(client):
    document = client.get("/x402/openapi.json").json()
    validate_schema(document)
    operation = document["paths"]["/forecast/"]["get"]
    assert operation["summary"] == "Weather"
    assert operation["x-payment-info"]["price"]["amount"] == "0.01"
    assert operation["x-payment-info"]["accepts"][0]["payTo"] == PAY_TO
    headers = {one["name"] for one in operation["parameters"] if one["in"] == "header"}
    assert headers == {"PAYMENT-SIGNATURE", "X-PAYMENT"}
    assert ("query", "city", True) in [
        (one["in"], one["name"], one.get("required")) for one in operation["parameters"]
    ]
    refused = operation["responses"]["402"]
    example = decode(refused["headers"]["PAYMENT-REQUIRED"]["example"])
    assert example["accepts"] == decode(client.get("/forecast/")["PAYMENT-REQUIRED"])["accepts"]
    assert refused["content"]["application/json"]["example"]["accepts"][0]["payTo"] == PAY_TO
    assert set(document["paths"]["/sold/{pk}/"]) == {"get", "post"}


def test_spectacular_describes_what_rules_and_decorators_sell(settings):
    settings.REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
    import x402_django.rest_framework.schema  # noqa: F401 - registers itself

    paths = SchemaGenerator().get_schema(public=True)["paths"]
    ruled = paths["/ruled/"]["get"]
    assert ruled["x-payment-info"]["price"]["amount"] == "1.50"
    assert "402" in ruled["responses"]
    assert paths["/sold/{id}/"]["post"]["x-payment-info"]["price"]["amount"] == "0.02"


def test_robots_are_told_where_the_site_wants_that(client, buyer):
    with override_settings(X402={**X402, "ROBOTS_TAG": "noarchive"}):
        answers = [client.get("/weather/"), buyer.pay("get", "/weather/"), client.get("/asking/")]
        assert [a.status_code for a in answers] == [402, 200, 402]
        assert {a.get("X-Robots-Tag") for a in answers} == {"noarchive"}
        assert "X-Robots-Tag" not in client.get("/free/")
    assert "X-Robots-Tag" not in client.get("/weather/")


def test_routes_are_those_of_the_sites_own_language(client):
    with override_settings(ROOT_URLCONF="tests.http.translated_urls"):
        with translation.override("de"):
            assert next(route.pattern for route in site_routes()) == "/de/wetter/"
        found = client.get("/x402/discovery/", headers={"Accept-Language": "de"}).json()["items"]
    assert [one["resource"] for one in found] == [f"{ROOT}/en-us/wetter/"]


def test_it_is_an_option(client):
    with override_settings(X402={**X402, "DISCOVERY": False}):
        for url in ("/.well-known/x402", "/llms.txt", "/x402/discovery/", "/x402/openapi.json"):
            assert client.get(url).status_code == 404


@pytest.mark.parametrize("proxy", [True, False])
def test_addresses_are_canonical_behind_a_proxy(proxy, client):
    """By BASE_URL, whatever host is asked; without it, by what a trusted proxy says."""
    extra = {"HTTP_HOST": "testserver"}
    if proxy:
        extra["HTTP_X_FORWARDED_PROTO"] = "https"
    with override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")):
        found = client.get("/.well-known/x402", **{**extra, "HTTP_HOST": "127.0.0.1"}).json()
        assert found["discovery"] == f"{ROOT}/x402/discovery/"
        assert f"{ROOT}/forecast/" in found["resources"]
        with override_settings(X402={**X402, "BASE_URL": None, "EXTENSIONS": {"bazaar": {}}}):
            found = client.get("/.well-known/x402", **extra).json()
            challenge = decode(client.get("/forecast/", **extra)["PAYMENT-REQUIRED"])
    scheme = "https" if proxy else "http"
    assert f"{scheme}://testserver/forecast/" in found["resources"]
    assert challenge["resource"]["url"] == f"{scheme}://testserver/forecast/"


def test_nobody_is_charged_for_the_list_itself(client):
    PriceRule.objects.create(name="all", price_usd=1, url_names=["x402:discovery", "x402:keys"])
    assert client.get("/x402/discovery/").status_code == 200
    assert client.post("/x402/discovery/").status_code == 405
