"""Notices about the chain: whose they are, and what they wake."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.test import Client

from tests.payments.support import ago, stored
from x402_django import clock
from x402_django.checks import check_chain_webhooks
from x402_django.models import ChainNotice, Payment
from x402_django.tasks import release_stale_claims

SECRET = "whsec_test"
WEBHOOKS = {
    "alchemy": {"PROVIDER": "alchemy", "SECRET_ENV": "ALCHEMY_SIGNING_KEY"},
    "base": {"PROVIDER": "cdp", "SECRET_ENV": "CDP_WEBHOOK_SECRET"},
}
HASH = "0x" + "ab" * 32

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _site(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.X402 = {**settings.X402, "CHAIN_WEBHOOKS": WEBHOOKS}
    for variable in ("ALCHEMY_SIGNING_KEY", "CDP_WEBHOOK_SECRET"):
        monkeypatch.setenv(variable, SECRET)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was put into the broker."""
    tasks: list[Any] = []

    def send(name: str, args: Any, **options: Any) -> None:
        tasks.append((name, *args))

    monkeypatch.setattr(current_app, "send_task", send)
    return tasks


def sign(content: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()


def alchemy(
    *activity: Mapping[str, Any], age: timedelta = timedelta(0), secret: str = SECRET
) -> tuple[str, bytes, dict[str, str]]:
    """As in Alchemy's documentation: name of the webhook, body, headers."""
    document = {
        "webhookId": "wh_k63lg72rxda78gce",
        "id": "whevt_vq499kv7elmlbp2v",
        "createdAt": (clock.now() - age).isoformat().replace("+00:00", "Z"),
        "type": "ADDRESS_ACTIVITY",
        "event": {"network": "BASE_SEPOLIA", "activity": list(activity)},
    }
    body = json.dumps(document).encode()
    return "alchemy", body, {"X-Alchemy-Signature": sign(body, secret)}


def activity(transaction: str = HASH, **more: Any) -> dict[str, Any]:
    return {"blockNum": "0xdf34a3", "hash": transaction, "value": 0.01, "asset": "USDC", **more}


def cdp(
    document: Mapping[str, Any],
    *,
    scheme: str = "v0",
    age: timedelta = timedelta(0),
    secret: str = SECRET,
) -> tuple[str, bytes, dict[str, str]]:
    """As in Coinbase's documentation."""
    body = json.dumps(document).encode()
    time = str(int((clock.now() - age).timestamp()))
    names, values = "content-type x-event-id", "application/json.evt_1"
    v0 = sign(f"{time}.".encode() + body, secret)
    v1 = sign(f"{time}.{names}.{values}.".encode() + body, secret)
    header = {
        "v0": f"t={time},v0={v0},h={names},v1={v1}",
        "v1": f"t={time},h={names},v1={v1}",
    }[scheme]
    return "base", body, {"X-Hook0-Signature": header, "X-Event-Id": "evt_1"}


FLAT = {"network": "base-mainnet", "transaction_hash": HASH, "event_name": "Transfer"}
NESTED = {"eventType": "wallet.activity.detected", "data": {"transactionHash": HASH}}


def post(notice: tuple[str, bytes, dict[str, str]]) -> Any:
    name, body, headers = notice
    return Client(raise_request_exception=False).post(
        f"/x402/webhooks/{name}/", body, content_type="application/json", headers=headers
    )


def unknown_payment(**changes: Any) -> Payment:
    """Settling, outcome unknown, with a hash that a facilitator named."""
    values = {"outcome_unknown_at": ago(1), "state_changed_at": ago(1), "transaction": HASH}
    return stored("settling", **{**values, **changes})


@pytest.mark.parametrize(
    "notice",
    [
        lambda: alchemy(activity()),
        lambda: alchemy(activity("0x" + "AB" * 32)),
        lambda: cdp(FLAT),
        lambda: cdp(FLAT, scheme="v1"),
        lambda: cdp(NESTED),
    ],
)
def test_a_good_notice_wakes_the_payment_it_names(sent: list[Any], notice: Any) -> None:
    payment = unknown_payment()
    stored("settling", transaction="0x" + "cd" * 32)

    answer = post(notice())

    assert (answer.status_code, answer.json()) == (200, {"status": "taken", "payments": 1})
    assert sent == [("x402_django.look_at_payments", [payment.pk])]
    payment.refresh_from_db()
    assert payment.state == "settling"  # it says where to look, not what is there


def test_a_payment_without_a_hash_is_known_by_its_parties(sent: list[Any]) -> None:
    payment = unknown_payment(transaction="")
    parties = {"fromAddress": payment.payer.lower(), "toAddress": payment.pay_to.lower()}

    post(alchemy(activity("0x" + "11" * 32, **parties)))

    assert sent == [("x402_django.look_at_payments", [payment.pk])]


def test_what_concerns_nobody_wakes_nobody(sent: list[Any]) -> None:
    stored("final", transaction=HASH)
    answer = post(alchemy(activity(), activity("0x" + "22" * 32)))
    assert answer.json() == {"status": "taken", "payments": 0}
    assert sent == []


def test_the_same_notice_again_is_known(sent: list[Any]) -> None:
    unknown_payment()
    notice = alchemy(activity())
    assert post(notice).json()["status"] == "taken"
    for _ in range(3):
        again = post(notice)
        assert (again.status_code, again.json()) == (200, {"status": "known"})
    assert len(sent) == 1


def unsigned(notice: tuple[str, bytes, dict[str, str]]) -> tuple[str, bytes, dict[str, str]]:
    return notice[0], notice[1], {}


def changed(notice: tuple[str, bytes, dict[str, str]]) -> tuple[str, bytes, dict[str, str]]:
    return notice[0], notice[1].replace(b"ab", b"ac", 1), notice[2]


def with_header(notice: Any, **headers: str) -> Any:
    return notice[0], notice[1], {name.replace("_", "-"): h for name, h in headers.items()}


@pytest.mark.parametrize(
    "notice",
    [
        lambda: unsigned(alchemy(activity())),
        lambda: changed(alchemy(activity())),
        lambda: alchemy(activity(), secret="another"),
        lambda: with_header(alchemy(activity()), X_Alchemy_Signature="sha256=" + "0" * 64),
        lambda: with_header(alchemy(activity()), X_Alchemy_Signature="é" * 64),
        lambda: alchemy(activity(), age=timedelta(hours=25)),
        lambda: alchemy(activity(), age=timedelta(minutes=-10)),
        lambda: unsigned(cdp(FLAT)),
        lambda: changed(cdp(FLAT)),
        lambda: changed(cdp(FLAT, scheme="v1")),
        lambda: cdp(FLAT, secret="another"),
        lambda: cdp(FLAT, age=timedelta(minutes=6)),
        lambda: cdp(FLAT, age=timedelta(minutes=-6)),
        lambda: with_header(cdp(FLAT), X_Hook0_Signature="t=1,v0="),
        lambda: with_header(cdp(FLAT), X_Hook0_Signature=",,=,t"),
        # The headers that v1 binds were changed on the way.
        lambda: with_header(
            cdp(FLAT, scheme="v1"),
            X_Hook0_Signature=cdp(FLAT, scheme="v1")[2]["X-Hook0-Signature"],
            X_Event_Id="evt_2",
        ),
    ],
)
def test_a_forged_or_old_notice_is_refused(sent: list[Any], notice: Any) -> None:
    unknown_payment()
    answer = post(notice())
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_notice")
    assert sent == []
    assert not ChainNotice.objects.exists()


def test_a_time_that_is_not_signed_cannot_be_moved(sent: list[Any]) -> None:
    name, body, headers = cdp(FLAT, age=timedelta(hours=1))
    then, now = (str(int((clock.now() - age).timestamp())) for age in (timedelta(hours=1), ago0()))
    header = headers["X-Hook0-Signature"].replace(f"t={then}", f"t={now}")
    assert post((name, body, {**headers, "X-Hook0-Signature": header})).status_code == 401


def ago0() -> timedelta:
    return timedelta(0)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a": 1, "a": 2}', b"\xff", b'{"a":' * 9999])
def test_a_signed_body_that_is_no_notice(sent: list[Any], body: bytes) -> None:
    answer = post(("alchemy", body, {"X-Alchemy-Signature": sign(body)}))
    assert answer.status_code == 400
    assert not ChainNotice.objects.exists()


@pytest.mark.parametrize(
    "event", [None, [], {"activity": "x"}, {"activity": [1, {"hash": 7}, {"hash": "0x12"}]}]
)
def test_a_notice_of_another_form_names_nothing(sent: list[Any], event: Any) -> None:
    document = {"createdAt": clock.now().isoformat(), "event": event}
    body = json.dumps(document).encode()
    answer = post(("alchemy", body, {"X-Alchemy-Signature": sign(body)}))
    assert answer.json() == {"status": "taken", "payments": 0}


def test_oversize_unknown_and_other_methods(sent: list[Any]) -> None:
    big = b"x" * (512 * 1024 + 1)
    assert post(("alchemy", big, {"X-Alchemy-Signature": sign(big)})).status_code == 413
    assert post(("nobody", b"{}", {})).status_code == 404
    assert Client().get("/x402/webhooks/alchemy/").status_code == 405


def test_a_broker_that_is_down_is_503_and_the_notice_may_come_again(
    monkeypatch: pytest.MonkeyPatch, sent: list[Any]
) -> None:
    payment, notice = unknown_payment(), alchemy(activity())
    working = current_app.send_task

    def broken(*args: Any, **options: Any) -> None:
        raise ConnectionError("amqp://user:password@broker")

    monkeypatch.setattr(current_app, "send_task", broken)
    answer = post(notice)
    assert answer.status_code == 503
    assert "password" not in answer.content.decode()

    monkeypatch.setattr(current_app, "send_task", working)
    assert post(notice).json() == {"status": "taken", "payments": 1}
    assert sent == [("x402_django.look_at_payments", [payment.pk])]


def test_without_a_secret_everything_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALCHEMY_SIGNING_KEY")
    body = alchemy(activity(), secret="")[1]
    assert post(("alchemy", body, {"X-Alchemy-Signature": sign(body, "")})).status_code == 503


def test_notices_are_forgotten_when_they_are_too_old_to_be_believed(sent: list[Any]) -> None:
    post(alchemy(activity()))
    with clock.shifted(timedelta(days=2)):
        release_stale_claims()
        assert ChainNotice.objects.count() == 1
    with clock.shifted(timedelta(days=4)):
        release_stale_claims()
        assert not ChainNotice.objects.exists()


@pytest.mark.parametrize(
    ("webhooks", "expected"),
    [
        (WEBHOOKS, []),
        ({}, []),
        ([], ["E060"]),
        ({"a": {"PROVIDER": "alchemy"}}, ["E060"]),
        ({"a": {"PROVIDER": "infura", "SECRET_ENV": "X"}}, ["E060"]),
        ({"a": {"PROVIDER": "cdp", "SECRET_ENV": "SURELY_NOT_SET"}}, ["W060"]),
    ],
)
def test_checks(settings: Any, webhooks: Any, expected: list[str]) -> None:
    settings.X402 = {**settings.X402, "CHAIN_WEBHOOKS": webhooks}
    found = [str(message.id).removeprefix("x402_django.") for message in check_chain_webhooks()]
    assert found == expected
