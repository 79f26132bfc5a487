"""What surrounds the content: caches, CORS, the paywall, the status page, size, transactions."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.test import Client, override_settings

from tests.http.conftest import Shopper
from tests.settings import MIDDLEWARE
from tests.shop.runs import runs
from x402_django import clock
from x402_django.exceptions import SettlementUnknown
from x402_django.models import Payment, Receipt
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import decode

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.http.views")]

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "User-Agent": "Mozilla/5.0"}


def directives(response):
    return {part.strip() for part in response["Cache-Control"].split(",")}


def test_a_public_answer_becomes_private_when_it_was_paid_for(shopper):
    first = shopper.pay("/public-cache/")
    again = shopper.send("/public-cache/", shopper.headers)
    for response in (first, again):
        assert directives(response) == {"private", "max-age=3600"}


def test_a_replay_has_the_views_headers_but_not_its_cookies(shopper):
    first = shopper.pay("/cookies/")
    assert first.cookies["session"].value == "secret-session"
    again = shopper.send("/cookies/", shopper.headers)
    assert again.content == b"cookies"
    assert not again.cookies
    for response in (first, again):
        assert response["X-Custom"] == "kept"
        assert response["Access-Control-Expose-Headers"].startswith("X-Custom, ")
        assert {v.strip().lower() for v in response["Vary"].split(",")} >= {
            "cookie",
            "payment-signature",
            "x-payment",
        }
    assert "secret-session" not in json.dumps(Payment.objects.get().response_headers)


def test_a_failed_view_of_a_payer_is_private_too(shopper):
    assert "private" in directives(shopper.pay("/broken/"))


# ------------------------------------------------------------------ the paywall


def test_a_browser_gets_a_page_under_a_strict_policy(shopper):
    response = shopper.send("/scripted/", BROWSER)
    page = response.content.decode()

    assert response.status_code == 402
    assert response["Content-Type"].startswith("text/html")
    assert '<script>alert("x")' not in page
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; co" in page
    policy = response["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    nonce = re.search(r"'nonce-([^']+)'", policy)[1]
    sources = {part.split()[0]: part.split()[1:] for part in policy.split("; ")}
    assert sources["script-src"] == sources["style-src"] == [f"'nonce-{nonce}'"]
    assert sources["connect-src"] == ["'self'"]
    assert re.findall(r"<style([^>]*)>", page) == [f' nonce="{nonce}"']
    data, script = re.findall(r"<script([^>]*)>", page)
    assert data == ' id="x402-data" type="application/json"'
    assert script == f' nonce="{nonce}"'
    markup = re.sub(r"(?s)<script.*?</script>|<style.*?</style>", "", page)
    assert not re.search(r"\son\w+=|javascript:|<iframe|style=|\ssrc=", markup)
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Cache-Control"] == "no-store"
    assert "accept" in response["Vary"].lower()
    assert decode(response["PAYMENT-REQUIRED"])["accepts"]
    other = shopper.send("/scripted/", BROWSER)["Content-Security-Policy"]
    assert other != policy


@pytest.mark.parametrize(
    "path", ["/articles/<svg onload=alert(1)>/", "/scripted/?q=<script>alert(1)</script>"]
)
def test_nothing_from_the_request_is_written_as_markup(shopper, path):
    from x402_django.models import PriceRule

    PriceRule.objects.create(
        name="a",
        price_usd=1,
        url_names=["shop:article"],
        description="<b onclick=x>",
        mime_type="<i>",
    )
    page = shopper.send(path, BROWSER).content.decode()
    for markup in ("<svg onload", "<script>alert", "<b onclick", "<i>"):
        assert markup not in page


@pytest.mark.parametrize("headers", [{}, {"Accept": "text/html"}, {"User-Agent": "Mozilla/5.0"}])
def test_a_program_gets_json(shopper, headers):
    assert shopper.send("/weather/", headers)["Content-Type"] == "application/json"


# ------------------------------------------------------------------ the status page


def test_the_status_page_tells_the_payer_and_nobody_else_anything(shopper):
    InstantFacilitator.script["settle"] = [SettlementUnknown()]
    status = shopper.pay("/weather/").json()["status"]
    payment = Payment.objects.get()
    secrets = [
        payment.payload["signature"],
        payment.nonce,
        payment.payer,
        payment.request_fingerprint,
    ]
    answers = {
        "json": shopper.send(status, {"Accept": "application/json"}),
        "html": shopper.send(status, BROWSER),
        "any": shopper.send(status),
    }
    assert answers["json"].json() == {
        "payment": payment.public_id,
        "state": "settling",
        "paid": False,
        "delivered": False,
        "retry": "wait",
        "network": "eip155:84532",
        "asset": payment.asset,
        "amount": "10000",
        "transaction": None,
        "error": None,
    }
    assert answers["any"]["Content-Type"] == "application/json"
    assert "Do not pay again" in answers["html"].content.decode()
    for response in answers.values():
        assert response.status_code == 200
        assert "no-store" in response["Cache-Control"]
        for secret in secrets:
            assert secret.lower() not in response.content.decode().lower()


@pytest.mark.parametrize(
    ("state", "delivered", "advice"),
    [
        ("claimed", False, "wait"),
        ("verified", False, "wait"),
        ("settling", False, "wait"),
        ("reversed", False, "wait"),
        ("settled", False, "same_payment"),
        ("final", True, "done"),
        ("released", False, "same_payment"),
        ("rejected", False, "new_payment"),
        ("failed", False, "new_payment"),
        ("expired", False, "new_payment"),
    ],
)
def test_the_status_pages_advice(client, state, delivered, advice):
    from tests.payments.support import ago, stored

    payment = stored(state, delivered_at=ago(1) if delivered else None)
    url = f"/x402/payments/{payment.public_id}/"
    assert client.get(url).json()["retry"] == advice
    assert client.get(url, headers=BROWSER).status_code == 200


def test_an_unknown_payment_is_404(client):
    assert client.get(f"/x402/payments/{'0' * 40}/").status_code == 404
    assert client.get("/x402/payments/1/").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_status_page_is_read_only(client, method):
    from tests.payments.support import stored

    assert client.generic(method, f"/x402/payments/{stored().public_id}/").status_code == 405


# ------------------------------------------------------------------ size


def test_a_body_too_large_to_bind_is_413(shopper):
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=100):
        shopper.sign("/order/", method="POST")
        response = shopper.send("/order/", shopper.headers, method="POST", body=b"x" * 101)
        assert (response.status_code, response.json()["error"]) == (413, "request_body_too_large")
        assert runs["order"] == 0
        assert Payment.objects.count() == 0
        assert InstantFacilitator.calls == {}


# ------------------------------------------------------------------ large answers and streams


@pytest.fixture
def wsgi_shopper(version, payer):
    """Django's async test client closes responses on a connection of its own."""
    return Shopper("wsgi", version, payer)


