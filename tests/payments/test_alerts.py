"""Alerts: told once, by one worker, again after a day, and when it is well."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.core import mail
from django.db import connections
from django.utils import timezone

from tests.admin.rows import make_event, make_payment
from x402_django import clock
from x402_django.models import Alert, Payment, PaymentEvent, SettlementWallet
from x402_django.payments import alerts
from x402_django.payments.alerts import send_alerts
from x402_django.payments.health import Finding

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _recipients(settings: Any, monkeypatch: Any) -> None:
    settings.X402 = {**settings.X402, "ALERTS": {"TO": ["ops@shop.example"]}}
    # Nothing runs here: of tasks and scans the tests of health say what there is to say.
    monkeypatch.setattr(
        alerts, "findings", lambda: [one for one in real() if one.name not in ("tasks", "scans")]
    )


real = alerts.findings


def low(balance: int = 1) -> None:
    SettlementWallet.objects.update_or_create(
        network="eip155:84532", address="0x" + "1" * 40,
        defaults={"next_nonce": 0, "balance": balance, "low_balance": 10},
    )  # fmt: skip


def subjects() -> list[str]:
    found = [str(one.subject) for one in mail.outbox]
    mail.outbox.clear()
    return found


def test_a_low_wallet_is_told_once_and_when_it_is_well() -> None:
    low()
    assert send_alerts().told == 1
    (sent,) = mail.outbox
    assert sent.to == ["ops@shop.example"]
    assert "is low. Send it coin for gas." in sent.body
    assert subjects() == ["[shop.example] Payments need somebody: wallets"]
    assert send_alerts().told == 0
    low(balance=11)
    assert send_alerts().well == 1
    assert subjects() == ["[shop.example] Well again: wallets"]
    assert Alert.objects.get().closed_at is not None
    send_alerts()
    low()
    assert send_alerts().told == 1
    assert Alert.objects.count() == 2


def test_it_is_told_again_after_a_day(monkeypatch: Any) -> None:
    low()
    send_alerts()
    for hours, told in ((23, 0), (25, 1)):
        later = timezone.now() + timedelta(hours=hours)
        monkeypatch.setattr(clock, "now", lambda later=later: later)
        assert send_alerts().told == told


def test_nobody_is_told_where_nobody_is_named(settings: Any) -> None:
    settings.X402 = {**settings.X402, "ALERTS": {}}
    low()
    send_alerts()
    assert not mail.outbox
    assert not Alert.objects.exists()


def test_a_mail_server_that_is_down_hurts_nothing(settings: Any, monkeypatch: Any) -> None:
    low()

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ConnectionRefusedError

    with monkeypatch.context() as patch:
        patch.setattr(alerts, "send_mail", refuse)
        assert send_alerts().unsent == 1
    assert send_alerts().told == 1
    with monkeypatch.context() as patch:
        low(balance=11)
        patch.setattr(alerts, "send_mail", refuse)
        assert send_alerts().unsent == 1
    assert send_alerts().well == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_one_tells() -> None:
    low()
    barrier = Barrier(6)

    def work(_number: int) -> int:
        try:
            barrier.wait(30)
            return send_alerts().told
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(work, range(6))) == 1
    assert len(mail.outbox) == 1


def event(number: int, to: str, code: str = "") -> None:
    payment = make_payment(number, state=to, facilitator="default")
    made = make_event(payment, to_state=to, code=code)
    PaymentEvent.objects.filter(pk=made.pk)._raw_delete("default")
    make_event(payment, to_state=to, code=code, at=timezone.now())


@pytest.mark.parametrize(("failed", "settled", "told"), [(4, 0, 0), (5, 20, 1), (5, 21, 0)])
def test_settlements_that_fail(failed: int, settled: int, told: int) -> None:
    for number in range(failed):
        event(number, "failed")
    for number in range(failed, failed + settled):
        event(number, "settled")
    send_alerts()
    assert len([one for one in subjects() if "settlements" in one]) == told


def test_a_facilitator_out_of_reach() -> None:
    for number in range(3):
        event(number, "released", "payment_service_unavailable")
    send_alerts()
    assert "[shop.example] Payments need somebody: facilitators" in subjects()
    event(9, "settled")
    send_alerts()
    assert "[shop.example] Well again: facilitators" in subjects()


def test_debts_and_reorganisations() -> None:
    long_ago = timezone.now() - timedelta(hours=2)
    make_payment(1, delivered_at=None, state_changed_at=long_ago, settled_at=long_ago)
    make_payment(2, state="reversed", state_changed_at=timezone.now())
    send_alerts()
    assert sorted(subjects()) == [
        "[shop.example] Payments need somebody: debts",
        "[shop.example] Payments need somebody: reorganisations",
    ]
    Payment.objects.update(delivered_at=timezone.now(), state="final")
    assert send_alerts().well == 2


def test_every_finding_has_a_name_that_fits() -> None:
    assert all(isinstance(one, Finding) and len(one.name) <= 32 for one in alerts._more())
