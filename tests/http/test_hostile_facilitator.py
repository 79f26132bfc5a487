"""A site that settles through a facilitator which lies, hangs and breaks.

In none of its moods is a paid view free, is a payer asked to pay again for what may already be
paid, or charged for a view that failed. Real HTTP to the facilitator, a real EVM behind it; the
payee's balance is the judge.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from web3 import Web3

from tests.chain.fixtures import patience  # noqa: F401
from tests.chain.support import NETWORK, x402_settings
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django import clock
from x402_django.models import Payment, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.testing.chain import dev_chain, new_payer, reset_dev_chains
from x402_django.testing.facilitators import HostileFacilitator, Mood
from x402_django.testing.payer import Payer, PayingClient
from x402_django.testing.submission import submit_authorization

pytestmark = pytest.mark.django_db(transaction=True)

PRICE = 10_000


@pytest.fixture
def chain():
    reset_dev_chains()
    yield dev_chain(NETWORK)
    reset_dev_chains()


@pytest.fixture
def facilitator(chain, settings, patience):  # noqa: F811
    with HostileFacilitator(chain) as hostile:
        base = x402_settings()
        settings.X402 = {
            **base,
            "CONFIRMATION_INTERVAL": 0,
            "FACILITATORS": {
                "default": {
                    "BACKEND": "x402_django.facilitators.RemoteFacilitator",
                    "OPTIONS": {
                        "URL": hostile.url,
                        "TIMEOUT": patience,
                        "SETTLE_TIMEOUT": patience,
                    },
                }
            },
        }
        yield hostile


@pytest.fixture
def shopper(chain):
    return PayingClient(
        payer=Payer(new_payer(chain, 1)), automatic=False, raise_request_exception=False
    )


def paid_so_far(chain) -> int:
    return chain.dollars(PAY_TO)


def test_honest_facilitator_is_served(chain, facilitator, shopper):
    assert shopper.pay("GET", "/weather/").status_code == 200
    assert paid_so_far(chain) == PRICE == Receipt.objects.get().amount


#: Moods of /verify in which no answer can be had: nothing may happen at all.
NO_ANSWER = [
    Mood.ACCEPTS_THEN_TIMES_OUT,
    Mood.RATE_LIMITS,
    Mood.REDIRECTS,
    Mood.FAILS_AFTER_SETTLING,
    Mood.RETURNS_GARBAGE,
    Mood.HANGS,
    Mood.CLOSES_CONNECTION,
    Mood.WRONG_PAYER,
]


@pytest.mark.parametrize("mood", NO_ANSWER)
def test_without_a_verification_nothing_happens(chain, facilitator, shopper, mood):
    facilitator.set_mood(mood, endpoint="verify")
    response = shopper.pay("GET", "/weather/")

    assert response.status_code == 503
    assert response["Retry-After"] == "2"
    assert "PAYMENT-REQUIRED" not in response
    assert (runs["weather"], paid_so_far(chain), len(facilitator.calls_of("settle"))) == (0, 0, 0)
    assert facilitator.calls_of("elsewhere") == []
    assert Payment.objects.get().state == "released"

    facilitator.set_mood(Mood.HONEST)
    again = shopper.get("/weather/", headers=shopper.last_headers)
    assert again.status_code == 200
    assert (runs["weather"], paid_so_far(chain)) == (1, PRICE)


#: Moods of /settle that move the money and say otherwise, or nothing.
SETTLES_AND_HIDES_IT = [
    Mood.ACCEPTS_THEN_TIMES_OUT,
    Mood.FAILS_AFTER_SETTLING,
    Mood.LIES_ABOUT_FAILURE,
    Mood.WRONG_PAYER,
]


@pytest.mark.parametrize("flow_path", ["/weather/", "/order/"])
@pytest.mark.parametrize("mood", SETTLES_AND_HIDES_IT)
def test_money_that_moved_is_found_on_chain(chain, facilitator, shopper, mood, flow_path):
    method = "GET" if flow_path == "/weather/" else "POST"
    price = PRICE if method == "GET" else 5 * PRICE
    facilitator.set_mood(mood, endpoint="settle")
    response = shopper.pay(method, flow_path)

    if response.status_code == 503:  # it had not settled yet when we looked
        response = getattr(shopper, method.lower())(flow_path, headers=shopper.last_headers)
    assert response.status_code in (200, 201)
    assert sum(runs.values()) == 1
    assert paid_so_far(chain) == price == Receipt.objects.get().amount
    assert Payment.objects.get().state == "settled"


#: Moods of /settle that move nothing and do not say so honestly.
MOVES_NOTHING = [
    Mood.LIES_ABOUT_SUCCESS,
    Mood.LIES_WITH_FOREIGN_HASH,
    Mood.RATE_LIMITS,
    Mood.REDIRECTS,
    Mood.RETURNS_GARBAGE,
    Mood.HANGS,
    Mood.CLOSES_CONNECTION,
]


@pytest.mark.parametrize("mood", MOVES_NOTHING)
def test_what_may_have_been_paid_is_neither_served_nor_asked_for_again(
    chain, facilitator, shopper, mood
):
    facilitator.set_mood(mood, endpoint="settle")
    response = shopper.pay("GET", "/weather/")

    assert response.status_code == 503
    assert response.json()["error"] == "settlement_outcome_unknown"
    assert "PAYMENT-REQUIRED" not in response
    assert b"sunny" not in response.content
    payment = Payment.objects.get()
    assert (payment.state, paid_so_far(chain)) == ("settling", 0)
    assert response["Link"] == f'</x402/payments/{payment.public_id}/>; rel="status"'
    assert facilitator.calls_of("elsewhere") == []

    # A second, newly signed payment for the same request is not taken either.
    assert shopper.pay("GET", "/weather/").status_code == 503
    assert paid_so_far(chain) == 0

    # The facilitator comes to its senses: the answer that was held back is delivered.
    facilitator.set_mood(Mood.HONEST)
    again = shopper.get("/weather/", headers=shopper.last_headers)
    assert again.status_code == 200
    assert again.json()["weather"] == "sunny"
    assert (runs["weather"], paid_so_far(chain)) == (1, PRICE)
    assert Receipt.objects.count() == 1


def test_a_facilitator_that_never_settles_ends_in_an_expired_payment(chain, facilitator, shopper):
    facilitator.set_mood(Mood.LIES_ABOUT_SUCCESS, endpoint="settle")
    assert shopper.pay("GET", "/weather/").status_code == 503
    chain.advance_time(400)
    chain.mine()
    with clock.shifted(timedelta(seconds=400)):
        report = confirm_pending_payments()
        response = shopper.get("/weather/", headers=shopper.last_headers)

    assert report.failed == 1
    assert Payment.objects.get().state == "expired"
    assert response.status_code == 402  # for certain not charged: a new payment is in order
    assert (paid_so_far(chain), Receipt.objects.count()) == (0, 0)


def test_an_honest_refusal_is_a_402_and_costs_nothing(chain, facilitator, shopper):
    facilitator.set_mood(Mood.REFUSES, endpoint="settle")
    response = shopper.pay("GET", "/weather/")
    assert response.status_code == 402
    assert b"sunny" not in response.content
    assert Payment.objects.get().state == "failed"
    assert paid_so_far(chain) == 0


def test_a_facilitator_that_settles_after_refusing_leaves_a_debt_not_a_loss(
    chain, facilitator, shopper
):
    facilitator.set_mood(Mood.REFUSES, endpoint="settle")
    assert shopper.pay("GET", "/weather/").status_code == 402
    submit_authorization(Web3(chain.provider()), facilitator.calls_of("settle")[0].body)

    assert confirm_pending_payments().settled == 1
    payment = Payment.objects.get()
    assert (payment.is_paid, payment.delivered_at) == (True, None)
    again = shopper.get("/weather/", headers=shopper.last_headers)
    assert again.status_code == 200
    assert (paid_so_far(chain), Receipt.objects.get().amount) == (PRICE, PRICE)


@pytest.mark.parametrize("mood", list(Mood))
def test_a_failing_view_charges_nobody_in_any_mood(chain, facilitator, shopper, mood):
    facilitator.set_mood(mood, endpoint="settle")
    response = shopper.pay("GET", "/broken/")
    assert response.status_code == 500
    assert len(facilitator.calls_of("settle")) == 0
    assert paid_so_far(chain) == 0
    assert Payment.objects.get().state == "released"