@pytest.mark.parametrize("path", ["/stream/", "/file/", "/large/"])
def test_what_is_not_stored_is_delivered_once(wsgi_shopper, path):
    response = wsgi_shopper.pay(path)
    assert response.status_code == 200
    content = b"".join(response)  # as a server sends it
    assert (
        content
        == {
            "/stream/": b"one two three",
            "/file/": b"y" * 100_000,
            "/large/": b"x" * 100_000,
        }[path]
    )
    payment = Payment.objects.get()
    assert payment.state == "settled"
    assert payment.delivered_at is not None
    assert payment.response_body is None
    again = wsgi_shopper.send(path, wsgi_shopper.headers)
    assert decode(again["PAYMENT-REQUIRED"])["error"] == "payment_already_used"
    assert runs[path.strip("/")] == 1


def test_a_stream_that_breaks_is_owed_and_free_at_once(wsgi_shopper):
    response = wsgi_shopper.pay("/interrupted/")
    with pytest.raises(OSError, match="disk"):
        b"".join(response)
    payment = Payment.objects.get()
    assert (payment.state, payment.delivered_at) == ("settled", None)

    again = wsgi_shopper.send("/interrupted/", wsgi_shopper.headers)
    assert (again.status_code, b"".join(again)) == (200, b"one two")
    assert Payment.objects.get().delivered_at is not None
    assert InstantFacilitator.calls == {"verify": 1, "settle": 1}


