"""The presets against what each service documents: answers, headers, and keys that stay secret."""

from __future__ import annotations

import base64
import contextlib
import json
import uuid
from datetime import timedelta

import pytest
from Crypto.Hash import SHA256
from Crypto.Signature import DSS, eddsa

from tests.chain.support import FIRST_ATTEMPT
from tests.facilitators.recordings import RecordedService, load
from tests.facilitators.test_tokens import ED25519_PUBLIC, ED25519_SECRET, P256, PKCS8, b64url
from tests.payments.support import offer, signed_payment
from x402_django import clock
from x402_django.constants import Code
from x402_django.exceptions import (
    FacilitatorUnavailable,
    PaymentRefused,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.facilitators.presets import (
    CDPFacilitator,
    PayAIFacilitator,
    ThirdwebFacilitator,
    X402OrgFacilitator,
)
from x402_django.facilitators.remote import RemoteFacilitator

P256_SECRET = P256.export_key(format="PEM")
SPECIFICATION_HASH = "0x" + "1234567890abcdef" * 4
CDP_HASH = "0x89c91c789e57059b17285e7ba1716a1f5ff4c5dace0ea5a5135f26158d0421b9"
KEY_ID = "organizations/11111111-2222-3333-4444-555555555555/apiKeys/1"
PREFIX = "/platform/v2/x402"

SERVICES = {
    "x402_org": X402OrgFacilitator,
    "cdp": CDPFacilitator,
    "thirdweb": ThirdwebFacilitator,
    "payai": PayAIFacilitator,
    "any": RemoteFacilitator,
}


@pytest.fixture(autouse=True)
def keys(monkeypatch) -> None:
    for name in ("PAYAI_API_KEY_ID", "PAYAI_API_KEY_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CDP_API_KEY_ID", KEY_ID)
    monkeypatch.setenv("CDP_API_KEY_SECRET", ED25519_SECRET)
    monkeypatch.setenv("THIRDWEB_SECRET_KEY", "very-secret")


@pytest.fixture(params=SERVICES)
def name(request) -> str:
    return str(request.param)


@pytest.fixture
def service(name):
    with RecordedService(load("x402_org" if name == "any" else name), PREFIX) as running:
        yield running


@pytest.fixture
def facilitator(name, service) -> RemoteFacilitator:
    return SERVICES[name](name, {"URL": service.url})


@pytest.fixture
def signed(service):
    return signed_payment(of=offer(network=service.recording["network"]))


# ------------------------------------------------------------------ recorded answers


def test_a_valid_payment_is_verified_and_settled(name, service, facilitator, signed) -> None:
    facilitator.verify(signed)
    settlement = facilitator.settle(signed, FIRST_ATTEMPT)
    assert settlement.transaction == (CDP_HASH if name == "cdp" else SPECIFICATION_HASH)
    assert [call[0] for call in service.calls] == [f"POST {PREFIX}/verify", f"POST {PREFIX}/settle"]


def test_a_refusal_keeps_its_reason_whatever_its_status(service, facilitator, signed) -> None:
    service.cases.update(verify="refused", settle="refused")
    with pytest.raises(PaymentRefused) as refused:
        facilitator.verify(signed)
    assert refused.value.code == Code.INSUFFICIENT_FUNDS
    with pytest.raises(SettlementFailed) as failed:
        facilitator.settle(signed, FIRST_ATTEMPT)
    assert (failed.value.code, failed.value.transaction) == (Code.INSUFFICIENT_FUNDS, "")


TROUBLE = [
    (service, endpoint, case)
    for service in ("x402_org", "cdp", "thirdweb", "payai")
    for endpoint in ("verify", "settle")
    for case in load(service)[endpoint]
    if case not in ("valid", "settled", "refused")
]


@pytest.mark.parametrize(("name", "endpoint", "case"), TROUBLE, indirect=["name"])
def test_trouble_of_theirs_is_never_blamed_on_the_payer(
    service, facilitator, signed, endpoint, case
) -> None:
    service.cases[endpoint] = case
    if endpoint == "verify":
        with pytest.raises(FacilitatorUnavailable):
            facilitator.verify(signed)
        return
    with pytest.raises(SettlementUnknown) as unknown:
        facilitator.settle(signed, FIRST_ATTEMPT)
    assert unknown.value.transaction == (CDP_HASH if case == "pending" else "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x402_org", {("exact", "eip155:84532"), ("upto", "eip155:84532")}),
        ("any", {("exact", "eip155:84532"), ("upto", "eip155:84532")}),
        (
            "cdp",
            {("exact", f"eip155:{chain}") for chain in (8453, 84532, 137)}
            | {("upto", "eip155:8453")},
        ),
        ("thirdweb", {("exact", "eip155:84532"), ("exact", "eip155:421614")}),
        ("payai", {("exact", f"eip155:{chain}") for chain in (84532, 8453, 43113, 43114)}),
    ],
    indirect=["name"],
)
def test_supported(service, facilitator, expected) -> None:
    evm = {kind for kind in facilitator.supported() if kind[1].startswith("eip155:")}
    assert evm == expected
    facilitator.supported()
    assert [call[0] for call in service.calls] == [f"GET {PREFIX}/supported"]


