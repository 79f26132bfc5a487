"""Around the permission: authentication, bodies, throttles, caches, transactions, ASGI."""

from __future__ import annotations

import base64

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import AsyncClient

from tests.shop.runs import runs
from x402_django.models import Payment
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import PayingClient

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.rest_framework.urls")]


def ledger() -> list[str]:
    return list(Payment.objects.values_list("state", flat=True))


def form() -> dict:
    return {"name": "Ada", "file": SimpleUploadedFile("note.txt", b"a note")}


@pytest.fixture
def strict_buyer(payer) -> PayingClient:
    """Its requests must pass the CSRF check, as a browser's."""
    return PayingClient(
        payer=payer, automatic=False, raise_request_exception=False, enforce_csrf_checks=True
    )


class TestAuthentication:
    def test_basic(self, buyer, people):
        credentials = base64.b64encode(b"member:letmein").decode()
        response = buyer.get("/basic/")
        assert response.status_code == 401
        assert response["WWW-Authenticate"] == 'Basic realm="api"'

        paid = buyer.pay("GET", "/basic/", headers={"Authorization": f"Basic {credentials}"})
        assert paid.json()["user"] == "member"

    def test_session(self, buyer, people):
        buyer.force_login(people["member"])

        assert buyer.get("/session-or-token/").status_code == 402
        assert buyer.pay("GET", "/session-or-token/").json()["user"] == "member"

    def test_who_authenticated_by_token_has_no_session_on_the_second_pass(
        self, strict_buyer, member
    ):
        response = strict_buyer.pay("POST", "/session-or-token/", headers=member)

        assert response.status_code == 201
        assert ledger() == ["settled"]

    def test_a_session_form_is_read_by_the_csrf_check_and_again(self, strict_buyer, people):
        strict_buyer.force_login(people["member"])
        strict_buyer.cookies["csrftoken"] = "a" * 32
        challenge = strict_buyer.post(
            "/session-or-token/", form(), headers={"X-CSRFToken": "a" * 32}
        )
        assert challenge.status_code == 402

        payment = strict_buyer.payer.headers_for(challenge)
        response = strict_buyer.post(
            "/session-or-token/", form(), headers={"X-CSRFToken": "a" * 32, **payment}
        )
        assert response.json() == {"data": {"name": "Ada"}, "files": {"file": "a note"}}
        assert ledger() == ["settled"]

    def test_without_a_csrf_token_the_session_is_refused_and_nothing_taken(
        self, strict_buyer, people
    ):
        challenge = strict_buyer.get("/expression/paid/")
        strict_buyer.force_login(people["member"])
        response = strict_buyer.post(
            "/session-or-token/", form(), headers=strict_buyer.payer.headers_for(challenge)
        )

        assert response.status_code == 403
        assert ledger() == []


class TestBodies:
    def test_json(self, buyer):
        response = buyer.pay(
            "POST", "/expression/paid/", data={"a": [1]}, content_type="application/json"
        )
        assert (response.status_code, response.json()["data"]) == (201, {"a": [1]})

    def test_multipart(self, buyer):
        challenge = buyer.post("/expression/paid/", form())
        response = buyer.post(
            "/expression/paid/", form(), headers=buyer.payer.headers_for(challenge)
        )
        assert response.json() == {"data": {"name": "Ada"}, "files": {"file": "a note"}}

    def test_a_form_too_large_to_keep_is_413_and_not_claimed(self, buyer, settings):
        challenge = buyer.post("/expression/paid/", form())
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 50
        response = buyer.post(
            "/expression/paid/", form(), headers=buyer.payer.headers_for(challenge)
        )

        assert response.status_code == 413
        assert response.json()["error"] == "request_body_too_large"
        assert ledger() == []

    def test_a_large_form_that_need_not_be_paid_passes_with_a_payment_at_hand(
        self, buyer, member, settings
    ):
        payment = buyer.payer.headers_for(buyer.get("/expression/paid/"))
        file = SimpleUploadedFile("large.txt", b"x" * 500)
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 400
        response = buyer.post(
            "/expression/member-or-paid/", {"file": file}, headers={**member, **payment}
        )

        assert response.status_code == 201
        assert ledger() == []

    def test_another_body_is_another_purchase(self, buyer):
        first = {"data": {"a": 1}, "content_type": "application/json"}
        assert buyer.pay("POST", "/expression/paid/", **first).status_code == 201
        again = buyer.post("/expression/paid/", **first, headers=buyer.last_headers)
        other = buyer.post(
            "/expression/paid/",
            {"a": 2},
            content_type="application/json",
            headers=buyer.last_headers,
        )

        assert again.status_code == 201
        assert other.status_code == 402
        assert runs["view"] == 1