def test_a_stream_nobody_read_to_the_end_is_owed(wsgi_shopper):
    response = wsgi_shopper.pay("/stream/")
    stream = iter(response)
    assert next(stream) == b"one "
    response._iterator.close()  # as servers do when the client has gone
    assert Payment.objects.get().delivered_at is None
    again = wsgi_shopper.send("/stream/", wsgi_shopper.headers)
    assert (again.status_code, b"".join(again)) == (200, b"one two three")
    assert Payment.objects.get().delivered_at is not None
    assert wsgi_shopper.send("/stream/", wsgi_shopper.headers).status_code == 402
    assert InstantFacilitator.calls["settle"] == 1


def test_leaving_early_does_not_make_a_stream_free_for_ever(wsgi_shopper):
    wsgi_shopper.sign("/stream/", validBefore=str(10**12))
    told = []
    for hours in range(10):
        with clock.shifted(timedelta(hours=hours)):
            response = wsgi_shopper.send("/stream/", wsgi_shopper.headers)
        told.append(response.status_code)
        if response.status_code == 200:
            assert next(iter(response)) == b"one "
            response._iterator.close()
    assert told == [200, 200, 200, *[402] * 7]
    assert InstantFacilitator.calls["settle"] == 1


# ------------------------------------------------------------------ mistakes of the site


def without_the_gate():
    return [name for name in MIDDLEWARE if "x402" not in name]


@pytest.mark.parametrize("path", ["/weather/", "/photo/", "/hidden/", "/async-weather/"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
def test_without_the_middleware_a_paid_view_fails_closed(path, method):
    from x402_django.exceptions import ConfigurationError

    with override_settings(MIDDLEWARE=without_the_gate()):
        response = Client(raise_request_exception=False).generic(method, path)
        assert response.status_code == 500
        with pytest.raises(ConfigurationError, match="PaymentMiddleware"):
            Client().generic(method, path)
    assert not runs


def test_a_view_that_asks_again_after_it_was_paid_charges_nobody(shopper):
    response = shopper.pay("/careless/")
    assert response.status_code == 402
    assert InstantFacilitator.calls["settle"] == 0
    assert Payment.objects.get().state == "released"


def test_a_rule_nobody_wrote_is_503_not_free(shopper):
    response = shopper.send("/report/")
    assert (response.status_code, response.json()["error"]) == (503, "price_not_configured")
    assert b"admin" not in response.content
    assert runs["report"] == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/write-then-fail/", "/write-then-fail-upfront/"])
def test_what_the_view_rolls_back_does_not_roll_back_the_ledger(path, payer):
    from django.db import connection

    buyer = Client(raise_request_exception=False)
    settings = connection.settings_dict
    before = settings["ATOMIC_REQUESTS"]
    settings["ATOMIC_REQUESTS"] = True
    try:
        headers = payer.headers_for(buyer.get(path))
        assert buyer.get(path, headers=headers).status_code == 500
        asked = payer.headers_for(buyer.get("/write-then-ask/"))
        assert Group.objects.count() == 0
        assert buyer.get("/write-then-ask/", headers=asked).content == b"answered"
    finally:
        settings["ATOMIC_REQUESTS"] = before
    assert [g.name for g in Group.objects.all()] == ["run 3"]  # only what was paid for stayed
    asked_row, row = Payment.objects.all()
    assert row.state == ("settled" if "upfront" in path else "released")
    assert row.delivered_at is None
    assert asked_row.state == "settled"
    assert Receipt.objects.count() == (2 if "upfront" in path else 1)
