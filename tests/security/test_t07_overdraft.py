"""T7: many requests at once, by one payer, that together are worth more than the payer has.

With ``upto`` every request is authorized for a maximum that the payer could pay once, or a few
times, but not for all. The maximum is reserved, so no view runs that could not be paid.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest
from django.db import connection, connections
from django.http import JsonResponse
from django.test import Client

from tests.chain.permits import approving_payer, offer_permit2
from tests.chain.support import SETTLER, direct
from tests.security.conftest import earned
from tests.shop import views
from tests.shop.runs import runs
from x402_django.chain import funds
from x402_django.models import Payment, Receipt
from x402_django.testing.chain import approve_permit2
from x402_django.testing.payer import Payer, PayingClient, decode, encode

pytestmark = pytest.mark.django_db(transaction=True)

MOST = 100_000


def headers_for(payer, count, path="/metered/"):
    offer = decode(Client().get(path)["PAYMENT-REQUIRED"])["accepts"][0]
    return [{"PAYMENT-SIGNATURE": encode(payer.payload(offer))} for _ in range(count)]


def all_at_once(headers, path):
    """The answers to requests that start together."""
    barrier = Barrier(len(headers))

    def send(number):
        try:
            client = Client(raise_request_exception=False)
            barrier.wait(60)
            return client.get(path.format(number), headers=headers[number])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(headers)) as pool:
        return list(pool.map(send, range(len(headers))))


def overdraw(chain, settings, monkeypatch, *, threads, affordable, charge):
    """``threads`` requests of a payer who can afford so many maxima; no view ends before all
    that will be refused have been."""
    settings.X402 = {**settings.X402, "SETTLEMENT_TIMEOUT": 60}
    offer_permit2(scheme="upto")
    account = approving_payer(affordable * MOST / 10**6)
    headers = headers_for(Payer(account), threads)
    refused = threads - affordable
    seen: Counter[str] = Counter()
    gone = Event()

    def answer(*args, **kwargs):
        seen["ran"] += 1
        for _ in range(1200):
            if Payment.objects.filter(state="rejected").count() >= refused:
                gone.set()
                break
            time.sleep(0.05)
        return JsonResponse(*args, **kwargs)

    monkeypatch.setattr(views, "JsonResponse", answer)
    responses = all_at_once(headers, "/metered/?n={}&charge=" + charge)
    assert gone.is_set()
    return account, responses


def check(chain, account, responses, *, threads, affordable, due):
    told = Counter(response.status_code for response in responses)
    assert told == {200: affordable, 402: threads - affordable}
    assert runs["metered"] == affordable
    errors = {
        decode(one["PAYMENT-REQUIRED"])["error"] for one in responses if one.status_code == 402
    }
    assert errors == {"insufficient_funds"}
    states = Counter(Payment.objects.values_list("state", flat=True))
    assert states == {"settled": affordable, "rejected": threads - affordable}
    assert earned(chain) == affordable * due
    assert chain.dollars(account.address) == affordable * (MOST - due)
    assert Receipt.objects.count() == affordable
    assert sum(Receipt.objects.values_list("amount", flat=True)) == affordable * due


@pytest.mark.parametrize("affordable", [1, 3])
def test_t07_eight_requests_at_once_run_no_more_views_than_can_be_paid(
    chain, settings, monkeypatch, affordable
):
    account, responses = overdraw(
        chain, settings, monkeypatch, threads=8, affordable=affordable, charge="0.1"
    )
    check(chain, account, responses, threads=8, affordable=affordable, due=MOST)


@pytest.mark.slow
@pytest.mark.skipif(connection.vendor != "postgresql", reason="64 writers want PostgreSQL")
@pytest.mark.parametrize("charge", ["0.1", "0.03"])
def test_t07_sixty_four_requests_at_once_never_overdraw(chain, settings, monkeypatch, charge):
    account, responses = overdraw(
        chain, settings, monkeypatch, threads=64, affordable=10, charge=charge
    )
    due = 100_000 if charge == "0.1" else 30_000
    check(chain, account, responses, threads=64, affordable=10, due=due)


def buyer_with(cents: int, *, allowance: int | None = None) -> PayingClient:
    offer_permit2(scheme="upto")
    account = approving_payer(cents / 100)
    if allowance is not None:
        approve_permit2(direct(), account, amount=allowance)
    return PayingClient(payer=Payer(account), raise_request_exception=False, automatic=False)


def test_t07_what_is_left_after_a_charge_can_be_spent(chain):
    """Ten cents are reserved each time and four charged: the third does not fit any more."""
    buyer = buyer_with(17)
    told = [buyer.pay("GET", "/metered/?charge=0.04").status_code for _ in range(3)]
    assert (told, earned(chain)) == ([200, 200, 402], 80_000)
    assert chain.dollars(buyer.payer.address) == 90_000


def test_t07_the_allowance_is_reserved_like_the_balance(chain):
    buyer = buyer_with(100, allowance=150_000)
    told = [buyer.pay("GET", "/metered/?charge=0.1").status_code for _ in range(2)]
    assert (told, earned(chain)) == ([200, 402], MOST)


def test_t07_a_refused_request_may_be_repeated_when_others_are_done(chain):
    """The same payment: it was not charged and not spent."""
    buyer = buyer_with(10)
    (first, second) = headers_for(buyer.payer, 2)
    assert buyer.get("/metered/?n=1&charge=0", headers=first).status_code == 200
    assert Payment.objects.get().state == "waived"
    assert buyer.get("/metered/?n=2&charge=0.1", headers=second).status_code == 200
    assert earned(chain) == MOST


@pytest.mark.parametrize("state", ["verified", "settling", "reversed"])
def test_t07_open_payments_reserve_their_amount(chain, state):
    buyer = buyer_with(15)
    assert buyer.pay("GET", "/metered/?charge=0").status_code == 200
    Payment.objects.update(state=state, amount=50_001)
    assert buyer.pay("GET", "/metered/?n=2").status_code == 402
    Payment.objects.filter(state=state).update(amount=50_000)
    assert buyer.pay("GET", "/metered/?n=3&charge=0.01").status_code == 200
    assert earned(chain) == 10_000


def test_t07_what_settled_after_the_funds_were_read_still_counts(chain, monkeypatch):
    """The funds of an older block contain money that has left meanwhile."""
    buyer = buyer_with(15)
    read = funds.spendable
    old = []

    def stale(signed):
        if not old:
            old.append(read(signed))
        return old[0]

    monkeypatch.setattr(funds, "spendable", stale)
    assert buyer.pay("GET", "/metered/?charge=0.06").status_code == 200
    assert old[0].amount == 150_000  # and the block before that payment
    assert buyer.pay("GET", "/metered/?n=2").status_code == 402
    assert earned(chain) == 60_000


def test_t07_a_payer_in_default_is_not_trusted_with_a_maximum(chain):
    buyer = buyer_with(50)
    assert buyer.pay("GET", "/metered/?charge=0").status_code == 200
    Payment.objects.update(state="failed")
    response = buyer.pay("GET", "/metered/?n=2")
    assert decode(response["PAYMENT-REQUIRED"])["error"] == "payer_in_default"
    assert (earned(chain), runs["metered"]) == (0, 1)


# ------------------------------------------------------------------ T12, T13 for upto


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"facilitator": "0x000000000000000000000000000000000000dEaD"}, "facilitator_mismatch"),
        ({"to": SETTLER.address}, "recipient_mismatch"),
    ],
)
def test_t12_a_permit_for_another_settler_or_payee_is_refused(chain, change, error):
    buyer = buyer_with(50)
    offer = decode(buyer.get("/metered/")["PAYMENT-REQUIRED"])["accepts"][0]
    permit = buyer.payer.permit(offer)
    permit["witness"] = {**permit["witness"], **change}
    payload = {
        "x402Version": 2,
        "payload": {
            "signature": buyer.payer.sign_permit(offer, permit),
            "permit2Authorization": permit,
        },
        "accepted": offer,
    }
    response = buyer.get("/metered/", headers={"PAYMENT-SIGNATURE": encode(payload)})
    assert response.status_code == 402
    assert error in decode(response["PAYMENT-REQUIRED"])["error"]
    assert (Payment.objects.count(), earned(chain), runs["metered"]) == (0, 0, 0)


def test_t12_an_exact_permit_does_not_pay_an_upto_offer(chain):
    buyer = buyer_with(50)
    offer = decode(buyer.get("/metered/")["PAYMENT-REQUIRED"])["accepts"][0]
    exact = buyer.payer.payload({**offer, "scheme": "exact"})
    for accepted in (offer, exact["accepted"]):
        payload = {**exact, "accepted": accepted}
        response = buyer.get("/metered/", headers={"PAYMENT-SIGNATURE": encode(payload)})
        assert response.status_code in (400, 402)
    assert (Payment.objects.count(), earned(chain), runs["metered"]) == (0, 0, 0)


def test_t13_a_maximum_signed_by_somebody_else_reserves_and_buys_nothing(chain):
    buyer = buyer_with(10)
    offer = decode(buyer.get("/metered/")["PAYMENT-REQUIRED"])["accepts"][0]
    forged = Payer().payload(offer, **{"from": buyer.payer.address})
    response = buyer.get("/metered/", headers={"PAYMENT-SIGNATURE": encode(forged)})
    assert decode(response["PAYMENT-REQUIRED"])["error"] == "invalid_permit2_signature"
    assert Payment.objects.count() == 0
    assert buyer.pay("GET", "/metered/?charge=0.1").status_code == 200
