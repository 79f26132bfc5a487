"""RemoteFacilitator against a facilitator in every mood: the exact outcome, and the money."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from tests.chain import support
from tests.chain.support import FIRST_ATTEMPT, NETWORK, PRICE, direct, sign
from tests.settings import PAY_TO
from x402_django.chain.devchain import DevChain
from x402_django.chain.evidence import find_settlement
from x402_django.constants import Code
from x402_django.exceptions import (
    FacilitatorUnavailable,
    PaymentRefused,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.facilitators.base import get_facilitator
from x402_django.facilitators.remote import RemoteFacilitator
from x402_django.facilitators.transport import MAX_ANSWER
from x402_django.testing.chain import new_payer
from x402_django.testing.facilitators import HostileFacilitator, Mood


@pytest.fixture
def hostile(chain: DevChain):
    with HostileFacilitator(chain) as facilitator:
        yield facilitator


@pytest.fixture
def remote(hostile: HostileFacilitator, patience: float) -> RemoteFacilitator:
    return client(hostile.url, patience=patience)


def client(url: str, *, patience: float = 20, **options: object) -> RemoteFacilitator:
    timeouts = {"TIMEOUT": patience, "SETTLE_TIMEOUT": patience}
    return RemoteFacilitator("remote", {"URL": url, **timeouts, **options})


# -------------------------------------------------------------------- verifying

NO_ANSWER = [
    Mood.ACCEPTS_THEN_TIMES_OUT,
    Mood.CLOSES_CONNECTION,
    Mood.FAILS_AFTER_SETTLING,
    Mood.HANGS,
    Mood.RATE_LIMITS,
    Mood.REDIRECTS,
    Mood.RETURNS_GARBAGE,
    Mood.WRONG_PAYER,
]


def test_an_honest_facilitator_verifies(chain, hostile, remote) -> None:
    signed = sign(new_payer(chain, 1))
    remote.verify(signed)
    (call,) = hostile.calls_of("verify")
    assert call.body["x402Version"] == 2
    assert call.body["paymentRequirements"] == signed.offer.as_v2()
    assert call.body["paymentPayload"]["payload"] == signed.payload_dict()
    assert chain.dollars(PAY_TO) == 0


def test_an_honest_refusal_keeps_its_reason(chain, remote) -> None:
    with pytest.raises(PaymentRefused) as refused:
        remote.verify(sign(new_payer(chain, 0)))
    assert refused.value.code == Code.INSUFFICIENT_FUNDS


@pytest.mark.parametrize("mood", NO_ANSWER)
def test_without_a_proper_answer_verifying_is_unavailable(chain, hostile, remote, mood) -> None:
    hostile.set_mood(mood)
    with pytest.raises(FacilitatorUnavailable):
        remote.verify(sign(new_payer(chain, 1)))
    assert len(hostile.calls_of("verify")) == 1
    assert hostile.calls_of("elsewhere") == []
    assert chain.dollars(PAY_TO) == 0


@pytest.mark.parametrize(
    ("reason", "outcome", "code"),
    [
        ("invalid_exact_evm_insufficient_balance", PaymentRefused, Code.INSUFFICIENT_FUNDS),
        ("invalid_exact_evm_payload_signature", PaymentRefused, Code.INVALID_SIGNATURE),
        ("invalid_exact_evm_nonce_already_used", PaymentRefused, Code.NONCE_USED),
        ("<script>alert(1)</script>", PaymentRefused, Code.INVALID_REQUIREMENTS),
        ("x" * 101, PaymentRefused, Code.INVALID_REQUIREMENTS),
        (None, PaymentRefused, Code.INVALID_REQUIREMENTS),
        ("unexpected_verify_error", FacilitatorUnavailable, Code.UNAVAILABLE),
    ],
)
def test_reasons_of_refusals(chain, hostile, remote, monkeypatch, reason, outcome, code) -> None:
    from x402_django.testing import facilitators

    hostile.set_mood(Mood.REFUSES)
    invalid = facilitators._invalid
    monkeypatch.setattr(facilitators, "_invalid", lambda _, payer: invalid(reason, payer))
    with pytest.raises(outcome) as refused:
        remote.verify(sign(new_payer(chain, 1)))
    assert refused.value.code == code


# --------------------------------------------------------------------- settling


def test_an_honest_facilitator_settles(chain, hostile, remote) -> None:
    signed = sign(new_payer(chain, 1))
    settlement = remote.settle(signed, FIRST_ATTEMPT)
    assert chain.dollars(PAY_TO) == PRICE
    evidence = find_settlement(signed, transaction=settlement.transaction)
    assert evidence is not None
    assert evidence.transaction == settlement.transaction
    assert settlement.block_number is None


@pytest.mark.parametrize(
    ("mood", "moved"),
    [
        (Mood.ACCEPTS_THEN_TIMES_OUT, PRICE),
        (Mood.CLOSES_CONNECTION, 0),
        (Mood.FAILS_AFTER_SETTLING, PRICE),
        (Mood.HANGS, 0),
        (Mood.RATE_LIMITS, 0),
        (Mood.REDIRECTS, 0),
        (Mood.RETURNS_GARBAGE, 0),
        (Mood.WRONG_PAYER, PRICE),
    ],
)
def test_without_a_proper_answer_settling_is_unknown(chain, hostile, remote, mood, moved) -> None:
    hostile.set_mood(mood)
    signed = sign(new_payer(chain, 1))
    with pytest.raises(SettlementUnknown):
        remote.settle(signed, FIRST_ATTEMPT)
    assert len(hostile.calls_of("settle")) == 1
    assert hostile.calls_of("elsewhere") == []
    assert chain.dollars(PAY_TO) == moved
    assert (find_settlement(signed) is not None) == (moved > 0)


@pytest.mark.parametrize("mood", [Mood.LIES_ABOUT_SUCCESS, Mood.LIES_WITH_FOREIGN_HASH])
def test_a_lie_about_success_proves_nothing(chain, hostile, remote, mood) -> None:
    hostile.set_mood(mood)
    hostile.foreign_hash = chain.mint(PAY_TO, PRICE)
    signed = sign(new_payer(chain, 1))
    settlement = remote.settle(signed, FIRST_ATTEMPT)
    assert not remote.trusted
    assert find_settlement(signed, transaction=settlement.transaction) is None


def test_a_lie_about_failure_is_found_on_the_chain(chain, hostile, remote) -> None:
    hostile.set_mood(Mood.LIES_ABOUT_FAILURE)
    signed = sign(new_payer(chain, 1))
    with pytest.raises(SettlementFailed):
        remote.settle(signed, FIRST_ATTEMPT)
    assert find_settlement(signed) is not None


def test_a_proper_refusal_is_a_failure(chain, hostile, remote) -> None:
    hostile.set_mood(Mood.REFUSES)
    with pytest.raises(SettlementFailed) as failed:
        remote.settle(sign(new_payer(chain, 1)), FIRST_ATTEMPT)
    assert failed.value.code == Code.INSUFFICIENT_FUNDS
    assert chain.dollars(PAY_TO) == 0


def test_a_used_authorization_is_unknown_not_failed(chain, remote) -> None:
    signed = sign(new_payer(chain, 1))
    remote.settle(signed, FIRST_ATTEMPT)
    with pytest.raises(SettlementUnknown):
        remote.settle(signed, FIRST_ATTEMPT)
    assert chain.dollars(PAY_TO) == PRICE


@pytest.mark.parametrize(
    ("changes", "outcome", "transaction"),
    [
        ({"errorReason": "settlement_pending"}, SettlementUnknown, ""),
        ({"errorReason": "unexpected_settle_error"}, SettlementUnknown, ""),
        ({"errorReason": "transaction_failed"}, SettlementUnknown, ""),
        ({"errorReason": None}, SettlementUnknown, ""),
        ({"errorReason": "insufficient_funds"}, SettlementFailed, ""),
        (
            {"errorReason": "insufficient_funds", "transaction": "0x" + "AB" * 32},
            SettlementUnknown,
            "0x" + "ab" * 32,
        ),
        ({"success": True, "transaction": "0x12"}, SettlementUnknown, ""),
        ({"success": True, "transaction": "' OR 1=1"}, SettlementUnknown, ""),
        (
            {"success": True, "transaction": "0x" + "ab" * 32, "network": "eip155:1"},
            SettlementUnknown,
            "0x" + "ab" * 32,
        ),
    ],
)
def test_answers_to_settle(chain, hostile, remote, monkeypatch, changes, outcome, transaction):
    from x402_django.testing import facilitators

    hostile.set_mood(Mood.REFUSES)
    refuse = facilitators._failed

    def answer(reason, settled):
        refused = refuse(reason, settled)
        return facilitators._Answer(200, {**refused.body, **changes})

    monkeypatch.setattr(facilitators, "_failed", answer)
    with pytest.raises(outcome) as raised:
        remote.settle(sign(new_payer(chain, 1)), FIRST_ATTEMPT)
    assert raised.value.transaction == transaction


def test_nobody_there_means_nothing_was_sent(chain) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        remote = client(f"http://127.0.0.1:{unused.getsockname()[1]}", patience=1)
        signed = sign(new_payer(chain, 1))
        with pytest.raises(FacilitatorUnavailable):
            remote.settle(signed, FIRST_ATTEMPT)
        with pytest.raises(FacilitatorUnavailable):
            remote.verify(signed)
    with pytest.raises(FacilitatorUnavailable):
        client("http://no-such-host.invalid", patience=1).settle(signed, FIRST_ATTEMPT)


def test_no_tls_means_nothing_was_sent(chain, hostile) -> None:
    remote = client(hostile.url.replace("http://", "https://"), patience=1)
    with pytest.raises(FacilitatorUnavailable):
        remote.settle(sign(new_payer(chain, 1)), FIRST_ATTEMPT)
    assert hostile.calls == []


# ------------------------------------------------- bounds of an answer, and secrets


def raw_server(*pieces: bytes, pause: float = 0.0) -> str:
    """Answers one request with ``pieces``, a pause before each."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(65536)
            try:
                for piece in pieces:
                    time.sleep(pause)
                    connection.sendall(piece)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "url",
    [
        lambda: raw_server(HEAD + b"\r\n" + b" " * (MAX_ANSWER + 1)),
        lambda: raw_server(HEAD + b"Content-Encoding: gzip\r\n\r\n", b"\x1f\x8b"),
        lambda: raw_server(HEAD + b"\r\n", *([b" "] * 50), pause=0.05),
    ],
    ids=["endless", "compressed", "dripping"],
)
def test_an_answer_without_bounds_is_cut_off(chain, url) -> None:
    with pytest.raises(SettlementUnknown):  # it ends, though the answer would not
        client(url(), patience=0.5).settle(sign(new_payer(chain, 1)), FIRST_ATTEMPT)


