"""``x402_prune``: what may be forgotten goes, and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from tests.shop.runs import runs
from x402_django import clock
from x402_django.exceptions import PaymentRefused, SettlementFailed
from x402_django.models import Payment, PaymentEvent, Receipt
from x402_django.payments.pruning import CHUNK, least_age
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer, PayingClient

pytestmark = pytest.mark.django_db(transaction=True)

DAYS = timedelta(days=1)


def buy(url="/weather/", status=200):
    assert PayingClient().get(url).status_code == status
    return Payment.objects.latest("pk")


def uncharged():
    """One of each kind: rejected, failed, released."""
    InstantFacilitator.script["verify"] = [PaymentRefused("no", code="insufficient_funds")]
    rejected = buy(status=402)
    InstantFacilitator.script["settle"] = [SettlementFailed("no", code="insufficient_funds")]
    failed = buy(status=402)
    released = buy("/missing/", status=404)
    assert [one.state for one in (rejected, failed, released)] == ["rejected", "failed", "released"]
    return rejected, failed, released


def prune(days, capsys, **options):
    with clock.shifted(days * DAYS):
        call_command("x402_prune", **options)
    return capsys.readouterr().out.strip()


def said(responses, uncharged, personal, webhooks=0):
    return (
        f"stored responses emptied: {responses}, uncharged payments deleted: {uncharged}, payloads "
        f"of charged ones emptied: {personal}, webhook messages emptied: {webhooks}"
    )


def test_uncharged_payments_go_and_charged_ones_stay(capsys):
    charged = buy()
    uncharged()
    assert prune(29, capsys) == said(1, 0, 0)  # not old enough; the response was past its time
    assert Payment.objects.count() == 4
    assert prune(31, capsys, dry_run=True) == "Would do: " + said(0, 3, 0)
    assert Payment.objects.count() == 4
    assert prune(31, capsys) == said(0, 3, 0)
    assert list(Payment.objects.all()) == [charged]
    assert set(PaymentEvent.objects.values_list("payment", flat=True)) == {charged.pk}
    assert Receipt.objects.get().payment == charged
    payment = Payment.objects.get()
    assert payment.payload == charged.payload
    assert payment.response_body is None
    assert prune(31, capsys) == said(0, 0, 0)


def test_what_is_owed_is_still_to_be_had_afterwards(capsys):
    buyer = PayingClient(automatic=False)
    assert buyer.pay("GET", "/weather/").status_code == 200
    gone = dict.fromkeys(("response_body", "response_status", "response_expires_at"))
    Payment.objects.update(state="final", delivered_at=None, response_headers=None, **gone)
    assert prune(40, capsys, personal_after=30) == said(0, 0, 0)
    with clock.shifted(40 * DAYS):
        assert buyer.get("/weather/", headers=buyer.last_headers).status_code == 200
    assert (runs["weather"], Payment.objects.count()) == (2, 1)
    assert prune(80, capsys, personal_after=30) == said(1, 0, 1)


@pytest.mark.parametrize(
    "kept",
    [
        {"valid_before": 2**40},  # the chain may still take it
        {"delivered_at": clock.now()},  # what was sold under `deferred` is lost: a loss to book
        {"state": "settling"},
        {"state": "claimed"},
        {"state": "verified"},
        {"state": "reversed"},
    ],
)
def test_what_may_yet_be_money_is_kept(kept, capsys):
    _, failed, _ = uncharged()
    Payment.objects.exclude(pk=failed.pk).update(valid_before=2**40)
    Payment.objects.filter(pk=failed.pk).update(**kept)
    assert prune(400, capsys) == said(0, 0, 0)
    assert Payment.objects.count() == 3


def test_what_the_books_name_is_kept(capsys):
    charged = buy()
    rejected, _, _ = uncharged()
    Payment.objects.filter(pk=charged.pk).update(superseded_by=rejected)
    assert prune(31, capsys) == said(1, 2, 0)
    assert set(Payment.objects.all()) == {charged, rejected}
    Payment.objects.filter(pk=charged.pk).update(state="failed")  # it has a receipt all the same
    assert prune(62, capsys) == said(0, 0, 0)
    assert Receipt.objects.count() == 1


def test_more_than_one_piece(capsys, monkeypatch):
    monkeypatch.setattr("x402_django.payments.pruning.CHUNK", 2)
    for _ in range(5):
        InstantFacilitator.script["verify"] = [PaymentRefused("no", code="insufficient_funds")]
        buy(status=402)
    assert CHUNK == 500
    assert prune(31, capsys) == said(0, 5, 0)
    assert not PaymentEvent.objects.exists()


def test_what_came_with_a_charged_payment_can_be_emptied(capsys):
    charged = buy()
    assert prune(400, capsys, personal_after=365) == said(1, 0, 0)  # not final
    Payment.objects.update(state="final")
    assert prune(364, capsys, personal_after=365) == said(0, 0, 0)
    assert prune(366, capsys, personal_after=365) == said(0, 0, 1)
    payment = Payment.objects.get()
    assert payment.payload == {"authorization": charged.payload["authorization"], "pruned": True}
    receipt = Receipt.objects.get()
    assert (receipt.payer, receipt.amount) == (charged.payer, charged.amount)
    assert prune(366, capsys, personal_after=365) == said(0, 0, 0)


def test_a_pruned_payment_buys_nothing_once_more(capsys):
    payer = Payer()
    plain = Client()
    headers = payer.headers_for(plain.get("/weather/"))
    assert plain.get("/weather/", headers=headers).status_code == 200
    Payment.objects.update(state="final", valid_before=0)
    prune(400, capsys, personal_after=30)
    again = plain.get("/weather/", headers=headers)
    assert again.status_code == 402
    assert again.json()["error"] == "payment_already_used"
    with clock.shifted(400 * DAYS):
        later = plain.get("/weather/", headers=headers)
    assert later.status_code == 402
    assert (runs["weather"], Payment.objects.count()) == (1, 1)


def test_who_failed_lately_is_not_forgotten(settings):
    assert least_age() == 7 * DAYS
    with pytest.raises(CommandError, match="at least: who failed lately"):
        call_command("x402_prune", uncharged_after=6)
    with pytest.raises(CommandError, match="at least 1 day"):
        call_command("x402_prune", personal_after=0)
    settings.X402 = {**settings.X402, "FAILED_PAYER_MEMORY": 40 * 86_400}
    with pytest.raises(CommandError, match="40 days"):
        call_command("x402_prune")
