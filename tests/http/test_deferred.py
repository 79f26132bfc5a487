"""The flow ``deferred`` through HTTP: delivered now, settled later, and only for who may owe."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from threading import Barrier

import pytest
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.http.deferred_views import gathering
from tests.http.test_queries import statements
from tests.payments.support import ago, history, signed_payment, stored
from tests.settings import X402
from tests.shop.runs import runs
from x402_django import clock
from x402_django.exceptions import SettlementFailed, SettlementUnknown
from x402_django.http import responses
from x402_django.models import Payment, PriceRule, Receipt
from x402_django.payments.deferred import settle_deferred
from x402_django.payments.maintenance import purge_stored_responses, release_stale_claims
from x402_django.payments.recording import mark_settled
from x402_django.protocol.types import Settlement
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer, PayingClient, decode, settlement_of

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.http.deferred_views"),
]

PENDING = {"success": False, "errorReason": "settlement_pending", "transaction": ""}


@pytest.fixture(autouse=True)
def _trusting(settings):
    """Nobody needs a reputation, unless a test says so."""
    settings.X402 = {**X402, "DEFERRED_MIN_SETTLED": 0}


def known(payer: Payer, *, times: int = 1) -> None:
    """Let ``payer`` have paid before."""
    for _ in range(times):
        payment = stored("settling", signed_payment(payer))
        mark_settled(payment, Settlement(payment.nonce, 1, None, 0), {}, actor="test")


def flows() -> list[tuple[str, str]]:
    return sorted(Payment.objects.values_list("flow", "state"))


def test_content_is_delivered_before_it_is_settled(buyer):
    response = buyer.pay("GET", "/tick/")

    assert (response.status_code, response.content) == (200, b"tick 1")
    payment = Payment.objects.get()
    assert (payment.state, payment.flow) == ("verified", "deferred")
    assert payment.delivered_at is not None
    assert history(payment) == [("claimed", "verified")]
    assert settlement_of(response) == {
        **PENDING,
        "payer": buyer.payer.address,
        "network": "eip155:84532",
        "amount": "10000",
    }
    status = responses.payment_status_url(payment)
    assert response["Link"] == f'</next/>; rel="next", <{status}>; rel="status"'
    assert buyer.get(status).json()["state"] == "verified"
    assert InstantFacilitator.calls == {"verify": 1}
    assert not Receipt.objects.exists()

    assert str(settle_deferred()) == "settled: 1, failed: 0, unknown: 0, waiting: 0"

    payment.refresh_from_db()
    assert payment.state == "settled"
    assert Receipt.objects.get().payment == payment
    assert InstantFacilitator.calls == {"verify": 1, "settle": 1}
    assert str(settle_deferred()) == "settled: 0, failed: 0, unknown: 0, waiting: 0"
    assert InstantFacilitator.calls["settle"] == 1


def test_version_one_is_told_too(payer):
    client = PayingClient(payer=payer, version=1)
    response = client.pay("GET", "/tick/")
    assert response.status_code == 200
    told = decode(response["X-PAYMENT-RESPONSE"])
    assert told == {**PENDING, "payer": payer.address, "network": "base-sepolia"}


def test_a_replay_gets_the_stored_response_and_how_settlement_stands_now(buyer):
    first = buyer.pay("GET", "/tick/")
    pending = buyer.get("/tick/", headers=buyer.last_headers)
    assert (pending.content, settlement_of(pending)) == (first.content, settlement_of(first))
    assert pending["Link"] == first["Link"]

    settle_deferred()
    settled = buyer.get("/tick/", headers=buyer.last_headers)

    payment = Payment.objects.get()
    assert settled.content == b"tick 1"
    assert settled["Link"] == '</next/>; rel="next"'
    assert settlement_of(settled) == {
        "success": True,
        "transaction": payment.transaction,
        "payer": buyer.payer.address,
        "network": "eip155:84532",
        "amount": "10000",
    }
    assert runs["tick"] == 1


def test_a_replay_after_the_response_was_emptied_buys_nothing_and_charges_nothing(buyer):
    buyer.pay("GET", "/tick/")
    with clock.shifted(timedelta(seconds=601)):
        purge_stored_responses()
        again = buyer.get("/tick/", headers=buyer.last_headers)
    assert again.status_code == 402
    assert decode(again["PAYMENT-REQUIRED"])["error"] == "payment_already_used"
    assert Payment.objects.get().state == "verified"
    assert runs["tick"] == 1


def test_what_is_owed_is_never_released(buyer):
    buyer.pay("GET", "/tick/")
    stored("claimed", state_changed_at=ago(2000))
    stored("verified", state_changed_at=ago(2000))
    with clock.shifted(timedelta(days=1)):
        assert release_stale_claims() == 2
    assert Payment.objects.get(flow="deferred").state == "verified"


def test_a_view_that_fails_costs_nothing(buyer):
    assert buyer.pay("GET", "/deferred-broken/").status_code == 500
    assert flows() == [("deferred", "released")]
    assert InstantFacilitator.calls == {"verify": 1}


@pytest.mark.parametrize("path", ["/deferred-large/", "/deferred-stream/"])
def test_what_cannot_be_stored_is_settled_first(buyer, path):
    response = buyer.pay("GET", path)
    assert response.status_code == 200
    assert settlement_of(response)["success"] is True
    assert flows() == [("authorization", "settled")]


def test_an_authorization_that_may_not_live_until_its_batch_is_settled_first(buyer):
    # Three intervals and SETTLEMENT_TIMEOUT, of 10 seconds each, and 50 for a worker that dies.
    for seconds, flow in ((89, "authorization"), (120, "deferred")):
        headers = buyer.payer.headers_for(
            buyer.get("/tick/"), validBefore=str(clock.timestamp() + seconds)
        )
        assert buyer.get("/tick/", headers=headers).status_code == 200
        assert Payment.objects.latest("pk").flow == flow


def test_a_price_without_dollars_is_settled_first(buyer):
    PriceRule.objects.create(name="tick", url_names=["tick"], token_amount=5, flow="deferred")
    assert settlement_of(buyer.pay("GET", "/tick/"))["success"] is True
    assert flows() == [("authorization", "settled")]


def test_a_rule_may_defer_what_the_code_does_not(buyer):
    PriceRule.objects.create(
        name="weather", url_names=["shop:weather"], price_usd="0.02", flow="deferred"
    )
    assert settlement_of(buyer.pay("GET", "/weather/"))["errorReason"] == "settlement_pending"
    assert flows() == [("deferred", "verified")]


def test_one_payer_owes_no_more_than_the_limit(buyer, settings):
    settings.X402 = {**settings.X402, "DEFERRED_MAX_EXPOSURE_PER_PAYER": "0.025"}
    for _ in range(3):
        assert buyer.pay("GET", "/tick/").status_code == 200
    assert flows() == [("authorization", "settled")] + [("deferred", "verified")] * 2
    other = PayingClient(payer=Payer())
    assert settlement_of(other.pay("GET", "/tick/"))["success"] is False

    settle_deferred()
    assert settlement_of(buyer.pay("GET", "/tick/"))["success"] is False


@pytest.mark.parametrize("state", ["settling", "reversed"])
def test_what_is_settling_or_reversed_is_still_owed(buyer, settings, state):
    settings.X402 = {**settings.X402, "DEFERRED_MAX_EXPOSURE_PER_PAYER": Decimal("0.02")}
    stored(
        state, signed_payment(buyer.payer), flow="deferred", delivered_at=ago(10),
        price_usd=Decimal("0.01000001"),
    )  # fmt: skip
    assert settlement_of(buyer.pay("GET", "/tick/"))["success"] is True


def test_all_payers_together_owe_no_more_than_the_limit(settings):
    settings.X402 = {**settings.X402, "DEFERRED_MAX_EXPOSURE": 0.02}
    told = [settlement_of(PayingClient().pay("GET", "/tick/"))["success"] for _ in range(3)]
    assert told == [False, False, True]

    settings.X402 = {**settings.X402, "DEFERRED_MAX_EXPOSURE": None}
    assert settlement_of(PayingClient().pay("GET", "/tick/"))["success"] is False


def test_a_payer_must_have_paid_before(buyer, settings):
    settings.X402 = {**settings.X402, "DEFERRED_MIN_SETTLED": 2}
    known(Payer(), times=5)
    known(buyer.payer)
    assert settlement_of(buyer.pay("GET", "/tick/"))["success"] is True
    assert settlement_of(buyer.pay("GET", "/tick/"))["success"] is False


def test_by_default_one_payment_makes_a_reputation(buyer, settings):
    settings.X402 = X402
    assert [settlement_of(buyer.pay("GET", "/tick/"))["success"] for _ in range(3)] == [
        True, False, False,
    ]  # fmt: skip


def test_a_payer_in_default_pays_before_the_view_until_it_is_forgotten(buyer):
    buyer.pay("GET", "/tick/")
    InstantFacilitator.script["settle"] = [SettlementFailed(code="insufficient_funds")]
    assert str(settle_deferred()) == "settled: 0, failed: 1, unknown: 0, waiting: 0"
    failed = Payment.objects.get()
    assert (failed.state, failed.failure_code) == ("failed", "insufficient_funds")
    assert buyer.get("/tick/", headers=buyer.last_headers).status_code == 402

    assert settlement_of(buyer.pay("GET", "/tick/"))["success"] is True
    assert Payment.objects.first().flow == "upfront"
    assert settlement_of(PayingClient().pay("GET", "/tick/"))["success"] is False

    Payment.objects.filter(pk=failed.pk).update(state_changed_at=ago(604_801))
    assert settlement_of(buyer.pay("GET", "/tick/"))["success"] is False


def test_who_comes_to_be_in_default_while_the_view_runs_is_not_trusted(buyer, monkeypatch):
    from x402_django.http import gate

    def meanwhile(*args):
        stored("failed", signed_payment(buyer.payer))
        return True

    monkeypatch.setattr(gate, "storable", meanwhile)
    assert settlement_of(buyer.pay("GET", "/tick/"))["success"] is True
    assert sorted(set(flows())) == [("authorization", "failed"), ("authorization", "settled")]


@pytest.mark.parametrize(("shared", "settings_key"), [(True, "_PER_PAYER"), (False, "")])
def test_sixteen_at_once_owe_no_more_than_the_limit(settings, shared, settings_key):
    settings.X402 = {**settings.X402, f"DEFERRED_MAX_EXPOSURE{settings_key}": Decimal("0.05")}
    one = Payer()
    challenge = Client().get("/together/")
    headers = [(one if shared else Payer()).headers_for(challenge) for _ in range(16)]
    gathering[:] = [Barrier(16)]

    def buy(header):
        try:
            return Client().get("/together/", headers=header)
        finally:
            connections.close_all()

    try:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(buy, headers))
    finally:
        gathering.clear()

    assert [answer.status_code for answer in answers] == [200] * 16
    assert flows() == [("authorization", "settled")] * 11 + [("deferred", "verified")] * 5
    assert sum(settlement_of(answer)["success"] for answer in answers) == 11


def test_an_unknown_outcome_does_not_take_back_what_was_delivered(buyer):
    buyer.pay("GET", "/tick/")
    InstantFacilitator.script["settle"] = [SettlementUnknown()]
    assert str(settle_deferred()) == "settled: 0, failed: 0, unknown: 1, waiting: 0"
    again = buyer.get("/tick/", headers=buyer.last_headers)
    assert (again.status_code, again.content) == (200, b"tick 1")
    assert settlement_of(again)["errorReason"] == "settlement_pending"
    assert InstantFacilitator.calls["settle"] == 1


def test_a_deferred_request_costs_two_writes(client, payer):
    headers = payer.headers_for(client.get("/tick/"))
    with CaptureQueriesContext(connection) as context:
        assert client.get("/tick/", headers=headers).status_code == 200
    sent = [sql.split()[0] for sql in statements(context)]
    if connection.vendor == "postgresql":
        # The claim; locks, guard and move in one; and the wait for the disk. No BEGIN, no COMMIT.
        assert sent == ["INSERT", "SET", "SELECT"]
        assert len(context) == 3
    else:
        assert sent == ["INSERT", "UPDATE", "INSERT"]


def test_the_official_client_takes_a_pending_settlement(settings):
    """The SDK reads the header, finds no failure to recover from, and hands the content on."""
    from x402.http.utils import decode_payment_response_header

    response = PayingClient().pay("GET", "/tick/")
    read = decode_payment_response_header(response["PAYMENT-RESPONSE"])
    assert (read.success, read.error_reason) == (False, "settlement_pending")
