"""A process killed anywhere: whoever paid is served, once charged, and told nothing false.

Each request is killed before its first statement to the database, then before its second, and so
on, and before and after each word with the facilitator, until one runs through. After each kill
the payer retries with the same payment and the periodic tasks run, as on a live site.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from tests.shop.runs import runs
from x402_django import clock
from x402_django.chain import evidence
from x402_django.chain.evidence import AuthorizationState, Evidence
from x402_django.exceptions import SettlementFailed
from x402_django.models import Payment, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.maintenance import purge_stored_responses, release_stale_claims
from x402_django.testing.instant import InstantFacilitator

pytestmark = pytest.mark.django_db(transaction=True)


class Killed(BaseException):
    """As SIGKILL, as far as Python can: no ``except Exception`` stops it."""


class Reaper:
    """Kills at the ``at``-th point; 0 kills nobody."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.points = 0

    def point(self) -> None:
        self.points += 1
        if self.points == self.at:
            raise Killed

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.point()
        return execute(sql, params, many, context)


class Ledgerless:
    """The chain: how often each authorization's money has moved (EIP-3009: at most once)."""

    def __init__(self) -> None:
        self.moved: Counter[str] = Counter()
        self.reaper = Reaper()

    def verify(self, signed: Any) -> None:
        self.reaper.point()

    def settle(self, signed: Any, payment: Any) -> Any:
        self.reaper.point()
        if self.moved[signed.nonce]:
            raise SettlementFailed(code="invalid_exact_evm_nonce_already_used")
        self.moved[signed.nonce] += 1
        self.reaper.point()
        return evidence.find_settlement(signed).as_settlement()

    def find_settlement(self, signed: Any, **where: Any) -> Evidence | None:
        if not self.moved[signed.nonce]:
            return None
        return Evidence(signed.nonce, 10, "0x" + "b" * 64, 0, 5)

    def authorization_used(self, signed: Any) -> bool:
        return bool(self.moved[signed.nonce])

    def authorization_state(self, signed: Any, *, depth: int = 0) -> AuthorizationState:
        return AuthorizationState(self.authorization_used(signed), 10, clock.timestamp())


@pytest.fixture
def chain(monkeypatch):
    chain = Ledgerless()
    for name in ("find_settlement", "authorization_used", "authorization_state"):
        monkeypatch.setattr(evidence, name, getattr(chain, name))
    monkeypatch.setattr(InstantFacilitator, "verify", lambda self, signed: chain.verify(signed))
    monkeypatch.setattr(
        InstantFacilitator, "settle", lambda self, signed, row: chain.settle(signed, row)
    )
    monkeypatch.setattr(InstantFacilitator, "trusted", False)
    return chain


@contextmanager
def reaping(chain: Ledgerless, at: int) -> Iterator[Reaper]:
    chain.reaper = reaper = Reaper(at)
    try:
        with connection.execute_wrapper(reaper):
            yield reaper
    finally:
        chain.reaper = Reaper()


def signed_headers(client, payer, path, method):
    challenge = client.generic(method, path, b"order" if method == "POST" else b"")
    return payer.headers_for(challenge, validBefore=str(int(time.time()) + 10**6))


def retry_until_served(client, method, path, headers):
    """As a patient client and a beat would; returns what the payer was told on the way."""
    told = []
    for hours in range(6):
        with clock.shifted(timedelta(seconds=1000 * hours)):
            response = client.generic(
                method, path, b"order" if method == "POST" else b"", headers=headers
            )
            told.append(response.status_code)
            if response.status_code < 400:
                return told, response
            release_stale_claims()
            confirm_pending_payments()
            purge_stored_responses()
    raise AssertionError(f"never served: {told}")


@pytest.mark.parametrize(
    ("method", "path", "view", "content"),
    [
        ("GET", "/weather/", "weather", b"sunny"),
        ("POST", "/order/", "order", b"order"),
        ("GET", "/asking/", "asking", b"answered"),
        ("GET", "/large/", "large", b"xxx"),
    ],
)
def test_whoever_is_killed_nobody_is_poorer(buyer, chain, method, path, view, content):
    kills = 0
    while True:
        Payment.objects.filter(delivered_at=None).update(delivered_at=clock.now())
        receipts = Receipt.objects.count()
        headers = signed_headers(buyer, buyer.payer, path, method)
        runs.clear()
        body = b"order" if method == "POST" else b""
        with reaping(chain, kills + 1) as reaper:
            try:
                buyer.generic(method, path, body, headers=headers)
                killed = False
            except Killed:
                killed = True
        if not killed:
            break
        kills += 1

        told, response = retry_until_served(buyer, method, path, headers)

        note = f"killed at point {kills}, told {told}"
        assert content in b"".join(response), note  # read as a server reads it
        assert 402 not in told, note
        payment = Payment.objects.first()
        assert set(chain.moved.values()) <= {1}, note
        assert chain.moved[payment.nonce] == 1, note
        assert payment.state in ("settled", "final"), note
        assert payment.delivered_at is not None, note
        assert Receipt.objects.count() == receipts + 1, note
        # A view that asks runs up to the question each time the payment is presented.
        assert runs[view] <= (8 if view == "asking" else 2), note
    assert kills >= 5
    assert reaper.points >= kills


def test_killed_in_the_view_costs_nothing_and_can_be_bought_later(buyer, chain, monkeypatch):
    headers = signed_headers(buyer, buyer.payer, "/broken/", "GET")

    def killed(*args):
        raise Killed

    from tests.shop import views

    monkeypatch.setattr(views, "RuntimeError", killed, raising=False)
    with pytest.raises(Killed):
        buyer.get("/broken/", headers=headers)
    assert Payment.objects.get().state == "claimed"
    assert buyer.get("/broken/", headers=headers).status_code == 409
    with clock.shifted(timedelta(seconds=1000)):
        assert release_stale_claims() == 1
    assert Payment.objects.get().state == "released"
    assert sum(chain.moved.values()) == 0
    assert Receipt.objects.count() == 0


def test_the_tasks_may_be_killed_anywhere_too(chain):
    from tests.payments.support import ago, stored

    kills = 0
    while True:
        Payment.objects.exclude(state="final").update(state="released")
        unknown = stored("settling", outcome_unknown_at=ago(100), state_changed_at=ago(100))
        with reaping(chain, kills + 1):
            try:
                confirm_pending_payments()
                killed = False
            except Killed:
                killed = True
        if not killed:
            break
        kills += 1
        with clock.shifted(timedelta(seconds=100)):
            confirm_pending_payments()
            confirm_pending_payments()
        with clock.shifted(timedelta(seconds=200)):
            confirm_pending_payments()
        unknown.refresh_from_db()
        assert unknown.state == "final", f"killed at point {kills}"
        assert chain.moved[unknown.nonce] == 1
        assert Receipt.objects.filter(payment=unknown).count() == 1
    assert kills >= 5
