"""T15, T16: content before the money, and caches that hand out what was sold."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from django.test import Client, override_settings

from tests.settings import MIDDLEWARE
from tests.shop.runs import runs
from x402_django.exceptions import FacilitatorUnavailable, SettlementFailed, SettlementUnknown
from x402_django.models import Payment, Receipt
from x402_django.testing.instant import InstantFacilitator

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.http.views")]

SOLD = {
    "/weather/": b"sunny",
    "/async-weather/": b"windy",
    "/stream/": b"one",
    "/large/": b"xxxx",
    "/file/": b"yyyy",
}


@pytest.mark.parametrize("path", SOLD)
@pytest.mark.parametrize(
    "error",
    [SettlementFailed(code="insufficient_funds"), SettlementUnknown(), FacilitatorUnavailable()],
)
def test_t15_no_byte_leaves_before_the_money_has_arrived(buyer, path, error):
    InstantFacilitator.script["settle"] = [error]
    response = buyer.pay("GET", path)
    assert response.status_code in (402, 503)
    content = b"".join(response) if response.streaming else response.content
    assert SOLD[path] not in content
    assert not any(SOLD[path] in value.encode() for value in response.headers.values())
    assert Receipt.objects.count() == 0


@pytest.mark.parametrize("error", [SettlementFailed(), SettlementUnknown()])
def test_t15_an_unsafe_method_has_no_effect_before_the_money_has_arrived(buyer, error):
    InstantFacilitator.script["settle"] = [error]
    assert buyer.pay("POST", "/order/", data="tea", content_type="text/plain").status_code != 201
    assert runs["order"] == 0


OUTSIDE = [
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
    *MIDDLEWARE,
]


@pytest.mark.parametrize("path", ["/weather/", "/public-cache/", "/cookies/"])
def test_t16_a_cache_around_the_site_neither_keeps_content_nor_challenges(buyer, path):
    """Django's own cache, as any shared cache that reads Cache-Control."""
    caches = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    with override_settings(MIDDLEWARE=OUTSIDE, CACHES=caches, CACHE_MIDDLEWARE_SECONDS=600):
        cache.clear()
        stranger = Client()
        assert stranger.get(path).status_code == 402
        assert buyer.pay("GET", path).status_code == 200
        for _ in range(2):
            assert stranger.get(path).status_code == 402
        assert buyer.pay("GET", path).status_code == 200
    assert Payment.objects.count() == 2


def test_t16_every_answer_says_what_a_cache_may_do(buyer):
    answers = [buyer.get("/weather/"), buyer.pay("GET", "/weather/")]
    answers.append(buyer.get("/weather/", headers=buyer.last_headers))
    answers.append(buyer.get("/weather/", headers={"X-PAYMENT": "x"}))
    InstantFacilitator.script["verify"] = [FacilitatorUnavailable()]
    answers.append(buyer.pay("GET", "/weather/"))
    assert [a.status_code for a in answers] == [402, 200, 200, 400, 503]
    for answer in answers:
        policy = answer["Cache-Control"]
        assert "no-store" in policy or "private" in policy
        assert "public" not in policy
        vary = {name.strip().lower() for name in answer["Vary"].split(",")}
        assert {"payment-signature", "x-payment"} <= vary