def headers() -> dict:
    return {
        "verify": {"Authorization": "Bearer verify-secret"},
        "settle": {"Authorization": "Bearer settle-secret"},
        "supported": {"Authorization": "Bearer supported-secret"},
    }


class Provider:
    def get_auth_headers(self):
        from x402.http import AuthHeaders

        return AuthHeaders(**headers())


def broken() -> dict:
    raise RuntimeError("Bearer settle-secret has expired")


@pytest.mark.parametrize("source", ["headers", "Provider"])
def test_each_endpoint_gets_its_own_credentials(chain, hostile, caplog, source) -> None:
    caplog.set_level("DEBUG")
    remote = client(hostile.url, AUTH=f"{__name__}.{source}")
    signed = sign(new_payer(chain, 1))
    remote.verify(signed)
    remote.settle(signed, FIRST_ATTEMPT)
    remote.supported()
    for endpoint in ("verify", "settle", "supported"):
        (call,) = hostile.calls_of(endpoint)
        assert call.headers["Authorization"] == f"Bearer {endpoint}-secret"
    assert "secret" not in caplog.text


def test_without_credentials_nothing_is_sent(chain, hostile, caplog) -> None:
    remote = client(hostile.url, AUTH=f"{__name__}.broken")
    with pytest.raises(FacilitatorUnavailable) as unavailable:
        remote.settle(sign(new_payer(chain, 1)), FIRST_ATTEMPT)
    assert hostile.calls == []
    assert "secret" not in caplog.text + str(unavailable.value)
    assert unavailable.value.__cause__ is None


