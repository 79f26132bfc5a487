"""DESIGN section 6, "What the client gets": every row, for every kind of view, server and version.

A refusal also proves that nothing changed: no view ran, no facilitator was asked to move money,
no receipt was written.
"""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest

from tests.shop.runs import runs
from x402_django import clock
from x402_django.exceptions import (
    FacilitatorUnavailable,
    PaymentRefused,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.models import Payment, Receipt
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer, decode, encode

pytestmark = pytest.mark.django_db

KNOWN_TX = "0x" + "7" * 64


def nothing_moved(kind, *, verified: int = 0):
    """No content was made and no money was asked for."""
    if kind.view not in ("asking",):  # which runs up to its question
        assert runs[kind.view] == 0
    assert InstantFacilitator.calls["settle"] == 0
    assert InstantFacilitator.calls["verify"] == verified
    assert Receipt.objects.count() == 0
    return True


def leaked(kind, response):
    """Whether an answer that must not hold the content holds it (names of pages may recur)."""
    exact = response.content == kind.content
    return exact or (kind.content in response.content and kind.content in (b"sunny", b"windy"))


def payload_of(headers):
    (name, value), *_ = headers.items()
    return name, decode(value)


def test_no_payment(shopper, kind):
    response = shopper.send(kind.path)

    assert response.status_code == 402
    offer = decode(response["PAYMENT-REQUIRED"])["accepts"][0]
    assert offer["amount"] == str(kind.amount)
    v1 = json.loads(response.content)
    assert (v1["x402Version"], v1["accepts"][0]["maxAmountRequired"]) == (1, str(kind.amount))
    assert v1["error"] == "payment_required"
    assert response["Cache-Control"] == "no-store"
    assert not leaked(kind, response)
    assert nothing_moved(kind)
    assert Payment.objects.count() == 0


def test_paid(shopper, kind):
    response = shopper.pay(kind.path)

    assert response.status_code == 200
    assert kind.content in response.content
    settled = decode(response[shopper.response_header])
    payment = Payment.objects.get()
    assert settled["success"] is True
    assert (settled["transaction"], settled["payer"]) == (payment.transaction, payment.payer)
    assert settled["network"] == ("eip155:84532" if shopper.version == 2 else "base-sepolia")
    assert (payment.state, payment.amount, payment.x402_version) == (
        "settled",
        kind.amount,
        shopper.version,
    )
    assert "private" in response["Cache-Control"]
    for name in ("PAYMENT-SIGNATURE", "X-PAYMENT"):
        assert name.lower() in response["Vary"].lower()
    exposed = response["Access-Control-Expose-Headers"]
    for name in ("PAYMENT-REQUIRED", "PAYMENT-RESPONSE", "X-PAYMENT-RESPONSE"):
        assert name in exposed
    assert Receipt.objects.get().amount == kind.amount
    assert InstantFacilitator.calls == {"verify": 1, "settle": 1}


@pytest.mark.parametrize(
    ("mangle", "code"),
    [
        (lambda value: "", "invalid_payload"),
        (lambda value: "!!!", "invalid_payload"),
        (lambda value: value[:-2], "invalid_payload"),
        (lambda value: value + "=", "invalid_payload"),
        (lambda value: " " + value, "invalid_payload"),
        (lambda value: encode({"x402Version": 7}), "invalid_x402_version"),
        (lambda value: "A" * 8193, "payment_header_too_large"),
        (lambda value: f"{value},{value}", "ambiguous_payment_headers"),
        (lambda value: f"{value}, {value}", "ambiguous_payment_headers"),
    ],
)
def test_a_malformed_header(shopper, kind, mangle, code):
    name, _ = payload_of(shopper.sign(kind.path))
    runs.clear()

    response = shopper.send(kind.path, {name: mangle(shopper.headers[name])})

    if name == "X-PAYMENT" and code == "payment_header_too_large":
        assert response.status_code == 400
    assert (response.status_code, response.json()["error"]) == (400, code)
    assert response["Cache-Control"] == "no-store"
    assert nothing_moved(kind)
    assert Payment.objects.count() == 0


def test_both_versions_at_once(shopper, kind):
    (value,) = shopper.sign(kind.path).values()
    runs.clear()
    response = shopper.send(kind.path, {"PAYMENT-SIGNATURE": value, "X-PAYMENT": value})
    assert (response.status_code, response.json()["error"]) == (400, "ambiguous_payment_headers")
    assert nothing_moved(kind)
    assert Payment.objects.count() == 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"to": "0x000000000000000000000000000000000000dEaD"}, "recipient_mismatch"),
        ({"value": "1"}, "value_mismatch"),
        ({"value": "99999999"}, "value_mismatch"),
        ({"validBefore": "1"}, "valid_before"),
        ({"validBefore": str(int(time.time()) + 5)}, "valid_before"),
        ({"validAfter": str(int(time.time()) + 5000), "validBefore": "9" * 30}, "valid_after"),
    ],
)
def test_no_matching_offer(shopper, kind, changes, code):
    shopper.sign(kind.path, **changes)
    runs.clear()
    response = shopper.send(kind.path, shopper.headers)

    assert response.status_code == 402
    assert code in decode(response["PAYMENT-REQUIRED"])["error"]
    assert code in json.loads(response.content)["error"]
    assert decode(response["PAYMENT-REQUIRED"])["accepts"][0]["amount"] == str(kind.amount)
    assert nothing_moved(kind)
    assert Payment.objects.count() == 0


