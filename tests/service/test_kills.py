"""The service killed at every statement: the seller is paid once and never told "failed"."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from tests.payments.test_kills import Killed, Reaper
from tests.service.support import PRICE, SELLER, Caller, ask, balance
from x402_django import clock
from x402_django.models import Payment
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.maintenance import release_stale_claims


@pytest.mark.slow
def test_killed_anywhere_it_settles_once(make_caller: Any) -> None:
    caller, _key = make_caller(gas_per_hour=None)
    kills = 0
    while True:
        before = balance(SELLER)
        body = ask(validBefore=str(int(time.time()) + 10**6))
        try:
            with connection.execute_wrapper(Reaper(kills + 1)):
                caller.settle(body)
            killed = False
        except Killed:
            killed = True
        told = retry_until_settled(caller, body)

        note = f"killed at statement {kills + 1}, told {told}"
        assert balance(SELLER) == before + PRICE, note
        assert set(told) <= {"settlement_pending", "payment_service_unavailable"}, note
        payment = Payment.objects.first()
        assert payment is not None
        assert payment.state in ("settled", "final"), note
        if not killed:
            break
        kills += 1
    assert kills >= 10


def retry_until_settled(caller: Caller, body: dict[str, Any]) -> list[str]:
    """As a patient seller and a beat would; the reasons it was given on the way."""
    told = []
    for hours in range(6):
        with clock.shifted(timedelta(seconds=1000 * hours)):
            answer = caller.settle(body).json()
            if answer.get("success"):
                return told
            told.append(answer.get("errorReason") or answer["error"])
            release_stale_claims()
            confirm_pending_payments()
    raise AssertionError(f"never settled: {told}")
