"""Methods: HEAD costs what GET costs, OPTIONS is free and never content, odd verbs are paid."""

from __future__ import annotations

import pytest

from tests.shop.runs import runs
from x402_django.models import Payment, PriceRule
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import decode

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.http.views")]


def test_head_costs_what_get_costs(shopper, kind):
    for method in ("GET", "HEAD"):
        challenge = shopper.send(kind.path, method=method)
        assert challenge.status_code == 402
        offer = decode(challenge["PAYMENT-REQUIRED"])["accepts"][0]
        assert offer["amount"] == str(kind.amount)
    assert Payment.objects.count() == 0


def test_head_is_a_request_of_its_own(shopper, kind):
    shopper.headers = shopper.payer.headers_for(shopper.send(kind.path), version=shopper.version)
    paid = shopper.send(kind.path, shopper.headers, method="HEAD")
    assert paid.status_code == 200
    assert shopper.response_header in paid
    assert paid.content == b""
    refused = shopper.send(kind.path, shopper.headers)
    assert decode(refused["PAYMENT-REQUIRED"])["error"] == "payment_already_used"
    again = shopper.send(kind.path, shopper.headers, method="HEAD")
    assert again.status_code == 200
    assert InstantFacilitator.calls["settle"] == 1


@pytest.mark.parametrize("paying", [False, True])
def test_options_is_free_and_empty(shopper, kind, paying):
    headers = shopper.sign(kind.path) if paying else {}
    runs.clear()
    response = shopper.send(kind.path, headers, method="OPTIONS")

    if kind.view in ("asking", "hidden") and not paying:
        assert response.status_code == 402  # found out inside, so that nothing is given away
    if kind.view not in ("asking", "hidden"):
        assert response.status_code == 204
        assert response.content == b""
        assert "GET" in response["Allow"]
        assert runs[kind.view] == 0
        assert Payment.objects.count() == 0
    if response.status_code == 200:
        assert paying  # charged as any other verb
    else:
        assert response.content != kind.content


@pytest.mark.parametrize(
    "name", ["redirect", "any-verb", "own-options", "hidden-options", "inside"]
)
def test_options_of_a_class_is_never_content(shopper, name):
    PriceRule.objects.create(name="r", price_usd=1, url_names=["redirect", "any-verb"])
    response = shopper.send(f"/{name}/", method="OPTIONS")
    assert response.status_code in (204, 402)
    assert b"any verb" not in response.content
    assert "Location" not in response
    assert not runs


@pytest.mark.parametrize("verb", ["BREW", "PROPFIND", "get", "TRACE", "CONNECT", "X" * 40])
def test_an_invented_verb_walks_around_nothing(shopper, kind, verb):
    response = shopper.send(kind.path, method=verb)
    assert response.status_code == 402
    assert runs[kind.view] == (1 if kind.view == "asking" else 0)
    assert Payment.objects.count() == 0


@pytest.mark.parametrize("path", ["/articles/a", "/articles//a/", "/articles/%61/", "/ARTICLES/a/"])
def test_another_spelling_of_the_path_walks_around_nothing(shopper, path):
    PriceRule.objects.create(name="articles", price_usd=1, url_names=["shop:article"])
    response = shopper.send(path)
    assert response.status_code in (301, 402, 404)
    assert runs["article"] == 0


@pytest.mark.parametrize("override", ["X-HTTP-Method-Override", "X-Method-Override"])
def test_a_method_override_header_overrides_nothing(shopper, override):
    PriceRule.objects.create(name="a", price_usd=1, url_names=["shop:article"], methods=["GET"])
    assert shopper.send("/articles/a/", {override: "POST"}).status_code == 402
    assert runs["article"] == 0


def test_a_paid_view_called_by_another_view_is_paid(shopper):
    assert shopper.send("/calls/").status_code == 402
    assert shopper.pay("/calls/").content == b"scripted"
    assert Payment.objects.count() == 1