class TestFormsReadBeforeTheGate:
    """Django's CSRF middleware stands outside the gate and parses forms as a stream."""

    @pytest.fixture
    def post(self, strict_buyer, settings):
        gate = settings.MIDDLEWARE[-1]
        csrf = "django.middleware.csrf.CsrfViewMiddleware"
        settings.MIDDLEWARE = [*settings.MIDDLEWARE[:-1], csrf, gate]
        strict_buyer.cookies["csrftoken"] = "a" * 32

        def post(file: bytes, payment: dict[str, str]):
            headers = {"X-CSRFToken": "a" * 32, **payment}
            data = {"name": "Ada", "file": SimpleUploadedFile("note.txt", file)}
            return strict_buyer.post("/protected-form/", data, headers=headers)

        return post

    def test_are_sold(self, post, payer):
        response = post(b" note", payer.headers_for(post(b" note", {})))

        assert (response.status_code, response.content) == (200, b"Ada note")
        assert ledger() == ["settled"]

    def test_are_413_if_too_large_to_keep(self, post, payer, settings):
        payment = payer.headers_for(post(b"x" * 500, {}))
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 400
        response = post(b"x" * 500, payment)

        assert response.status_code == 413
        assert response.json()["error"] == "request_body_too_large"
        assert ledger() == []


@pytest.mark.usefixtures("empty_cache")
class TestThrottles:
    def test_a_paid_request_counts_once_and_a_challenge_not(self, buyer):
        assert buyer.pay("GET", "/throttled/").status_code == 200
        assert runs["throttle"] == 1

    def test_a_throttled_payer_is_not_charged(self, buyer):
        assert buyer.pay("GET", "/throttled/").status_code == 200
        response = buyer.pay("GET", "/throttled/")

        assert response.status_code == 429
        assert int(response["Retry-After"]) > 0
        assert sorted(ledger()) == ["released", "settled"]
        assert InstantFacilitator.calls["settle"] == 1


@pytest.mark.usefixtures("empty_cache")
def test_a_page_cache_around_the_view_does_not_hand_on_what_was_paid_for(buyer):
    assert buyer.pay("GET", "/cached/").status_code == 200
    assert buyer.get("/cached/").status_code == 402
    assert runs["view"] == 1


@pytest.mark.django_db(transaction=True)
def test_a_view_that_fails_is_rolled_back_and_the_ledger_is_not(buyer, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    response = buyer.pay("GET", "/failing/")

    assert response.status_code == 500
    assert runs["atomic"] == 1
    assert Group.objects.count() == 0
    payment = Payment.objects.get()
    assert payment.state == "released"
    assert list(payment.events.values_list("to_state", flat=True))[-1] == "released"
    assert InstantFacilitator.calls["settle"] == 0


@pytest.mark.django_db(transaction=True)
def test_atomic_requests_settle_what_succeeds(buyer, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)

    assert buyer.pay("GET", "/expression/paid/").status_code == 200
    assert ledger() == ["settled"]


@pytest.mark.django_db(transaction=True)
async def test_under_asgi(payer):
    client = AsyncClient()
    challenge = await client.get("/expression/paid/")
    assert challenge.status_code == 402

    response = await client.get("/expression/paid/", headers=payer.headers_for(challenge))
    assert response.status_code == 200
    assert response.json()["payer"] == payer.address