@pytest.mark.parametrize("code", ["insufficient_funds", "invalid_exact_evm_payload_signature"])
def test_refused_by_the_facilitator(shopper, kind, code):
    InstantFacilitator.script["verify"] = [PaymentRefused(code=code)]
    response = shopper.pay(kind.path)

    assert response.status_code == 402
    assert decode(response["PAYMENT-REQUIRED"])["error"] == code
    assert response["Cache-Control"] == "no-store"
    assert nothing_moved(kind, verified=1)
    assert Payment.objects.get().state == "rejected"


def test_the_same_payment_is_being_processed(shopper, kind):
    shopper.pay(kind.path)
    Payment.objects.update(state="claimed", delivered_at=None, response_expires_at=None)
    before = list(Payment.objects.values())
    runs.clear()

    response = shopper.send(kind.path, shopper.headers)

    assert (response.status_code, response.json()["error"]) == (409, "payment_in_progress")
    assert response["Retry-After"] == "2"
    assert list(Payment.objects.values()) == before
    assert InstantFacilitator.calls["settle"] == 1
    assert kind.view == "asking" or runs[kind.view] == 0


def test_the_same_payment_on_the_same_request_when_done(shopper, kind):
    first = shopper.pay(kind.path)
    runs.clear()
    again = shopper.send(kind.path, shopper.headers)

    assert again.status_code == 200
    assert again.content == first.content
    assert again[shopper.response_header] == first[shopper.response_header]
    assert again["Content-Type"] == first["Content-Type"]
    assert "private" in again["Cache-Control"]
    assert kind.view == "asking" or runs[kind.view] == 0
    assert InstantFacilitator.calls == {"verify": 1, "settle": 1}
    assert (Payment.objects.count(), Receipt.objects.count()) == (1, 1)


@pytest.mark.parametrize("change", ["query", "method", "body"])
def test_the_same_payment_on_another_request(shopper, kind, change):
    shopper.pay(kind.path)
    before = list(Payment.objects.values())
    runs.clear()
    sent = {
        "query": lambda: shopper.send(f"{kind.path}?other=1", shopper.headers),
        "method": lambda: shopper.send(kind.path, shopper.headers, method="HEAD"),
        "body": lambda: shopper.send(kind.path, shopper.headers, body=b"x"),
    }[change]()

    assert sent.status_code == 402
    assert decode(sent["PAYMENT-REQUIRED"])["error"] == "payment_already_used"
    assert list(Payment.objects.values()) == before
    assert kind.view == "asking" or runs[kind.view] == 0
    assert InstantFacilitator.calls == {"verify": 1, "settle": 1}


@pytest.mark.parametrize("path", ["/broken/", "/missing/"])
def test_the_view_failed(shopper, path):
    response = shopper.pay(path)

    assert response.status_code == (500 if path == "/broken/" else 404)
    assert shopper.response_header not in response
    assert b"secret" not in response.content
    assert Payment.objects.get().state == "released"
    assert Receipt.objects.count() == 0
    assert InstantFacilitator.calls == {"verify": 1}
    again = shopper.send(path, shopper.headers)  # not charged: it may be presented again
    assert again.status_code == response.status_code
    assert InstantFacilitator.calls == {"verify": 2}
    assert runs[path.strip("/")] == 2


