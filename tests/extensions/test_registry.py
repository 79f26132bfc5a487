"""An extension of a site's own, through every hook; and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from django.conf import settings
from django.test import Client, override_settings

from x402_django.exceptions import MalformedPayment, PaymentConflict
from x402_django.extensions import Asked, Extension
from x402_django.models import Payment
from x402_django.payments.facts import RequestFacts
from x402_django.protocol.sdk import to_sdk_payload
from x402_django.protocol.types import SignedPayment
from x402_django.testing.payer import Payer, decode, encode, settlement_of


class Loyalty(Extension):
    """The example of docs/extensions.md, and a way in for its members."""

    key = "loyalty"
    option_names = frozenset({"PROGRAMME"})
    access_headers = ("X-Member",)

    def declare(self, asked: Asked) -> Mapping[str, Any]:
        return {"info": {"programme": asked.options["PROGRAMME"], "url": asked.resource_url}}

    def read(self, sent: object, asked: Asked, facts: RequestFacts) -> RequestFacts:
        info = sent.get("info") if isinstance(sent, dict) else None
        card = info.get("card") if isinstance(info, dict) else None
        if card is None:
            return facts
        if not (isinstance(card, str) and card.isdigit()):
            raise MalformedPayment("'card' must be the number of a loyalty card.")
        if card == "13":
            raise PaymentConflict("This card is somebody else's.", code="card_taken")
        return facts.keeping(self.key, {"info": {"card": card}})

    def admit(self, asked: Asked) -> Payment | None:
        wanted = asked.request.headers["X-Member"]
        paid = Payment.objects.filter(request_fingerprint=asked.facts().fingerprint)
        return paid.filter(public_id=wanted, state="settled").first()

    def acknowledge(self, payment: Payment, request: object) -> Mapping[str, Any] | None:
        card = payment.extensions.get(self.key)
        return None if card is None else {"info": {"points": 10}}


class OtherKey(Loyalty):
    key = "other"


ON = {"BACKEND": "tests.extensions.test_registry.Loyalty", "OPTIONS": {"PROGRAMME": "gold"}}
pytestmark = pytest.mark.urls("tests.extensions.views")


@pytest.fixture(autouse=True)
def _on() -> Any:
    with override_settings(X402={**settings.X402, "EXTENSIONS": {"loyalty": ON}}):
        yield


def declared(client: Client, path: str) -> Any:
    challenge = client.get(path)
    assert challenge.status_code == 402
    return decode(challenge["PAYMENT-REQUIRED"]).get("extensions", {}).get("loyalty")


def pay(client: Client, path: str, card: Any) -> Any:
    challenge = decode(client.get(path)["PAYMENT-REQUIRED"])
    payload = Payer().payload(challenge["accepts"][0])
    payload["extensions"] = {"loyalty": {"info": {"card": card}}}
    return client.get(path, headers={"PAYMENT-SIGNATURE": encode(payload)})


def test_each_view_declares_its_own(db: None, client: Client) -> None:
    url = "https://shop.example"
    assert declared(client, "/plain/") == {"info": {"programme": "gold", "url": f"{url}/plain/"}}
    assert declared(client, "/silver/") == {
        "info": {"programme": "silver", "url": f"{url}/silver/"}
    }
    assert declared(client, "/none/") is None


def test_what_came_back_is_kept_passed_on_and_answered(db: None, client: Client) -> None:
    answer = pay(client, "/plain/", "4711")
    assert answer.status_code == 200
    assert settlement_of(answer)["extensions"] == {"loyalty": {"info": {"points": 10}}}
    payment = Payment.objects.get()
    assert payment.extensions == {"loyalty": {"info": {"card": "4711"}}}
    sent = to_sdk_payload(SignedPayment.from_row(payment))
    assert sent.extensions == {"loyalty": {"info": {"card": "4711"}}}


def test_a_view_that_wants_none_keeps_none(db: None, client: Client) -> None:
    answer = pay(client, "/none/", "4711")
    assert answer.status_code == 200
    assert "extensions" not in settlement_of(answer)
    assert Payment.objects.get().extensions == {}


@pytest.mark.parametrize(
    ("card", "status", "code"), [(4711, 400, "invalid_payload"), ("13", 409, "card_taken")]
)
def test_an_extension_refuses_before_anything_is_claimed(
    db: None, client: Client, card: Any, status: int, code: str
) -> None:
    answer = pay(client, "/plain/", card)
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert "Retry-After" not in answer
    assert not Payment.objects.exists()


def test_an_extension_lets_in_by_an_earlier_payment(db: None, client: Client) -> None:
    bought = pay(client, "/plain/", "4711").json()
    again = client.get("/plain/", headers={"X-Member": bought["by"]})
    assert (again.status_code, again.json()) == (200, {"by": bought["by"], "run": 2})
    assert "X-Member" in again["Vary"]
    assert "private" in again["Cache-Control"]
    assert client.get("/plain/", headers={"X-Member": "f" * 40}).status_code == 402
    assert client.get("/silver/", headers={"X-Member": bought["by"]}).status_code == 402
    assert Payment.objects.count() == 1


def test_a_view_that_relies_on_an_extension_that_is_off_is_not_sold(
    db: None, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with override_settings(X402={**settings.X402, "EXTENSIONS": {"loyalty": None}}):
        assert client.get("/silver/").status_code == 503
        assert client.get("/none/").status_code == 402  # it asks for nothing
        assert client.get("/plain/").status_code == 402
    assert "'loyalty', which X402['EXTENSIONS'] does not turn on" in caplog.text
