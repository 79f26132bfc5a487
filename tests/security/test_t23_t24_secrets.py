"""T23, T24: what must not be written down or shown: signatures, keys, queries, bodies, errors."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.test import Client

from tests.chain.support import SETTLER
from x402_django import clock
from x402_django.exceptions import (
    FacilitatorUnavailable,
    PaymentRefused,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.models import Payment, PaymentEvent, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer, PayingClient, decode

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


@pytest.mark.django_db(transaction=True)
def test_t23_what_watches_the_shop_names_nobody(settings, monkeypatch):
    """Numbers, health and spans: no payer, no address of a buyer, no signature, no query."""
    pytest.importorskip("prometheus_client")
    from x402_django.observing import observed
    from x402_django.payments import counters

    spans = []
    monkeypatch.setattr("x402_django.observing._tracer", lambda: _Tracer(spans))
    settings.X402 = {**settings.X402, "METRICS_TOKEN_ENV": "SHOP_METRICS_TOKEN"}
    monkeypatch.setenv("SHOP_METRICS_TOKEN", "token")
    counters.connect()
    try:
        payer = Payer()
        client = PayingClient(payer=payer)
        assert client.get("/weather/?name=quillon").status_code == 200
        with observed("settle", Payment.objects.get()):
            pass
        numbers = Client().get("/x402/metrics/", headers={"Authorization": "Bearer token"})
    finally:
        counters.disconnect()
    health = Client().get("/x402/health/")
    told = (numbers.content + health.content).decode() + repr(spans)
    assert "x402_payments_total" in told
    assert Payment.objects.get().public_id in repr(spans)
    payload = Payment.objects.get().payload
    for secret in (payer.address, payload["signature"], "quillon", "weather"):
        assert secret.lower() not in told.lower()


class _Tracer:
    def __init__(self, spans):
        self.spans = spans

    def start_as_current_span(self, name, *, attributes, **options):
        self.spans.append((name, attributes))
        return nullcontext()


@pytest.mark.django_db(transaction=True)
def test_t23_signatures_and_uncharged_payers_can_be_forgotten():
    charged, refused = Payer(), Payer()
    assert PayingClient(payer=charged).get("/weather/").status_code == 200
    InstantFacilitator.script["verify"] = [PaymentRefused(code="insufficient_funds")]
    assert PayingClient(payer=refused).get("/weather/").status_code == 402
    Payment.objects.filter(payer=charged.address).update(state="final")
    with clock.shifted(timedelta(days=400)):
        call_command("x402_prune", personal_after=365)
    [left] = Payment.objects.all()
    assert left.payer == charged.address
    assert "signature" not in left.payload
    assert left.response_body is None
    assert not Payment.objects.filter(payer=refused.address).exists()
    assert Receipt.objects.get().payer == charged.address
