"""A redirect may be what was sold, or the view's way of saying no."""

from __future__ import annotations

import pytest
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path

from x402_django.http.decorators import payment_required
from x402_django.models import Payment
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import decode, encode

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@payment_required("$0.01")
@login_required(login_url="/who-are-you/")
def members(request: HttpRequest) -> HttpResponse:
    return HttpResponse("for members")


@payment_required("$0.01")
def download(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect("https://files.example/signed?next=/elsewhere/")


urlpatterns = [path("members/", members), path("download/", download)]


def test_being_sent_to_log_in_costs_nothing(buyer):
    response = buyer.pay("GET", "/members/?page=2")
    assert (response.status_code, response["Location"]) == (
        302,
        "/who-are-you/?next=/members/%3Fpage%3D2",
    )
    assert InstantFacilitator.calls["settle"] == 0
    assert Payment.objects.get().state == "released"


def test_a_redirect_can_be_sold(buyer):
    response = buyer.pay("GET", "/download/")
    assert response["Location"] == "https://files.example/signed?next=/elsewhere/"
    assert Payment.objects.get().state == "settled"


def test_a_replay_answers_in_the_version_it_is_asked_in(buyer):
    challenge = buyer.get("/download/")
    headers = buyer.payer.headers_for(challenge)
    assert "PAYMENT-RESPONSE" in buyer.get("/download/", headers=headers)

    offer = challenge.json()["accepts"][0]
    payload = decode(headers["PAYMENT-SIGNATURE"])["payload"]

    v1 = {"x402Version": 1, "scheme": "exact", "network": offer["network"], "payload": payload}
    replay = buyer.get("/download/", headers={"X-PAYMENT": encode(v1)})
    assert replay.status_code == 302
    assert "PAYMENT-RESPONSE" not in replay
    assert decode(replay["X-PAYMENT-RESPONSE"])["network"] == "base-sepolia"