def test_a_payment_for_a_failed_view_buys_something_else(shopper):
    shopper.pay("/missing/")
    response = shopper.send("/weather/", shopper.headers)
    assert response.status_code == 200
    assert InstantFacilitator.calls["settle"] == 1
    assert Payment.objects.get().resource_url == "https://shop.example/weather/"


def test_settlement_definitely_failed(shopper, kind):
    InstantFacilitator.script["settle"] = [SettlementFailed(code="insufficient_funds")]
    response = shopper.pay(kind.path)

    assert response.status_code == 402
    told = decode(response[shopper.response_header])
    assert (told["success"], told["errorReason"]) == (False, "insufficient_funds")
    assert told["transaction"] == ""
    assert decode(response["PAYMENT-REQUIRED"])["accepts"]
    assert not leaked(kind, response)
    assert (Payment.objects.get().state, Receipt.objects.count()) == ("failed", 0)
    retried = shopper.send(kind.path, shopper.headers)
    assert retried.status_code == 402
    assert InstantFacilitator.calls["settle"] == 1


def test_settlement_outcome_unknown_then_found(shopper, kind, monkeypatch):
    from x402_django.chain import evidence

    found = []
    monkeypatch.setattr(evidence, "find_settlement", lambda *a, **k: found[0] if found else None)
    state = evidence.AuthorizationState(True, 1, int(time.time()))
    monkeypatch.setattr(evidence, "authorization_state", lambda *a, **k: state)
    InstantFacilitator.script["settle"] = [SettlementUnknown(transaction=KNOWN_TX)]
    response = shopper.pay(kind.path)

    for answer in (response, shopper.send(kind.path, shopper.headers)):
        assert answer.status_code == 503
        body = answer.json()
        assert (body["error"], body["retryable"]) == ("settlement_outcome_unknown", True)
        assert answer["Retry-After"] == "2"
        assert answer["Link"] == f'<{body["status"]}>; rel="status"'
        assert answer["Cache-Control"] == "no-store"
        assert not leaked(kind, answer)
        assert "PAYMENT-REQUIRED" not in answer
        status = shopper.send(body["status"]).json()
        assert (status["state"], status["paid"], status["retry"]) == ("settling", False, "wait")
    assert (Payment.objects.get().state, Receipt.objects.count()) == ("settling", 0)

    found.append(evidence.Evidence(KNOWN_TX, 5, "0x" + "8" * 64, 3, 1))
    runs.clear()
    served = shopper.send(kind.path, shopper.headers)

    assert (served.status_code, kind.content in served.content) == (200, True)
    assert decode(served[shopper.response_header])["transaction"] == KNOWN_TX
    assert kind.view == "asking" or runs[kind.view] == 0  # the first run's answer was kept
    assert InstantFacilitator.calls["settle"] == 1
    assert (Payment.objects.get().state, Receipt.objects.count()) == ("settled", 1)
    assert shopper.send(f"/x402/payments/{Payment.objects.get().public_id}/").json()["retry"] == (
        "done"
    )


@pytest.mark.parametrize("operation", ["verify", "settle"])
def test_the_facilitator_is_down(shopper, kind, operation):
    InstantFacilitator.script[operation] = [FacilitatorUnavailable()]
    response = shopper.pay(kind.path)

    assert (response.status_code, response.json()["error"]) == (503, "payment_service_unavailable")
    assert response["Retry-After"] == "2"
    assert not leaked(kind, response)
    assert "PAYMENT-REQUIRED" not in response
    assert (Payment.objects.get().state, Receipt.objects.count()) == ("released", 0)
    retried = shopper.send(kind.path, shopper.headers)
    assert (retried.status_code, kind.content in retried.content) == (200, True)
    assert Receipt.objects.count() == 1