def test_what_is_sent_is_our_offer(name, service, facilitator, signed) -> None:
    facilitator.verify(signed)
    body = service.calls[0][2]
    assert body["paymentPayload"]["payload"] == signed.payload_dict()
    if name != "thirdweb":
        assert (body["x402Version"], body["paymentPayload"]["x402Version"]) == (2, 2)
        assert body["paymentRequirements"] == signed.offer.as_v2()
        return
    assert (body["x402Version"], body["paymentPayload"]["x402Version"]) == (1, 1)
    assert body["paymentPayload"]["network"] == "eip155:84532"
    assert body["paymentRequirements"] == {
        "scheme": "exact",
        "network": "eip155:84532",
        "maxAmountRequired": "10000",
        "resource": signed.resource_url,
        "description": "",
        "mimeType": "",
        "payTo": signed.offer.pay_to,
        "maxTimeoutSeconds": 300,
        "asset": signed.offer.asset,
        "extra": {"name": "USDC", "version": "2"},
    }


# ------------------------------------------------------------------- who we say we are


def token_of(call) -> tuple[dict, dict, bytes, bytes]:
    scheme, _, token = call[1]["Authorization"].partition(" ")
    assert scheme == "Bearer"
    header, claims, signature = token.split(".")
    content = f"{header}.{claims}".encode()
    return json.loads(b64url(header)), json.loads(b64url(claims)), content, b64url(signature)


def assert_signed_by_us(algorithm: str, content: bytes, signature: bytes) -> None:
    if algorithm == "EdDSA":
        eddsa.new(eddsa.import_public_key(ED25519_PUBLIC), "rfc8032").verify(content, signature)
    else:
        verifier = DSS.new(P256.public_key(), "fips-186-3")
        verifier.verify(SHA256.new(content), signature)


@pytest.mark.parametrize("name", ["cdp"], indirect=True)
@pytest.mark.parametrize(
    ("secret", "algorithm"),
    [
        (ED25519_SECRET, "EdDSA"),
        (P256_SECRET, "ES256"),
        (P256_SECRET.replace("\n", "\\n"), "ES256"),
    ],
)
def test_coinbase_gets_a_token_for_each_request(
    monkeypatch, service, facilitator, signed, secret, algorithm
) -> None:
    monkeypatch.setenv("CDP_API_KEY_SECRET", secret)
    before = clock.timestamp()
    facilitator.verify(signed)
    facilitator.settle(signed, FIRST_ATTEMPT)
    facilitator.supported()
    nonces = set()
    for call in service.calls:
        header, claims, content, signature = token_of(call)
        assert_signed_by_us(algorithm, content, signature)
        nonces.add(header.pop("nonce"))
        assert header == {"alg": algorithm, "kid": KEY_ID, "typ": "JWT"}
        method, path = call[0].split()
        assert before <= claims["nbf"] <= clock.timestamp()
        assert claims == {
            "sub": KEY_ID,
            "iss": "cdp",
            "nbf": claims["nbf"],
            "exp": claims["nbf"] + 120,
            "uris": [f"{method} {service.host}{path}"],
        }
    assert len(nonces) == 3
    assert all(len(nonce) == 32 for nonce in nonces)


def test_the_addresses_that_coinbase_knows() -> None:
    headers = CDPFacilitator("cdp", {}).headers("POST", "settle")
    _, claims, _, _ = token_of(("", headers))
    assert claims["uris"] == ["POST api.cdp.coinbase.com/platform/v2/x402/settle"]


def test_tokens_have_the_time_of_our_clock() -> None:
    with clock.shifted(timedelta(hours=1)):
        _, claims, _, _ = token_of(("", CDPFacilitator("cdp", {}).headers("POST", "verify")))
        assert 0 <= clock.timestamp() - claims["nbf"] <= 1


@pytest.mark.parametrize("name", ["thirdweb"], indirect=True)
def test_thirdweb_gets_the_secret_key(monkeypatch, service, signed) -> None:
    monkeypatch.setenv("VAULT", "vault-token")
    options = {"URL": service.url, "VAULT_ACCESS_TOKEN_ENV": "VAULT"}
    facilitator = ThirdwebFacilitator("thirdweb", options)
    facilitator.verify(signed)
    facilitator.settle(signed, FIRST_ATTEMPT)
    facilitator.supported()
    sent = [
        (headers["x-secret-key"], headers.get("x-vault-access-token"))
        for _, headers, _ in service.calls
    ]
    assert sent == [("very-secret", None), ("very-secret", "vault-token"), ("very-secret", None)]


