"""T2: somebody else submits the payer's authorization before we do."""

from __future__ import annotations

import time

import pytest

from tests.chain.support import direct
from tests.security.conftest import earned
from tests.shop import views
from tests.shop.runs import runs
from x402_django.models import ChainTransaction, Payment, Receipt
from x402_django.testing.payer import PAYMENT_SIGNATURE_HEADER, decode
from x402_django.testing.submission import submit_authorization

pytestmark = pytest.mark.django_db(transaction=True)


def body_of(headers):
    payload = decode(headers[PAYMENT_SIGNATURE_HEADER])
    return {"paymentPayload": payload, "paymentRequirements": payload["accepted"]}


def test_t02_a_front_run_payment_is_honoured_once(chain, rich, monkeypatch):
    """Submitted while the view runs: our own settlement finds the nonce used."""
    headers = rich.payer.headers_for(rich.get("/weather/"))
    real = views.JsonResponse

    def front_run(*args, **kwargs):
        submit_authorization(direct(), body_of(headers))
        return real(*args, **kwargs)

    monkeypatch.setattr(views, "JsonResponse", front_run)
    response = rich.get("/weather/", headers=headers)
    monkeypatch.setattr(views, "JsonResponse", real)

    assert (response.status_code, earned(chain)) == (200, 10_000)
    assert (Payment.objects.get().state, Receipt.objects.count()) == ("settled", 1)
    assert ChainTransaction.objects.filter(status="mined").count() == 0
    assert rich.get("/weather/", headers=headers).content == response.content
    assert rich.get("/async-weather/", headers=headers).status_code == 402
    assert (runs["weather"], runs["async_weather"], earned(chain)) == (1, 0, 10_000)


def test_t02_a_payment_spent_before_it_was_presented_buys_nothing(chain, rich):
    """Copied from the chain, or spent at another shop of the same payee."""
    headers = rich.payer.headers_for(rich.get("/weather/"))
    submit_authorization(direct(), body_of(headers))
    time.sleep(1.1)  # blocks have whole seconds
    response = rich.get("/weather/", headers=headers)

    assert response.status_code == 402
    assert runs["weather"] == 0
    assert (Payment.objects.get().state, Receipt.objects.count()) == ("rejected", 0)


def test_t02_announced_here_first_then_spent_elsewhere_buys_nothing(chain, rich):
    """A 404 here lets the claim go; the money is then spent at another shop of the same payee."""
    headers = rich.payer.headers_for(rich.get("/missing/"))
    assert rich.get("/missing/", headers=headers).status_code == 404
    submit_authorization(direct(), body_of(headers))

    time.sleep(1.1)
    response = rich.get("/weather/", headers=headers)

    assert response.status_code == 402
    assert (runs["weather"], Receipt.objects.count()) == (0, 0)
