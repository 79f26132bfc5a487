"""The threats that apply to a facilitator, tried."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from django.db import connection

from tests.service import support
from tests.service.support import (
    PRICE,
    SELLER,
    Caller,
    ask,
    balance,
    requirements,
    wait_until,
)
from x402_django.models import ChainTransaction, Payment
from x402_django.testing.chain import dev_chain, new_payer
from x402_django.testing.payer import Payer

OTHER = "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc"


def assert_nothing_moved() -> None:
    assert balance(SELLER) == balance(OTHER) == 0
    assert not ChainTransaction.objects.exists()
    assert not Payment.objects.filter(state__in=("settling", "settled", "final")).exists()


def reason(answer: Any) -> str:
    said = answer.json()
    return str(said.get("invalidReason") or said.get("errorReason") or said["error"])


def authorization(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = body["paymentPayload"]["payload"]["authorization"]
    return found


def test_t03_t04_copies_at_once_settle_once_and_hear_the_same(make_caller: Any) -> None:
    caller, _key = make_caller()
    body = ask()
    answers = at_once(8, lambda: caller.settle(body).json())

    assert len({json.dumps(one, sort_keys=True) for one in answers}) == 1
    assert answers[0]["success"] is True
    assert balance(SELLER) == PRICE
    assert ChainTransaction.objects.count() == 1


def test_t04_a_server_without_a_ledger_grants_once(make_caller: Any) -> None:
    caller, _key = make_caller(succeeds_once=True)
    body = ask()
    answers = at_once(8, lambda: caller.settle(body).json())

    assert sorted(one["success"] for one in answers) == [False] * 7 + [True]
    told = {one.get("errorReason") for one in answers} - {None}
    assert told == {"duplicate_settlement"}
    assert balance(SELLER) == PRICE


def test_t05_another_spelling_is_the_same_payment(caller: Caller) -> None:
    body = ask()
    first = caller.settle(body).json()
    other = json.loads(json.dumps(body))
    for name in ("from", "nonce"):
        value = authorization(other)[name]
        authorization(other)[name] = "0x" + value[2:].upper()
    raw = json.dumps(other, indent=3, sort_keys=True).encode()

    again = caller.settle(raw)

    assert again.json() == first
    assert Payment.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"payTo": OTHER}, "invalid_payment_requirements"),
        ({"amount": "9999"}, "invalid_payment_requirements"),
        ({"network": "eip155:8453"}, "unsupported_asset"),
        ({"network": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"}, "invalid_network"),
        ({"scheme": "streaming"}, "unsupported_scheme"),
        ({"asset": "0x" + "11" * 20}, "unsupported_asset"),
        (
            {"extra": {"name": "USD Coin", "version": "1"}},
            "invalid_exact_evm_token_name_mismatch",
        ),
        (
            {"extra": {"name": "Test Dollar", "version": "9"}},
            "invalid_exact_evm_token_version_mismatch",
        ),
        ({"amount": "0"}, "invalid_payment_requirements"),
    ],
)
def test_t12_what_was_signed_is_not_what_is_asked_for(
    caller: Caller, changes: dict[str, Any], code: str
) -> None:
    body = ask()
    body["paymentRequirements"] = requirements(**changes)
    for answer in (caller.verify(body), caller.settle(body)):
        assert answer.status_code == 200
        assert reason(answer) == code
    assert_nothing_moved()


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("to", OTHER, "invalid_exact_evm_payload_recipient_mismatch"),
        ("value", "20000", "invalid_exact_evm_payload_authorization_value_mismatch"),
        ("validBefore", "1", "invalid_exact_evm_payload_signature"),
        ("from", OTHER, "invalid_exact_evm_payload_signature"),
        ("nonce", "0x" + "12" * 32, "invalid_exact_evm_payload_signature"),
    ],
)
def test_t12_t13_changed_after_it_was_signed(
    caller: Caller, field: str, value: str, code: str
) -> None:
    body = ask()
    authorization(body)[field] = value
    for answer in (caller.verify(body), caller.settle(body)):
        assert reason(answer) == code
    assert_nothing_moved()


@pytest.mark.parametrize("kind", ["another key", "high s", "garbage", "wrong chain"])
def test_t13_forged(caller: Caller, kind: str) -> None:
    body = ask()
    payload = body["paymentPayload"]["payload"]
    if kind == "another key":
        stranger = Payer(new_payer(dev_chain(support.NETWORK), dollars=1))
        payload["signature"] = stranger.sign(requirements(), authorization(body))
    elif kind == "high s":
        raw = bytes.fromhex(payload["signature"][2:])
        order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
        s = order - int.from_bytes(raw[32:64], "big")
        flipped = raw[:32] + s.to_bytes(32, "big") + bytes([55 - raw[64]])
        payload["signature"] = "0x" + flipped.hex()
    elif kind == "garbage":
        payload["signature"] = "0x" + "ab" * 65
    else:
        payer = Payer(new_payer(dev_chain(support.NETWORK), dollars=1))
        authorization(body)["from"] = payer.address
        elsewhere = {**requirements(), "network": "eip155:8453"}
        payload["signature"] = payer.sign(elsewhere, authorization(body))
    for answer in (caller.verify(body), caller.settle(body)):
        assert reason(answer) == "invalid_exact_evm_payload_signature"
    assert_nothing_moved()
    assert not Payment.objects.exists()


def test_t14_expired(caller: Caller) -> None:
    body = ask(validBefore="1700000000")
    verified, settled = caller.verify(body), caller.settle(body)
    code = "invalid_exact_evm_payload_authorization_valid_before"
    assert (reason(verified), reason(settled)) == (code, code)
    assert_nothing_moved()


@pytest.mark.parametrize("endpoint", ["verify", "settle"])
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"x402Version": 2}',
        b'{"x402Version": 2, "paymentPayload": {}, "paymentRequirements": {}}',
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b"\xff\xfe",
        b"[" * 5000,
        b'{"a":' * 5000,
    ],
)
def test_t17_what_is_not_strict_json_is_400(caller: Caller, endpoint: str, raw: bytes) -> None:
    answer = caller.post(endpoint, raw)
    assert answer.status_code == 400
    assert reason(answer) in ("invalid_payload", "invalid_x402_version")
    assert "Traceback" not in answer.content.decode()
    assert_nothing_moved()


def test_t17_two_versions_in_one_request(caller: Caller) -> None:
    body = ask()
    body["x402Version"] = 1
    assert reason(caller.settle(body)) == "invalid_x402_version"
    assert_nothing_moved()


def test_t17_oversize_is_413_and_not_read_further(caller: Caller, settings: Any) -> None:
    body = ask()
    body["padding"] = "x" * 70_000
    for endpoint in ("verify", "settle"):
        answer = caller.post(endpoint, body)
        assert (answer.status_code, reason(answer)) == (413, "request_body_too_large")
    assert_nothing_moved()


@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_only_post_settles(caller: Caller, method: str) -> None:
    answer = getattr(caller._client, method)("/facilitator/settle", headers=caller._headers)
    assert answer.status_code == 405


def test_t19_t24_what_breaks_inside_is_not_told(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    from x402_django.payments.service import settling

    def broken(*args: Any) -> None:
        raise OperationalError("password=hunter2 at 10.0.0.1")

    monkeypatch.setattr(settling, "_new_row", broken)
    answer = caller.settle(ask())

    assert (answer.status_code, reason(answer)) == (503, "settlement_outcome_unknown")
    assert "hunter2" not in answer.content.decode()
    assert_nothing_moved()


def test_t20_gas_that_would_be_wasted_is_not_spent(service: Any, caller: Caller) -> None:
    """Verified while the money was there; gone when it is settled: simulated, and not sent."""
    payer = Payer(new_payer(service, dollars=0.01))
    first, second = ask(payer), ask(payer)
    assert caller.verify(second).json()["isValid"] is True
    assert caller.settle(first).json()["success"] is True

    assert reason(caller.settle(second)) == "insufficient_funds"

    assert ChainTransaction.objects.count() == 1


def test_t21_a_flood_is_turned_away_at_once(
    service: Any, caller: Caller, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from x402_django.payments.service import settling

    settings.X402 = support.x402_settings(SERVICE_MAX_PARALLEL=1)
    entered, leave = threading.Event(), threading.Event()
    original = settling.settle

    def slow(*args: Any) -> Any:
        entered.set()
        leave.wait(20)
        return original(*args)

    monkeypatch.setattr(settling, "settle", slow)
    body, answers = ask(), []
    first = threading.Thread(target=lambda: answers.append(settle_and_close(caller, body)))
    first.start()
    wait_until(entered.is_set)

    second = caller.settle(ask())
    verified = caller.verify(ask())  # is not kept waiting by those that settle

    leave.set()
    first.join()
    assert (second.status_code, second["Retry-After"]) == (503, "2")
    assert verified.json()["isValid"] is True
    assert answers[0]["success"] is True
    assert Payment.objects.count() == 1


def settle_and_close(caller: Caller, body: Any) -> Any:
    try:
        return caller.settle(body).json()
    finally:
        connection.close()


def test_t25_a_signature_read_off_the_chain_opens_nothing(service: Any, caller: Caller) -> None:
    """Settled by somebody else long ago, presented here now."""
    from web3 import Web3

    from x402_django.testing.submission import submit_authorization

    body = ask()
    submit_authorization(Web3(service.provider()), body)
    service.advance_time(60)
    service.mine()

    for answer in (caller.verify(body), caller.settle(body)):
        assert reason(answer) == "invalid_exact_evm_nonce_already_used"
    assert not ChainTransaction.objects.exists()


def test_t25_nor_does_a_forged_copy_of_what_was_settled_here(caller: Caller) -> None:
    body = ask()
    assert caller.settle(body).json()["success"] is True
    body["paymentPayload"]["payload"]["signature"] = "0x" + "ab" * 65

    for answer in (caller.verify(body), caller.settle(body)):
        assert reason(answer) == "invalid_exact_evm_payload_signature"


def at_once(number: int, work: Any) -> list[Any]:
    answers: list[Any] = []
    barrier = threading.Barrier(number)

    def run() -> None:
        try:
            barrier.wait(20)
            answers.append(work())
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == number
    return answers
