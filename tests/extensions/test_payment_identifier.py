"""The extension payment-identifier: one name, one purchase, whatever is lost or sent twice."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.test import override_settings
from x402.extensions.payment_identifier import declare_payment_identifier_extension

from tests.extensions.conftest import NAME, NamingBuyer
from tests.payments.support import ago, snapshot
from tests.shop.runs import runs
from x402_django.exceptions import FacilitatorUnavailable, SettlementFailed, SettlementUnknown
from x402_django.models import Payment, PriceRule
from x402_django.protocol.identifiers import declaration
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer, PayingClient

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.extensions.views")]

PATH = "/plain/"
OTHER = "pay_ffffffffffffffffffffffffffffffff"


def error(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]


def settled() -> int:
    """Payments whose money has moved."""
    return len(InstantFacilitator.settled)


@pytest.mark.parametrize("required", [False, True])
def test_it_is_declared_as_the_sdk_declares_it(naming: NamingBuyer, required: bool) -> None:
    sdk = declare_payment_identifier_extension(required)
    assert json.loads(declaration(required)) == sdk
    path = "/named/" if required else PATH
    assert naming.challenge(path)["extensions"] == {"payment-identifier": sdk}


def test_the_same_payment_again_gets_the_stored_answer(naming: NamingBuyer) -> None:
    payload = naming.sign(PATH)
    first = naming.send(PATH, payload)
    again = naming.send(PATH, payload)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.content == again.content
    assert first["PAYMENT-RESPONSE"] == again["PAYMENT-RESPONSE"]
    assert (runs["plain"], settled(), Payment.objects.count()) == (1, 1, 1)
    assert Payment.objects.get().payment_identifier == NAME


def test_a_lost_answer_never_needs_a_second_payment(naming: NamingBuyer) -> None:
    """Settled and delivered, but the answer never arrived; the buyer signs anew."""
    first = naming.send(PATH, naming.sign(PATH))
    again = naming.send(PATH, naming.sign(PATH))
    assert again.status_code == 200
    assert first.content == again.content
    assert first["PAYMENT-RESPONSE"] == again["PAYMENT-RESPONSE"]
    assert (runs["plain"], settled()) == (1, 1)
    earlier, new = Payment.objects.order_by("pk")
    assert (new.state, new.superseded_by, new.payment_identifier) == ("released", earlier, None)
    assert (earlier.state, earlier.payment_identifier) == ("settled", NAME)
    # And the new one, once more: it is still served from the first.
    third = naming.send(PATH, {**naming.sign(PATH), "payload": new.payload})
    assert (third.status_code, third.content) == (200, first.content)
    assert settled() == 1


def test_an_unknown_outcome_is_not_paid_a_second_time(naming: NamingBuyer) -> None:
    InstantFacilitator.script["settle"] = [SettlementUnknown()]
    assert error(naming.send(PATH, naming.sign(PATH))) == (503, "settlement_outcome_unknown")
    second = naming.send(PATH, naming.sign(PATH))
    assert error(second) == (503, "settlement_outcome_unknown")
    assert settled() == 0
    assert InstantFacilitator.calls["settle"] == 1
    earlier, new = Payment.objects.order_by("pk")
    assert (earlier.state, new.state, new.superseded_by) == ("settling", "released", earlier)


def test_what_is_owed_is_delivered_for_a_new_signature(naming: NamingBuyer) -> None:
    """Paid up front; the view then fails. Each try is a run of the view, and none is a payment."""
    for _ in range(2):
        assert naming.send("/flaky/?fail", naming.sign("/flaky/")).status_code == 500
    assert (runs["flaky"], settled()) == (2, 1)
    assert naming.state().json()["retry"] == "same_payment"


def test_another_request_under_the_same_name_is_a_conflict(naming: NamingBuyer) -> None:
    assert naming.send(PATH, naming.sign(PATH)).status_code == 200
    before = snapshot()
    refused = naming.send(f"{PATH}?other", naming.sign(PATH))
    assert error(refused) == (409, "payment_identifier_used")
    assert "Retry-After" not in refused
    assert "retryable" not in refused.json()
    assert snapshot() == before
    assert (runs["plain"], settled()) == (1, 1)


def test_a_name_whose_answer_is_no_longer_kept_is_a_conflict(naming: NamingBuyer) -> None:
    assert naming.send(PATH, naming.sign(PATH)).status_code == 200
    Payment.objects.update(response_expires_at=ago(1))
    before = snapshot()
    assert error(naming.send(PATH, naming.sign(PATH))) == (409, "payment_identifier_used")
    assert snapshot() == before
    assert naming.send(PATH, naming.sign(PATH), OTHER).status_code == 200  # another copy
    assert (runs["plain"], settled()) == (2, 2)


@pytest.mark.parametrize(
    ("what", "trouble"),
    [("settle", SettlementFailed()), ("settle", FacilitatorUnavailable())],
    ids=["failed", "released"],
)
def test_a_payment_that_came_to_nothing_lets_go_of_its_name(
    naming: NamingBuyer, what: str, trouble: Exception
) -> None:
    InstantFacilitator.script[what] = [trouble]
    old = naming.sign(PATH)
    assert naming.send(PATH, old).status_code in (402, 503)
    assert naming.send(PATH, naming.sign(PATH)).status_code == 200
    first, second = Payment.objects.order_by("pk")
    assert (first.payment_identifier, second.payment_identifier) == (None, NAME)
    assert (second.state, settled()) == ("settled", 1)
    # The old one, arriving late, is not taken beside the new one.
    late = naming.send(PATH, old)
    assert settled() == 1
    if first.state == "released":
        assert (late.status_code, late.json()["by"]) == (200, second.public_id)
    else:
        assert late.status_code == 402


def test_names_are_each_payers_own(naming: NamingBuyer) -> None:
    stranger = NamingBuyer(Payer())
    assert naming.send(PATH, naming.sign(PATH)).status_code == 200
    theirs = stranger.send(PATH, stranger.sign(PATH))
    assert theirs.status_code == 200
    assert (runs["plain"], settled()) == (2, 2)
    assert set(Payment.objects.values_list("payment_identifier", flat=True)) == {NAME}


def test_a_forger_gets_nothing_by_the_name_of_another(naming: NamingBuyer) -> None:
    """The name and the payer's address, but not the payer's key."""
    assert naming.send(PATH, naming.sign(PATH)).status_code == 200
    before = snapshot()
    forger = NamingBuyer(Payer(address=naming.payer.address))
    assert error(forger.send(PATH, forger.sign(PATH))) == (
        402,
        "invalid_exact_evm_payload_signature",
    )
    assert snapshot() == before


@pytest.mark.parametrize("quoted", [NAME, f'"{NAME}"'], ids=["bare", "structured field"])
def test_idempotency_key_is_the_same_thing(naming: NamingBuyer, quoted: str) -> None:
    first = naming.send(PATH, naming.sign(PATH), None, **{"Idempotency-Key": quoted})
    again = naming.send(PATH, naming.sign(PATH), NAME)
    assert (first.status_code, again.content) == (200, first.content)
    assert settled() == 1


def test_version_1_names_by_the_header(payer: Payer) -> None:
    client = PayingClient(payer=payer, version=1)
    key = {"Idempotency-Key": NAME}
    first, again = client.get(PATH, headers=key), client.get(PATH, headers=key)
    assert (first.status_code, again.content) == (200, first.content)
    assert settled() == 1


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("short", {}),
        ("x" * 129, {}),
        (NAME + "\n", {}),
        ("pay_ with spaces and more", {}),
        (4711, {}),
        (None, {"Idempotency-Key": "short"}),
        (NAME, {"Idempotency-Key": OTHER}),
    ],
)
def test_what_is_no_name_is_refused(
    naming: NamingBuyer, name: Any, headers: dict[str, str]
) -> None:
    refused = naming.send(PATH, naming.sign(PATH), name, **headers)
    assert error(refused) == (400, "invalid_payment_identifier")
    assert not Payment.objects.exists()


def test_an_echoed_declaration_names_nothing(naming: NamingBuyer) -> None:
    challenge = naming.challenge(PATH)
    payload = naming.payer.payload(challenge["accepts"][0])
    answer = naming.send(PATH, {**payload, "extensions": challenge["extensions"]}, None)
    assert answer.status_code == 200
    assert Payment.objects.get().payment_identifier is None


def test_a_required_name_that_is_missing(naming: NamingBuyer) -> None:
    payload = naming.sign("/named/")
    assert error(naming.send("/named/", payload, None)) == (400, "payment_identifier_required")
    assert not Payment.objects.exists()
    assert naming.send("/named/", payload).status_code == 200
    assert PayingClient().get("/named/").status_code == 200  # the test kit names by itself
    assert PayingClient(version=1).get("/named/").status_code == 200


def test_a_rule_says_whether_names_are_required(naming: NamingBuyer) -> None:
    PriceRule.objects.create(
        name="strict", price_usd=1, url_names=["plain"], identifier_required=True
    )
    payload = naming.sign(PATH)
    assert error(naming.send(PATH, payload, None)) == (400, "payment_identifier_required")
    with override_settings(X402={**settings.X402, "EXTENSIONS": {"payment-identifier": None}}):
        assert naming.client.get(PATH).status_code == 503
    PriceRule.objects.update(identifier_required=False)


def test_the_setting_requires_names_everywhere_or_turns_them_off(naming: NamingBuyer) -> None:
    required = {"payment-identifier": {"OPTIONS": {"REQUIRED": True}}}
    with override_settings(X402={**settings.X402, "EXTENSIONS": required}):
        payload = naming.sign(PATH)
        assert error(naming.send(PATH, payload, None)) == (400, "payment_identifier_required")
    with override_settings(X402={**settings.X402, "EXTENSIONS": {"payment-identifier": None}}):
        assert "extensions" not in naming.challenge(PATH)
        assert (
            naming.send(PATH, payload, "no name", **{"Idempotency-Key": "any"}).status_code == 200
        )


def test_the_payer_asks_for_its_purchase_by_name(naming: NamingBuyer) -> None:
    assert error(naming.state()) == (404, "payment_unknown")
    InstantFacilitator.script["settle"] = [SettlementUnknown()]
    naming.send(PATH, naming.sign(PATH))
    waiting = naming.state()
    assert waiting.status_code == 200
    assert (waiting.json()["state"], waiting.json()["retry"]) == ("settling", "wait")
    assert "no-store" in waiting["Cache-Control"]

    naming.send(f"{PATH}?two", naming.sign(PATH), OTHER)
    done = naming.state(OTHER, naming.payer.address.lower()).json()
    assert (done["state"], done["paid"], done["retry"]) == ("settled", True, "done")
    assert done["transaction"] == Payment.objects.get(payment_identifier=OTHER).transaction
    # With the payment's id its receipt could be had, which says what was bought.
    assert "payment" not in done
    for payer in (Payer().address, "0x1234", "nobody"):
        assert error(naming.state(OTHER, payer)) == (404, "payment_unknown")


@pytest.mark.django_db(transaction=True)
def test_eight_signatures_at_once_under_one_name_buy_once(naming: NamingBuyer) -> None:
    payloads = [naming.sign(PATH) for _ in range(8)]
    barrier = Barrier(8)

    def send(payload: dict[str, Any]) -> tuple[int, bytes]:
        barrier.wait()
        try:
            answer = NamingBuyer(naming.payer).send(PATH, payload)
            return answer.status_code, answer.content
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, payloads))

    assert {status for status, _ in answers} <= {200, 409}
    assert len({content for status, content in answers if status == 200}) == 1
    assert (runs["plain"], settled()) == (1, 1)
    assert Payment.objects.filter(state="settled").count() == 1
    # Whoever was told to wait is served afterwards.
    assert {naming.send(PATH, payload).status_code for payload in payloads} == {200}
    assert (runs["plain"], settled()) == (1, 1)
