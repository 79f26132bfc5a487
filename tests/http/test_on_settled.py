"""``request.payment.on_settled``: effects that wait for the money, and happen once."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from tests.http.deferred_views import effects
from x402_django import clock
from x402_django.exceptions import FacilitatorUnavailable, SettlementFailed, SettlementUnknown
from x402_django.models import Payment
from x402_django.testing.instant import InstantFacilitator

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.http.deferred_views"),
]


@pytest.fixture(autouse=True)
def _no_effects():
    effects.clear()


def test_effects_follow_the_settlement_in_order_and_once(buyer):
    assert buyer.pay("GET", "/effect/").status_code == 200
    assert effects == ["first settled", "second settled"]

    again = buyer.get("/effect/", headers=buyer.last_headers)
    assert (again.status_code, again.content) == (200, b"effect")
    assert len(effects) == 2


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (SettlementFailed(), 402),
        (SettlementUnknown(), 503),
        (FacilitatorUnavailable(), 503),
    ],
)
def test_no_effect_without_the_money(buyer, outcome, status):
    InstantFacilitator.script["settle"] = [outcome]
    assert buyer.pay("GET", "/effect/").status_code == status
    assert effects == []


def test_no_effect_of_a_view_that_said_no(buyer):
    assert buyer.pay("GET", "/effect/?status=404").status_code == 404
    assert effects == []
    assert Payment.objects.get().state == "released"


def test_upfront_the_run_that_succeeds_has_its_effect(buyer):
    assert buyer.pay("GET", "/upfront-effect/").status_code == 500
    assert effects == []
    assert Payment.objects.get().state == "settled"

    assert buyer.get("/upfront-effect/", headers=buyer.last_headers).status_code == 200
    assert effects == ["run 2 settled"]


def test_delivering_what_was_too_large_to_store_again_has_no_second_effect(buyer):
    assert buyer.pay("GET", "/large-effect/").status_code == 200
    assert effects == ["large settled"]
    Payment.objects.update(delivered_at=None)  # the client went away
    with clock.shifted(timedelta(seconds=1000)):
        again = buyer.get("/large-effect/", headers=buyer.last_headers)
    assert (again.status_code, len(again.content)) == (200, 100_000)
    assert effects == ["large settled"]


def test_a_view_that_asks_has_its_effect(buyer):
    assert buyer.pay("GET", "/asking-effect/").status_code == 200
    assert effects == ["asked settled"]


def test_an_effect_that_fails_breaks_neither_money_nor_the_next(buyer, caplog):
    with caplog.at_level(logging.ERROR, "x402_django.payments"):
        response = buyer.pay("GET", "/broken-effect/")
    assert (response.status_code, response.content) == (200, b"effect")
    assert effects == ["after settled"]
    payment = Payment.objects.get()
    assert (payment.state, payment.delivered_at is None) == ("settled", False)
    assert [record.exc_info[0] for record in caplog.records] == [RuntimeError]


def test_a_deferred_request_with_an_effect_is_settled_first(buyer, settings):
    settings.X402 = {**settings.X402, "DEFERRED_MIN_SETTLED": 0}
    assert buyer.pay("GET", "/deferred-effect/").status_code == 200
    assert effects == ["deferred settled"]
    assert (Payment.objects.get().state, Payment.objects.get().flow) == ("settled", "authorization")


def test_a_coroutine_function_is_refused():
    async def effect() -> None:
        raise AssertionError

    with pytest.raises(TypeError, match="plain function"):
        Payment().on_settled(effect)