@pytest.mark.parametrize("mood", list(Mood))
def test_signatures_reach_no_log(chain, hostile, remote, caplog, mood) -> None:
    caplog.set_level("DEBUG", logger="x402_django")
    caplog.set_level("INFO")
    hostile.set_mood(mood)
    signed = sign(new_payer(chain, 1))
    with contextlib.suppress(SettlementUnknown, SettlementFailed):
        remote.settle(signed, FIRST_ATTEMPT)
    assert signed.signature.hex() not in caplog.text


# -------------------------------------------------------------- what it says of itself


def test_supported(hostile, remote) -> None:
    assert remote.supported() == {("exact", NETWORK)}
    assert remote.supports(NETWORK, "exact")
    assert not remote.supports("eip155:1", "exact")
    assert len(hostile.calls_of("supported")) == 1
    hostile.set_mood(Mood.RETURNS_GARBAGE)
    assert remote.supported() == {("exact", NETWORK)}
    with pytest.raises(FacilitatorUnavailable):
        client(hostile.url).supported()


def test_configured_by_alias_and_trusted_only_on_demand(settings, chain, hostile) -> None:
    backend = "x402_django.facilitators.RemoteFacilitator"
    settings.X402 = {
        **support.x402_settings(),
        "FACILITATORS": {
            "plain": {"BACKEND": backend, "OPTIONS": {"URL": hostile.url, "SETTLE_TIMEOUT": 20}},
            "trusted": {"BACKEND": backend, "OPTIONS": {"URL": hostile.url, "TRUST": True}},
        },
    }
    assert not get_facilitator("plain").trusted
    assert get_facilitator("trusted").trusted
    signed = sign(new_payer(chain, 1))
    get_facilitator("plain").settle(signed, FIRST_ATTEMPT)
    assert find_settlement(signed) is not None
    assert direct().eth.block_number > 0


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"URL": "https://facilitator.example"}, []),
        ({"URL": "http://127.0.0.1:4021"}, []),
        ({}, ["x402_django.E031"]),
        ({"URL": "ftp://facilitator.example"}, ["x402_django.E031"]),
        ({"URL": "http://facilitator.example"}, ["x402_django.W031"]),
        ({"URL": "https://x402.org/facilitator"}, ["x402_django.W032"]),
        ({"URL": "https://www.x402.org/facilitator"}, []),
        ({"URL": "https://facilitator.example", "TIMEOUT": 0.5, "SUPPORTED_TTL": 60}, []),
        ({"URL": "https://facilitator.example", "TIMEOUT": "5"}, ["x402_django.E035"]),
        ({"URL": "https://facilitator.example", "SUPPORTED_TTL": 0}, ["x402_django.E035"]),
        ({"URL": "https://facilitator.example", "TIMOUT": 3}, ["x402_django.E030"]),
        ({"URL": "https://facilitator.example", "AUTH": "no.such.thing"}, ["x402_django.E032"]),
    ],
)
def test_checks(options, ids) -> None:
    assert [message.id for message in RemoteFacilitator("remote", options).check()] == ids
