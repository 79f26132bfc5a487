"""T18, T19: walking around the gate, and gates that fall open."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from django.http import Http404, HttpResponse
from django.test import Client, override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from tests.security.conftest import Untouched
from tests.settings import MIDDLEWARE, X402
from tests.shop.runs import runs
from x402_django.exceptions import ConfigurationError
from x402_django.http.decorators import payment_required
from x402_django.models import Payment, PriceRule
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import decode

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "spelling",
    [
        "/weather/", "/weather", "//weather/", "/./weather/", "/x/../weather/", "/%77eather/",
        "/weather/%20", "/weather/;x=1", "/weather/?", "/weather/#", "/WEATHER/", "/weather%2f",
        "/weather/%00", "/weather//",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PURGE", "get", "GET "])
def test_t18_no_spelling_of_path_or_verb_is_free(spelling, method):
    response = Client().generic(method, spelling)
    assert response.status_code in (301, 402, 404, 500)
    assert b"sunny" not in response.content
    assert runs["weather"] == 0
    assert Payment.objects.count() == 0


def test_t18_the_resource_is_named_by_the_site_not_by_the_host_header(client):
    for host in ("testserver", "shop.example", "localhost"):
        challenge = client.get("/weather/", headers={"host": host})
        assert decode(challenge["PAYMENT-REQUIRED"])["resource"]["url"] == (
            "https://shop.example/weather/"
        )


def test_t18_without_a_base_url_an_unknown_host_is_refused_and_hosts_are_told_apart(payer):
    with override_settings(X402={**X402, "BASE_URL": None}):
        client = Client(raise_request_exception=False)
        assert client.get("/weather/", headers={"host": "evil.example"}).status_code == 400
        headers = payer.headers_for(client.get("/weather/", headers={"host": "localhost"}))
        assert client.get("/weather/", headers={**headers, "host": "localhost"}).status_code == 200
        untouched = Untouched()
        other = client.get("/weather/", headers={**headers, "host": "shop.example"})
        assert other.status_code == 402
        untouched.verify()


@pytest.mark.parametrize("header", ["X-Forwarded-Host", "X-Original-URL", "X-Rewrite-URL"])
def test_t18_rewriting_headers_change_nothing(client, header):
    challenge = client.get("/weather/", headers={header: "/free/"})
    assert decode(challenge["PAYMENT-REQUIRED"])["resource"]["url"] == (
        "https://shop.example/weather/"
    )


# ------------------------------------------------------------------ failing closed


def broken_settings():
    network = "eip155:84532"
    instant = X402["FACILITATORS"]
    return {
        "no facilitator": {**X402, "FACILITATORS": {}},
        "wrong backend": {**X402, "FACILITATORS": {"default": {"BACKEND": "no.such.Thing"}}},
        "no class": {**X402, "FACILITATORS": {"default": {"BACKEND": "json.dumps"}}},
        "no networks": {**X402, "NETWORKS": {}},
        "no payee": {**X402, "PAY_TO": None},
        "nothing": {},
        "unknown network": {**X402, "NETWORKS": {"eip155:99999": {}}},
        "wrong alias": {
            **X402,
            "NETWORKS": {network: {"FACILITATOR": "other"}},
            "FACILITATORS": instant,
        },
    }


@pytest.mark.parametrize("mistake", broken_settings())
def test_t19_a_site_set_up_wrongly_sells_nothing_and_gives_nothing_away(payer, mistake):
    client = Client(raise_request_exception=False)
    headers = payer.headers_for(client.get("/weather/"))
    with override_settings(X402=broken_settings()[mistake]):
        for path in ("/weather/", "/photo/", "/asking/", "/hidden/", "/async-weather/"):
            for sent in ({}, headers):
                response = client.get(path, headers=sent)
                assert response.status_code in (402, 500, 503), (path, response.status_code)
                assert b"PAY_TO" not in response.content
    assert sum(runs.values()) == runs["asking"]
    assert InstantFacilitator.calls["settle"] == 0


def test_t19_a_gate_that_is_not_installed_is_an_error(client):
    middleware = [name for name in MIDDLEWARE if "x402" not in name]
    with override_settings(MIDDLEWARE=middleware), pytest.raises(ConfigurationError):
        client.get("/weather/")
    assert runs["weather"] == 0


def test_t19_a_missing_gate_is_an_error_of_the_checks():
    from django.core.checks import run_checks

    middleware = [name for name in MIDDLEWARE if "x402" not in name]
    with override_settings(MIDDLEWARE=middleware):
        assert "x402_django.E001" in {message.id for message in run_checks()}


def test_t19_a_gate_without_its_price_rule_stays_shut(client):
    assert client.get("/report/").status_code == 503
    rule = PriceRule.objects.create(name="r", key="report", price_usd=1)
    assert client.get("/report/").status_code == 402
    rule.active = False
    rule.save()
    assert client.get("/report/").status_code == 503
    assert runs["report"] == 0


def test_t19_an_unexpected_error_at_the_gate_is_not_an_open_gate(payer, monkeypatch):
    from x402_django.http import gate

    client = Client(raise_request_exception=False)
    headers = payer.headers_for(client.get("/weather/"))

    def broken(*args, **kwargs):
        raise ZeroDivisionError("secret")

    for name in ("request_facts", "match_quote", "claim", "verify", "settle"):
        with monkeypatch.context() as patch:
            patch.setattr(gate, name, broken)
            response = client.get("/weather/", headers=headers)
        assert response.status_code in (402, 409, 500, 503), name
        assert b"sunny" not in response.content
        assert b"secret" not in response.content
        Payment.objects.update(state="released")
    assert InstantFacilitator.calls["settle"] == 0


def priced_by_name(request):
    return {"café": "$100"}.get(request.resolver_match.kwargs["name"], "$0.01")


@csrf_exempt
@payment_required(priced_by_name)
def secret(request, name):
    if name != "café":
        raise Http404
    return HttpResponse("the secret of café")


def test_t18_a_path_that_is_written_like_another_does_not_open_it(settings, monkeypatch, payer):
    """Decoded once, the second is the first, percent signs and all."""
    module = ModuleType("urls_of_secrets")
    module.urlpatterns = [path("buy/<str:name>/", secret)]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    settings.ROOT_URLCONF = module.__name__
    client = Client(raise_request_exception=False)
    dear, cheap = "/buy/caf%C3%A9/", "/buy/caf%25C3%25A9/"
    headers = payer.headers_for(client.post(cheap))
    assert client.post(cheap, headers=headers).status_code == 404
    debt = Payment.objects.get()
    assert (debt.state, debt.amount, debt.delivered_at) == ("settled", 10_000, None)

    refused = client.post(dear, headers=headers)
    assert (refused.status_code, refused.json()["error"]) == (402, "payment_already_used")
    assert b"secret" not in refused.content
    debt.refresh_from_db()
    assert debt.delivered_at is None
