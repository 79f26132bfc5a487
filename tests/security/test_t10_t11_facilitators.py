"""T10, T11: time-outs and lies."""

from __future__ import annotations

import pytest

from tests.chain.support import x402_settings
from tests.security.conftest import earned
from tests.shop.runs import runs
from x402_django.models import Payment, Receipt
from x402_django.testing.facilitators import HostileFacilitator, Mood

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def hostile(chain, settings, request):
    # Short where it never answers; elsewhere a busy machine must not make a time-out of an answer.
    patience = 0.5 if "t10" in request.node.name else 20
    with HostileFacilitator(chain) as facilitator:
        backend = "x402_django.facilitators.RemoteFacilitator"
        options = {"URL": facilitator.url, "TIMEOUT": 20, "SETTLE_TIMEOUT": patience}
        settings.X402 = {
            **x402_settings(),
            "CONFIRMATION_INTERVAL": 0,
            "FACILITATORS": {"default": {"BACKEND": backend, "OPTIONS": options}},
        }
        yield facilitator


def test_t10_a_time_out_is_never_answered_pay_again(hostile, chain, rich):
    """It settles, and says nothing. The client retries, then even signs a new payment."""
    hostile.set_mood(Mood.ACCEPTS_THEN_TIMES_OUT, endpoint="settle")
    told = [rich.pay("GET", "/weather/").status_code]
    told.append(rich.get("/weather/", headers=rich.last_headers).status_code)

    assert 402 not in told
    assert told[-1] == 200
    assert (earned(chain), Receipt.objects.count(), runs["weather"]) == (10_000, 1, 1)


def test_t10_a_new_payment_after_a_time_out_is_not_charged(hostile, chain, rich):
    hostile.set_mood(Mood.HANGS, endpoint="settle")
    assert rich.pay("GET", "/weather/").status_code == 503
    assert rich.pay("GET", "/weather/").status_code == 503
    hostile.set_mood(Mood.HONEST)
    response = rich.pay("GET", "/weather/")
    if response.status_code == 503:  # a busy machine: it has not settled within the time-out
        response = rich.get("/weather/", headers=rich.last_headers)
    assert response.status_code == 200
    assert (earned(chain), chain.dollars(rich.payer.address)) == (10_000, 990_000)
    assert sorted(Payment.objects.values_list("state", flat=True)) == [
        "released",
        "released",
        "settled",
    ]


@pytest.mark.parametrize(
    "mood", [Mood.LIES_ABOUT_SUCCESS, Mood.LIES_WITH_FOREIGN_HASH, Mood.WRONG_PAYER]
)
def test_t11_a_lie_about_success_releases_nothing(hostile, chain, rich, mood):
    if mood is Mood.LIES_WITH_FOREIGN_HASH:
        assert rich.pay("GET", "/weather/").status_code == 200
        hostile.foreign_hash = Payment.objects.get().transaction
        runs.clear()
    hostile.set_mood(mood, endpoint="settle")
    before = earned(chain)
    response = rich.pay("GET", "/hidden/")
    if mood is Mood.WRONG_PAYER:  # it did settle, and the chain says so
        assert (response.status_code, earned(chain)) == (200, before + 10_000)
        return
    assert response.status_code == 503
    assert response.content != b"hidden"
    assert earned(chain) == before
    assert Payment.objects.first().state == "settling"


def test_t11_a_lie_about_failure_costs_the_payer_nothing(hostile, chain, rich):
    hostile.set_mood(Mood.LIES_ABOUT_FAILURE, endpoint="settle")
    response = rich.pay("GET", "/weather/")
    if response.status_code == 503:
        response = rich.get("/weather/", headers=rich.last_headers)
    assert (response.status_code, earned(chain), Receipt.objects.count()) == (200, 10_000, 1)


@pytest.mark.parametrize("mood", [Mood.RATE_LIMITS, Mood.REDIRECTS, Mood.RETURNS_GARBAGE])
def test_t19_a_facilitator_out_of_order_opens_nothing(hostile, chain, rich, mood):
    hostile.set_mood(mood)
    response = rich.pay("GET", "/weather/")
    assert response.status_code == 503
    assert (earned(chain), runs["weather"], Receipt.objects.count()) == (0, 0, 0)
    assert hostile.calls_of("elsewhere") == []