@pytest.mark.parametrize("name", ["payai"], indirect=True)
def test_payai_needs_no_key_and_takes_one(monkeypatch, service, facilitator, signed) -> None:
    facilitator.verify(signed)
    monkeypatch.setenv("PAYAI_API_KEY_ID", "merchant-1")
    monkeypatch.setenv("PAYAI_API_KEY_SECRET", "payai_sk_" + base64.b64encode(PKCS8).decode())
    facilitator.settle(signed, FIRST_ATTEMPT)
    assert "Authorization" not in service.calls[0][1]
    header, claims, content, signature = token_of(service.calls[1])
    assert_signed_by_us("EdDSA", content, signature)
    assert header == {"alg": "EdDSA", "typ": "JWT", "kid": "merchant-1"}
    assert uuid.UUID(claims.pop("jti")).version == 4
    issued = claims["iat"]
    assert claims == {
        "sub": "merchant-1",
        "iss": "payai-merchant",
        "iat": issued,
        "exp": issued + 120,
    }


@pytest.mark.parametrize("name", ["cdp", "thirdweb", "payai"], indirect=True)
def test_without_a_key_nothing_is_sent(
    monkeypatch, caplog, name, service, facilitator, signed
) -> None:
    monkeypatch.delenv("CDP_API_KEY_SECRET")
    monkeypatch.delenv("THIRDWEB_SECRET_KEY")
    monkeypatch.setenv("PAYAI_API_KEY_ID", "half a key")
    missing = {
        "cdp": "CDP_API_KEY_SECRET",
        "thirdweb": "THIRDWEB_SECRET_KEY",
        "payai": "PAYAI_API_KEY_SECRET",
    }[name]
    with pytest.raises(FacilitatorUnavailable):
        facilitator.verify(signed)
    with pytest.raises(FacilitatorUnavailable):
        facilitator.settle(signed, FIRST_ATTEMPT)
    with pytest.raises(FacilitatorUnavailable):
        facilitator.supported()
    assert service.calls == []
    assert f"The environment variable {missing} is not set." in caplog.text


@pytest.mark.parametrize("secret", [ED25519_SECRET, P256_SECRET])
def test_keys_are_in_no_log_and_no_representation(monkeypatch, caplog, secret) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("CDP_API_KEY_SECRET", secret)
    signed = signed_payment(of=offer(network="eip155:8453"))
    with RecordedService(load("cdp")) as service:
        facilitator = CDPFacilitator("cdp", {"URL": service.url})
        for case in load("cdp")["settle"]:
            service.cases["settle"] = case
            with contextlib.suppress(SettlementFailed, SettlementUnknown):
                facilitator.settle(signed, FIRST_ATTEMPT)
        token = service.calls[0][1]["Authorization"].removeprefix("Bearer ")
    said = caplog.text + repr(facilitator) + repr(vars(facilitator))
    assert secret[40:80] not in said
    assert token not in said


# --------------------------------------------------------------------------- checks


def ids(facilitator) -> list[str]:
    return [message.id for message in facilitator.check()]


@pytest.mark.parametrize("backend", [*SERVICES.values()][:4])
def test_no_options_are_needed(backend) -> None:
    facilitator = backend("default", {})
    assert ids(facilitator) == []
    assert facilitator.url.startswith("https://")
    assert not facilitator.trusted


@pytest.mark.parametrize(
    ("backend", "options", "environment", "found"),
    [
        (X402OrgFacilitator, {"AUTHOR": "x.y"}, {}, ["x402_django.E030"]),
        (CDPFacilitator, {"API_KEY": "x"}, {}, ["x402_django.E030"]),
        (CDPFacilitator, {"URL": "http://proxy.example"}, {}, ["x402_django.W031"]),
        (CDPFacilitator, {"API_KEY_ID_ENV": "NOT_SET"}, {}, ["x402_django.E036"]),
        (CDPFacilitator, {}, {"CDP_API_KEY_SECRET": "cut off"}, ["x402_django.E036"]),
        (ThirdwebFacilitator, {"SECRET_KEY_ENV": "NOT_SET"}, {}, ["x402_django.E036"]),
        (ThirdwebFacilitator, {"VAULT_ACCESS_TOKEN_ENV": "NOT_SET"}, {}, ["x402_django.E036"]),
        (PayAIFacilitator, {"API_KEY_ID_ENV": "NOT_SET"}, {}, ["x402_django.E036"]),
        (PayAIFacilitator, {}, {"PAYAI_API_KEY_SECRET": "x"}, ["x402_django.E036"]),
    ],
)
def test_checks(monkeypatch, backend, options, environment, found) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    facilitator = backend("default", options)
    assert ids(facilitator) == found
    assert "cut off" not in "".join(map(str, facilitator.check()))
