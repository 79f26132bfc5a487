"""A process killed anywhere while it sells by a channel, or claims from one: nobody is poorer.

On the embedded EVM: killed before each statement to the database, and before and after each word
with the node.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from tests.chain.channels import PRICE, ChannelBuyer, offer_channels, on_chain
from tests.chain.support import FaultyProvider, x402_settings
from tests.payments.test_kills import Killed, Reaper
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django import clock
from x402_django.models import (
    ChannelClaim,
    ChannelUse,
    Payment,
    PaymentChannel,
    Receipt,
)
from x402_django.payments.claiming import claim_channels
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.maintenance import purge_stored_responses, release_stale_claims
from x402_django.testing.chain import dev_chain, reset_dev_chains

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture
def chain(settings: Any) -> Iterator[Any]:
    reset_dev_chains()
    settings.X402 = {
        **x402_settings(CONFIRMATIONS=2),
        "CHALLENGE_COUNT_INTERVAL": None,
        "MAX_TIMEOUT_SECONDS": 10**6,  # deposits outlive the retries
    }
    offer_channels()
    yield dev_chain("eip155:1337")
    reset_dev_chains()


@contextmanager
def reaping(at: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reaper]:
    reaper = Reaper(at)
    ask = FaultyProvider.make_request

    def asked(self: Any, method: Any, params: Any) -> Any:
        if method == "eth_sendRawTransaction":
            reaper.point()
        answer = ask(self, method, params)
        if method == "eth_sendRawTransaction":
            reaper.point()
        return answer

    with monkeypatch.context() as patched, connection.execute_wrapper(reaper):
        patched.setattr(FaultyProvider, "make_request", asked)
        yield reaper


def retry(buyer: ChannelBuyer, payload: dict[str, Any]) -> tuple[list[int], Any]:
    """As a patient client and a beat would."""
    told = []
    for hours in range(6):
        with clock.shifted(timedelta(seconds=1000 * hours)):
            response = buyer.send("/weather/", payload)
            told.append(response.status_code)
            if response.status_code < 400:
                return told, response
            release_stale_claims()
            confirm_pending_payments()
            purge_stored_responses()
    raise AssertionError(f"never served: {told}")


def killed_at(buyer: ChannelBuyer, payload: dict[str, Any], at: int, monkeypatch: Any) -> bool:
    with reaping(at, monkeypatch):
        try:
            assert buyer.send("/weather/", payload).status_code == 200
        except Killed:
            return True
    return False


def test_a_request_with_a_deposit_may_be_killed_anywhere(chain, monkeypatch):
    kills = 0
    while True:
        buyer = ChannelBuyer()
        payload, _ = buyer.sign("/weather/")
        runs.clear()
        if not killed_at(buyer, payload, kills + 1, monkeypatch):
            break
        kills += 1
        told, _response = retry(buyer, payload)
        note = f"killed at point {kills}, told {told}"
        assert 402 not in told, note
        assert buyer.dollars() == 1_000_000 - 10 * PRICE, note
        channel = PaymentChannel.objects.get(payer=buyer.address)
        assert (channel.charged, channel.balance) == (PRICE, 10 * PRICE), note
        assert on_chain(channel.channel_id) == (10 * PRICE, 0), note
        payment = Payment.objects.get(payer=buyer.address)
        assert payment.state == "settled", note
        assert payment.delivered_at is not None, note
        assert Receipt.objects.filter(payment=payment).count() == 1, note
        assert runs["weather"] <= 2, note
    assert kills >= 10


def test_a_request_with_a_voucher_may_be_killed_anywhere(chain, monkeypatch):
    buyer = ChannelBuyer(dollars=5)
    buyer.buy()
    kills = 0
    while True:
        payload, offer = buyer.sign("/weather/")
        before = int(PaymentChannel.objects.get().charged)
        if payload["payload"]["type"] == "deposit":  # only now and then
            assert buyer.buy().status_code == 200
            continue
        if not killed_at(buyer, payload, kills + 1, monkeypatch):
            break
        kills += 1
        told, response = retry(buyer, payload)
        note = f"killed at point {kills}, told {told}"
        assert 402 not in told, note
        buyer.note(payload, offer, response)
        channel = PaymentChannel.objects.get()
        assert channel.charged == before + PRICE, note
        assert ChannelUse.objects.count() == Receipt.objects.count(), note
        assert Receipt.objects.count() * PRICE == channel.charged, note
    assert kills >= 5


def test_a_worker_that_claims_may_be_killed_anywhere(chain, monkeypatch):
    kills = 0
    while True:
        buyer = ChannelBuyer()
        for _ in range(2):
            assert buyer.buy().status_code == 200
        paid = chain.dollars(PAY_TO)
        killed = False
        with reaping(kills + 1, monkeypatch):
            try:
                claim_channels(everything=True)
                chain.mine(2)
                claim_channels()
            except Killed:
                killed = True
        for round_ in range(3):
            with clock.shifted(timedelta(seconds=100 * (round_ + 1))):
                confirm_pending_payments()
                claim_channels(everything=True)
                chain.mine(2)
        claim_channels()
        note = f"killed at point {kills + 1}"
        assert chain.dollars(PAY_TO) == paid + 2 * PRICE, note
        assert not ChannelClaim.objects.filter(state__in=ChannelClaim.OPEN).exists(), note
        assert set(Payment.objects.values_list("state", flat=True)) == {"final"}, note
        channel = PaymentChannel.objects.get(payer=buyer.address)
        assert (channel.claimed, channel.unclaimed_since) == (2 * PRICE, None), note
        if not killed:
            break
        kills += 1
    assert kills >= 10