def test_the_ledger_is_down(shopper, kind, monkeypatch):
    from django.db import InterfaceError, OperationalError

    from x402_django.models.querysets import PaymentQuerySet

    shopper.sign(kind.path)
    runs.clear()
    for error in (OperationalError, InterfaceError):

        def down(*args, error=error, **kwargs):
            raise error("secret host")

        monkeypatch.setattr(PaymentQuerySet, "claim", down)
        response = shopper.send(kind.path, shopper.headers)
        assert (response.status_code, response.json()["error"]) == (
            503,
            "payment_service_unavailable",
        )
        assert b"secret" not in response.content
        assert nothing_moved(kind)


def test_the_ledger_goes_down_after_the_money_moved(shopper, kind, monkeypatch):
    from django.db import OperationalError

    from x402_django.payments import settlement

    def down(*args, **kwargs):
        raise OperationalError("secret host")

    for method, path in (("GET", kind.path), ("POST", "/order/")):
        shopper.sign(path, method=method)
        with monkeypatch.context() as patch:
            patch.setattr(settlement, "mark_settled", down)
            response = shopper.send(path, shopper.headers, method=method)
        body = response.json()
        assert (response.status_code, body["error"]) == (503, "settlement_outcome_unknown")
        assert "not charged" not in body["message"]
        assert not leaked(kind, response)
        assert Payment.objects.first().state == "settling"
    assert runs["order"] == 0


@pytest.mark.parametrize("path", ["/weather/", "/asking/"])
def test_an_unknown_outcome_stays_one_while_the_chain_cannot_be_read(shopper, path):
    """The settings' RPC endpoint answers nobody."""
    InstantFacilitator.script["settle"] = [SettlementUnknown()]
    assert shopper.pay(path).status_code == 503
    for _ in range(2):
        response = shopper.send(path, shopper.headers)
        body = response.json()
        assert (response.status_code, body["error"]) == (503, "settlement_outcome_unknown")
        assert "not charged" not in body["message"]
        assert "status" in body
    assert Payment.objects.get().state == "settling"
    assert InstantFacilitator.calls["settle"] == 1


# ------------------------------------------------------------------ upfront


def test_upfront_a_failed_view_is_a_debt_and_runs_again_free(shopper):
    failed = shopper.pay("/flaky/")
    assert failed.status_code == 500
    assert decode(failed[shopper.response_header])["success"] is True
    payment = Payment.objects.get()
    assert (payment.state, payment.delivered_at) == ("settled", None)
    assert list(Payment.objects.debts()) == [payment]

    served = shopper.send("/flaky/", shopper.headers)
    assert (served.status_code, served.json()) == (200, {"run": 2})
    assert list(Payment.objects.debts()) == []
    again = shopper.send("/flaky/", shopper.headers)
    assert (again.status_code, again.content) == (200, served.content)
    assert runs["upfront_flaky"] == 2
    assert InstantFacilitator.calls == {"verify": 1, "settle": 1}
    assert Receipt.objects.count() == 1


def test_upfront_the_view_does_not_run_before_the_money_has_arrived(shopper):
    InstantFacilitator.script["settle"] = [SettlementUnknown()]
    response = shopper.pay("/order/", method="POST", body=b"tea")
    assert (response.status_code, runs["order"]) == (503, 0)

    other = another(shopper)
    InstantFacilitator.script["settle"] = [SettlementFailed(code="insufficient_funds")]
    response = other.pay("/order/", method="POST", body=b"tea")
    assert (response.status_code, runs["order"]) == (402, 0)


def another(shopper):
    return type(shopper)(shopper.transport, shopper.version, Payer())


def test_upfront_an_order_is_placed_once(shopper):
    first = shopper.pay("/order/", method="POST", body=b"tea")
    assert (first.status_code, first.json()) == (201, {"ordered": "tea", "run": 1})
    again = shopper.send("/order/", shopper.headers, method="POST", body=b"tea")
    assert (again.status_code, again.content) == (201, first.content)
    other = shopper.send("/order/", shopper.headers, method="POST", body=b"coffee")
    assert other.status_code == 402
    assert runs["order"] == 1


