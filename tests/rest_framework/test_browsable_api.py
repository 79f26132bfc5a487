"""DRF's pages for people: a 402 that says what to do, and forms that cost nothing to show."""

from __future__ import annotations

import pytest

from tests.rest_framework.people import token
from x402_django.models import Payment
from x402_django.testing.payer import decode, encode

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.rest_framework.urls")]

BROWSER = {"Accept": "text/html,*/*;q=0.8", "User-Agent": "Mozilla/5.0"}


def test_a_402_is_drfs_page_with_the_challenge(client):
    response = client.get("/people/", headers=BROWSER)
    page = response.content.decode()

    assert response.status_code == 402
    assert response["Content-Type"] == "text/html; charset=utf-8"
    assert "HTTP 402 Payment Required" in page
    assert "Django REST framework" in page
    assert "maxAmountRequired" in page
    assert decode(response["PAYMENT-REQUIRED"])["accepts"][0]["amount"] == "20000"
    assert response["Cache-Control"] == "no-store"


def test_a_401_stays_a_401(client, people):
    response = client.get("/expression/member-and-paid/", headers=BROWSER)

    assert response.status_code == 401
    assert not response.has_header("PAYMENT-REQUIRED")


def test_a_paid_page_is_settled_although_it_asks_after_its_forms(buyer, people):
    response = buyer.pay("GET", "/people/", headers=BROWSER)
    page = response.content.decode()

    assert response.status_code == 200
    assert "member" in page
    assert 'name="username"' not in page  # creating has yet to be paid
    assert Payment.objects.get().state == "settled"


def test_forms_of_those_who_need_not_pay_are_shown(client, member):
    response = client.get("/object/owner-or-paid/member/", headers={**BROWSER, **member})

    assert response.status_code == 200
    assert 'name="first_name"' in response.content.decode()


def test_a_page_of_a_stranger_shows_no_more_than_they_paid_for(buyer, people):
    response = buyer.pay("GET", "/object/owner-or-paid/member/", headers=BROWSER)

    assert response.status_code == 200
    assert 'name="first_name"' not in response.content.decode()


def test_metadata_is_free_and_whole(client):
    response = client.options("/people/")

    assert response.status_code == 200
    assert set(response.json()["actions"]["POST"]) == {"username", "first_name"}
    assert not response.has_header("PAYMENT-REQUIRED")


def test_metadata_does_not_get_a_stranger_past_the_others(client, people):
    response = client.options("/expression/member-and-paid/", headers=token(None))

    assert response.status_code == 401


def test_a_forgery_is_answered_with_the_paywall_page(client, payer):
    payload = decode(payer.headers_for(client.get("/people/"))["PAYMENT-SIGNATURE"])
    payload["payload"]["signature"] = "0x" + "11" * 64 + "1b"
    response = client.get("/people/", headers={**BROWSER, "PAYMENT-SIGNATURE": encode(payload)})

    assert response.status_code == 402
    assert decode(response["PAYMENT-REQUIRED"])["error"].startswith("invalid_exact_evm")
    assert Payment.objects.filter(state="settled").count() == 0
