"""T23, T24: what must not be written down or shown: signatures, keys, queries, bodies, errors."""

from __future__ import annotations

import logging

import pytest
from django.test import Client

from tests.chain.support import SETTLER
from x402_django.exceptions import (
    FacilitatorUnavailable,
    PaymentRefused,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.models import Payment, PaymentEvent, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import decode

BROWSER = {"Accept": "text/html", "User-Agent": "Mozilla/5.0"}


def secrets_of(headers):
    ((_, value),) = headers.items()
    signature = decode(value)["payload"]["signature"]
    return [value, signature, signature[2:], signature[2:66]]


@pytest.mark.django_db(transaction=True)
def test_t23_no_log_holds_a_signature_or_a_key(chain, rich, caplog):
    """The whole life of payments on a real chain, with every logger at DEBUG."""
    with caplog.at_level(logging.DEBUG):
        told = []
        rich.pay("GET", "/weather/")
        told += secrets_of(rich.last_headers)
        rich.get("/weather/", headers=rich.last_headers)
        rich.get("/hidden/", headers=rich.last_headers)
        rich.pay("GET", "/broken/")
        told += secrets_of(rich.last_headers)
        rich.pay("POST", "/order/")
        told += secrets_of(rich.last_headers)
        confirm_pending_payments()
        assert Payment.objects.filter(state="final").count() == 2
    keys = [SETTLER.private_key.removeprefix("0x"), rich.payer.account.key.hex()]
    text = caplog.text.lower() + "".join(str(r.args) for r in caplog.records).lower()
    assert len(caplog.records) > 5
    for secret in (*told, *keys):
        assert secret.lower() not in text


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("operation", "error"),
    [
        ("verify", PaymentRefused(code="insufficient_funds")),
        ("verify", FacilitatorUnavailable()),
        ("verify", ValueError("boom")),
        ("settle", SettlementFailed(code="insufficient_funds")),
        ("settle", SettlementUnknown()),
        ("settle", ValueError("boom")),
    ],
)
def test_t23_no_error_answer_log_or_history_holds_a_signature(buyer, caplog, operation, error):
    InstantFacilitator.script[operation] = [error]
    with caplog.at_level(logging.DEBUG):
        response = buyer.pay("GET", "/weather/")
    payment = Payment.objects.get()
    status = Client().get(f"/x402/payments/{payment.public_id}/")
    page = Client().get(f"/x402/payments/{payment.public_id}/", headers=BROWSER)
    history = str(list(PaymentEvent.objects.values()))
    for secret in secrets_of(buyer.last_headers):
        for text in (
            response.content.decode(),
            str(response.headers),
            caplog.text,
            status.content.decode(),
            page.content.decode(),
            history,
        ):
            assert secret not in text
    assert "boom" not in response.content.decode() + status.content.decode() + history


@pytest.mark.django_db
def test_t23_queries_and_bodies_are_not_in_what_others_see(buyer):
    """Challenges, receipts, the ledger and facilitators get the URL without its query."""
    private = "ssn=123-45-6789"
    challenge = buyer.get(f"/weather/?{private}")
    assert "123-45" not in str(decode(challenge["PAYMENT-REQUIRED"])) + challenge.content.decode()
    assert "123-45" not in buyer.get(f"/weather/?{private}", headers=BROWSER).content.decode()
    buyer.pay("GET", f"/weather/?{private}")
    buyer.pay("POST", "/order/", data=private, content_type="text/plain")
    rows = list(Payment.objects.defer("response_body").values(
        "resource_url", "description", "payload", "requirements", "request_fingerprint"
    ))  # fmt: skip
    assert "123-45" not in str(rows) + str(list(Receipt.objects.values()))


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/broken/", "/missing/", "/flaky/"])
def test_t24_no_exception_text_reaches_the_payer(buyer, path):
    response = buyer.pay("GET", path)
    assert response.status_code in (404, 500)
    for text in ("secret detail", "RuntimeError", "Traceback", "no such thing", "first run"):
        assert text not in response.content.decode()


@pytest.mark.django_db
def test_t24_a_facilitators_reason_is_no_markup_and_no_sentence(buyer):
    from x402_django.facilitators.base import reason_code

    reason = '<img src=x onerror="alert(1)">'
    InstantFacilitator.script["verify"] = [
        PaymentRefused(code=reason_code(reason, default="invalid_payment_requirements"))
    ]
    challenge = buyer.get("/weather/")
    headers = {**buyer.payer.headers_for(challenge), **BROWSER}
    page = buyer.get("/weather/", headers=headers).content.decode()
    assert "<img src" not in page
    assert "invalid_payment_requirements" in page