def test_delivery_is_remembered_when_the_payment_becomes_final_while_the_view_runs(
    shopper, monkeypatch
):
    from tests.shop import views

    real = views.JsonResponse

    def slowly(*args, **kwargs):
        Payment.objects.update(state="final")  # another process confirms it
        return real(*args, **kwargs)

    monkeypatch.setattr(views, "JsonResponse", slowly)
    first = shopper.pay("/order/", method="POST", body=b"tea")
    monkeypatch.setattr(views, "JsonResponse", real)
    payment = Payment.objects.get()
    assert (payment.state, payment.delivered_at is None) == ("final", False)
    again = shopper.send("/order/", shopper.headers, method="POST", body=b"tea")
    assert (again.status_code, again.content, runs["order"]) == (201, first.content, 1)


# ------------------------------------------------------------------ nobody pays twice


@pytest.mark.parametrize("path", ["/weather/", "/async-weather/", "/photo/", "/hidden/"])
def test_a_new_payment_while_the_earlier_is_unknown_serves_the_earlier(shopper, path, monkeypatch):
    from x402_django.chain import evidence

    found = []
    monkeypatch.setattr(evidence, "find_settlement", lambda *a, **k: found[0] if found else None)
    monkeypatch.setattr(
        evidence,
        "authorization_state",
        lambda *a, **k: evidence.AuthorizationState(True, 1, int(time.time())),
    )
    InstantFacilitator.script["settle"] = [SettlementUnknown()]
    assert shopper.pay(path).status_code == 503
    first = Payment.objects.get()

    waiting = shopper.pay(path)
    assert (waiting.status_code, waiting.json()["error"]) == (503, "settlement_outcome_unknown")
    found.append(evidence.Evidence(KNOWN_TX, 5, "0x" + "8" * 64, 3, 1))
    served = shopper.pay(path)

    assert served.status_code == 200
    assert decode(served[shopper.response_header])["transaction"] == KNOWN_TX
    assert Payment.objects.get(pk=first.pk).state == "settled"
    later = Payment.objects.exclude(pk=first.pk)
    assert {(p.state, p.superseded_by_id) for p in later} == {("released", first.pk)}
    assert InstantFacilitator.calls["settle"] == 1
    assert Receipt.objects.count() == 1


def test_a_new_payment_for_an_undelivered_one_gets_that_one(shopper):
    assert shopper.pay("/flaky/").status_code == 500
    first = Payment.objects.get()
    shopper.sign("/flaky/")
    served = shopper.send("/flaky/", shopper.headers)
    assert (served.status_code, served.json()) == (200, {"run": 2})
    assert InstantFacilitator.calls == {"verify": 1, "settle": 1}
    assert Payment.objects.exclude(pk=first.pk).get().state == "released"


def test_the_price_goes_up_between_challenge_and_payment(shopper, settings):
    from x402_django.models import PriceRule

    settings.X402 = {**settings.X402, "PRICE_GRACE": 0}
    rule = PriceRule.objects.create(name="a", price_usd=1, url_names=["shop:article"])
    shopper.sign("/articles/a/")
    rule.price_usd = 2
    rule.save()
    response = shopper.send("/articles/a/", shopper.headers)
    assert response.status_code == 402
    assert decode(response["PAYMENT-REQUIRED"])["accepts"][0]["amount"] == "2000000"
    assert (runs["article"], Payment.objects.count()) == (0, 0)


def test_what_was_paid_before_the_price_went_up_or_the_time_ran_out_is_still_ones_own(shopper):
    from x402_django.models import PriceRule

    rule = PriceRule.objects.create(name="a", price_usd=1, url_names=["shop:article"])
    first = shopper.pay("/articles/a/")
    rule.price_usd = 2
    rule.save()
    with clock.shifted(timedelta(seconds=400)):
        again = shopper.send("/articles/a/", shopper.headers)
        other = shopper.send("/articles/b/", shopper.headers)
    assert (again.status_code, again.content) == (200, first.content)
    assert decode(other["PAYMENT-REQUIRED"])["error"] == "payment_already_used"
    assert (runs["article"], InstantFacilitator.calls["settle"]) == (1, 1)


def test_a_stored_answer_has_its_time(shopper):
    shopper.pay("/weather/")
    with clock.shifted(timedelta(days=2)):
        response = shopper.send("/weather/", shopper.headers)
    assert response.status_code == 402
    assert decode(response["PAYMENT-REQUIRED"])["error"] == "payment_already_used"
    assert runs["weather"] == 1
