"""Signed offers and receipts, verified by libraries that know nothing of how they were made."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from coincurve import PublicKey
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from django.core.checks import run_checks
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from eth_account import Account
from eth_account.messages import encode_typed_data

from tests.settings import PAY_TO, TEST_DOLLAR, X402
from x402_django import clock
from x402_django.models import Payment, PriceRule
from x402_django.testing.payer import PayingClient, decode, settlement_of

pytestmark = pytest.mark.django_db

SECRET = "0x" + "4f" * 32
SIGNER = Account.from_key(SECRET).address
SEED = bytes(range(32))
ED25519 = base64.b64encode(
    SEED + eddsa.import_private_key(SEED).public_key().export_key(format="raw")
)
P256 = ECC.construct(curve="P-256", d=int.from_bytes(SEED, "big"))

DOMAIN = {"version": "1", "chainId": 1}
OFFER = [
    ("version", "uint256"), ("resourceUrl", "string"), ("scheme", "string"),
    ("network", "string"), ("asset", "string"), ("payTo", "string"), ("amount", "string"),
    ("validUntil", "uint256"),
]  # fmt: skip
RECEIPT = [
    ("version", "uint256"), ("network", "string"), ("resourceUrl", "string"),
    ("payer", "string"), ("issuedAt", "uint256"), ("transaction", "string"),
]  # fmt: skip


def signing(**options: Any) -> Any:
    extension = {"OPTIONS": {"KEY_ENV": "OFFER_KEY", **options}}
    return override_settings(X402={**X402, "EXTENSIONS": {"offer-receipt": extension}})


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFER_KEY", SECRET)


def offers(client: Client, path: str = "/weather/") -> list[dict[str, Any]]:
    challenge = client.get(path)
    assert challenge.status_code == 402, challenge.content
    declared = decode(challenge["PAYMENT-REQUIRED"])["extensions"]["offer-receipt"]
    found: list[dict[str, Any]] = declared["info"]["offers"]
    return found


def receipt_of(response: Any) -> dict[str, Any]:
    found: dict[str, Any] = settlement_of(response)["extensions"]["offer-receipt"]["info"]
    return found["receipt"]


def signer_of(artifact: dict[str, Any], name: str, fields: list[tuple[str, str]]) -> str:
    signable = encode_typed_data(
        {**DOMAIN, "name": f"x402 {name.lower()}"},
        {name: [{"name": n, "type": t} for n, t in fields]},
        artifact["payload"],
    )
    assert list(artifact["payload"]) == [n for n, _type in fields]
    return str(Account.recover_message(signable, signature=artifact["signature"]))


def parts_of(jws: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    header, payload, signature = jws.split(".")
    raw = [base64.urlsafe_b64decode(part + "==") for part in (header, payload, signature)]
    canonical = json.dumps(json.loads(raw[1]), separators=(",", ":"), sort_keys=True)
    assert raw[1].decode() == canonical
    return json.loads(raw[0]), json.loads(raw[1]), f"{header}.{payload}".encode(), raw[2]


def is_verified(jwk: dict[str, Any], jws: str) -> bool:
    """Whether a signature is that of a key as it stands on the page of keys."""
    header, _payload, message, signature = parts_of(jws)
    assert (header["alg"], header["kid"]) == (jwk["alg"], jwk["kid"])
    point = [base64.urlsafe_b64decode(jwk[name] + "==") for name in ("x", "y") if name in jwk]
    if jwk["alg"] == "ES256K":
        from Crypto.Util.asn1 import DerInteger, DerSequence

        halves = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        der = DerSequence([DerInteger(half) for half in halves]).encode()
        return bool(PublicKey(b"\x04" + b"".join(point)).verify(der, message))
    try:
        if jwk["alg"] == "EdDSA":
            key = eddsa.import_public_key(point[0])
            eddsa.new(key, "rfc8032").verify(message, signature)
        else:
            from Crypto.Hash import SHA256
            from Crypto.Signature import DSS

            x, y = (int.from_bytes(half, "big") for half in point)
            key = ECC.construct(curve="P-256", point_x=x, point_y=y)
            DSS.new(key, "fips-186-3").verify(SHA256.new(message), signature)
    except ValueError:
        return False
    return True


class TestOffers:
    @signing()
    def test_each_offer_is_signed_as_typed_data(self, client):
        now = clock.timestamp()
        (offer,) = offers(client)
        valid_until = offer["payload"]["validUntil"]
        assert now + 45 <= valid_until <= clock.timestamp() + 60
        assert offer["payload"] == {
            "version": 1,
            "resourceUrl": "https://shop.example/weather/",
            "scheme": "exact",
            "network": "eip155:84532",
            "asset": TEST_DOLLAR,
            "payTo": PAY_TO,
            "amount": "10000",
            "validUntil": valid_until,
        }
        assert (offer["format"], offer["acceptIndex"]) == ("eip712", 0)
        assert signer_of(offer, "Offer", OFFER) == SIGNER
        tampered = {**offer, "payload": {**offer["payload"], "amount": "9999"}}
        assert signer_of(tampered, "Offer", OFFER) != SIGNER

    @signing(VALIDITY=8)
    def test_one_is_signed_anew_before_it_runs_out(self, client):
        with clock.shifted(timedelta(hours=1)):
            first = offers(client)
            now = clock.timestamp()
        with clock.shifted(timedelta(hours=1, seconds=3)):
            second = offers(client)
        assert now < first[0]["payload"]["validUntil"] < second[0]["payload"]["validUntil"]

    @signing()
    def test_they_follow_the_price(self, client):
        rule = PriceRule.objects.create(name="a", price_usd=1, url_names=["shop:weather"])
        assert offers(client)[0]["payload"]["amount"] == "1000000"
        rule.price_usd = 2
        rule.save()
        assert offers(client)[0]["payload"]["amount"] == "2000000"

    @signing()
    def test_signing_asks_the_database_nothing(self, client):
        client.get("/weather/")
        with CaptureQueriesContext(connection) as context:
            offers(client)
        assert context.captured_queries == []

    @signing(FORMAT="jws")
    @pytest.mark.parametrize("key", ["ES256K", "EdDSA", "ES256"])
    def test_as_web_signatures_by_every_kind_of_key(self, key, client, monkeypatch):
        secrets = {
            "ES256K": SECRET,
            "EdDSA": ED25519.decode(),
            "ES256": P256.export_key(format="PEM"),
        }
        monkeypatch.setenv("OFFER_KEY", secrets[key])
        (offer,) = offers(client)
        assert set(offer) == {"format", "acceptIndex", "signature"}
        header, payload, _message, _signature = parts_of(offer["signature"])
        assert (payload["amount"], payload["payTo"]) == ("10000", PAY_TO)
        (jwk,) = client.get("/x402/keys/").json()["keys"]
        assert jwk["alg"] == key
        assert is_verified(jwk, offer["signature"])
        head, _, tail = offer["signature"].split(".")
        forged = base64.urlsafe_b64encode(
            json.dumps({**payload, "amount": "1"}, separators=(",", ":"), sort_keys=True).encode()
        )
        assert not is_verified(jwk, f"{head}.{forged.rstrip(b'=').decode()}.{tail}")
        document = client.get("/.well-known/did.json").json()
        (method,) = document["verificationMethod"]
        assert (document["id"], method["id"]) == ("did:web:shop.example", header["kid"])
        assert document["assertionMethod"] == [header["kid"]]
        assert {**method["publicKeyJwk"], "kid": jwk["kid"]}.items() <= jwk.items()


class TestReceipts:
    @signing()
    def test_what_was_delivered_is_receipted(self, client, payer):
        headers = payer.headers_for(client.get("/weather/"))
        answer = client.get("/weather/", headers=headers)
        receipt = receipt_of(answer)
        payment = Payment.objects.get()
        assert receipt["payload"] == {
            "version": 1,
            "network": "eip155:84532",
            "resourceUrl": "https://shop.example/weather/",
            "payer": payer.address,
            "issuedAt": int(payment.delivered_at.timestamp()),
            "transaction": "",
        }
        assert signer_of(receipt, "Receipt", RECEIPT) == SIGNER
        # Whoever asks again, by the payment or by its status, has the very same one.
        with clock.shifted(timedelta(seconds=5)):
            assert receipt_of(client.get("/weather/", headers=headers)) == receipt
            status = client.get(f"/x402/payments/{payment.public_id}/").json()
        assert status["extensions"]["offer-receipt"]["info"]["receipt"] == receipt

    @signing(INCLUDE_TRANSACTION=True, FORMAT="jws")
    def test_it_names_the_transaction_where_the_site_wants_that(self, client, buyer):
        receipt = receipt_of(buyer.pay("get", "/weather/"))
        _header, payload, _message, _signature = parts_of(receipt["signature"])
        assert payload["transaction"] == Payment.objects.get().transaction
        assert is_verified(client.get("/x402/keys/").json()["keys"][0], receipt["signature"])

    @signing(FORMAT="jws")
    def test_by_default_it_does_not(self, buyer):
        _, payload, _, _ = parts_of(receipt_of(buyer.pay("get", "/weather/"))["signature"])
        assert set(payload) == {"version", "network", "resourceUrl", "payer", "issuedAt"}

    @signing()
    def test_there_is_none_for_what_was_not_delivered(self, client, buyer, payer):
        answer = buyer.pay("post", "/flaky/")  # paid before the view, which then fails
        assert answer.status_code == 500
        assert "offer-receipt" not in settlement_of(answer).get("extensions", {})
        assert Payment.objects.get().is_paid
        assert "PAYMENT-RESPONSE" not in buyer.pay("get", "/broken/")
        retried = client.post("/flaky/", headers=buyer.last_headers)
        assert retried.status_code == 200
        assert signer_of(receipt_of(retried), "Receipt", RECEIPT) == SIGNER

    @signing()
    def test_version_one_has_no_place_for_it(self, payer):
        client = PayingClient(payer=payer, version=1)
        answer = client.get("/weather/")
        assert "extensions" not in decode(answer["X-PAYMENT-RESPONSE"])


class TestKeys:
    @signing(
        RETIRED_KEYS=[
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "x": "AA",
                "alg": "EdDSA",
                "kid": "did:web:shop.example#old",
            }
        ]
    )
    def test_the_page_of_keys(self, client):
        answer = client.get("/x402/keys/")
        current, retired = answer.json()["keys"]
        assert (current["address"], current["status"]) == (SIGNER, "current")
        assert (retired["kid"], retired["status"]) == ("did:web:shop.example#old", "retired")
        assert "d" not in current
        assert answer["Access-Control-Allow-Origin"] == "*"
        page = client.get("/x402/keys/", headers={"Accept": "text/html"})
        assert SIGNER in page.content.decode()
        assert (answer["Cache-Control"], page["Cache-Control"]) == (
            "public, max-age=300",
            "no-store",
        )
        assert answer["Vary"] == "Accept"
        assert "Accept" in page["Vary"]
        assert len(client.get("/.well-known/did.json").json()["verificationMethod"]) == 2

    def test_there_is_none_where_nothing_is_signed(self, client):
        assert client.get("/x402/keys/").status_code == 404
        assert client.get("/.well-known/did.json").status_code == 404
        declared = decode(client.get("/weather/")["PAYMENT-REQUIRED"])["extensions"]
        assert "offer-receipt" not in declared

    @override_settings(X402={**X402, "BASE_URL": None, "EXTENSIONS": {
        "offer-receipt": {"OPTIONS": {"KEY_ENV": "OFFER_KEY"}}}})  # fmt: skip
    def test_without_a_base_url_typed_data_is_named_by_its_address(self, client):
        (key,) = client.get("/x402/keys/").json()["keys"]
        assert key["kid"] == f"did:pkh:eip155:1:{SIGNER}"
        assert client.get("/.well-known/did.json").status_code == 404

    @signing()
    def test_no_key_is_in_any_answer(self, client, buyer, caplog):
        answers = [buyer.pay("get", "/weather/"), client.get("/x402/keys/")]
        for answer in answers:
            assert SECRET[2:] not in str(answer.headers) + answer.content.decode() + caplog.text


class TestSetUp:
    @pytest.mark.parametrize(
        ("options", "part"),
        [
            ({"FORMAT": "pgp"}, "FORMAT must be one of eip712, jws"),
            ({"KEY_ENV": "NOWHERE"}, "NOWHERE is not set"),
            ({"KEY_ENV": None}, "exactly one of KEY_ENV, KEYSTORE and KEY"),
            ({"KEY_ENV": None, "KEY": SECRET}, "stands in the settings"),
            ({"VALIDITY": 0}, "whole number of seconds"),
            ({"KID": "key-1"}, "must be a DID URL"),
            ({"RETIRED_KEYS": [{"kty": "OKP"}]}, "each with its 'kid'"),
        ],
    )
    def test_e066(self, options, part):
        with signing(**options):
            (message,) = [m for m in run_checks(tags=["x402"]) if m.id == "x402_django.E066"]
        assert part in message.msg
        assert SECRET[2:] not in message.msg

    def test_w067_offers_that_outlive_their_price(self):
        with signing(VALIDITY=300):
            assert "x402_django.W067" in [m.id for m in run_checks(tags=["x402"])]
        with signing():
            assert [m.id for m in run_checks(tags=["x402"]) if m.id[-3:] in ("066", "067")] == []

    @signing(KEY_ENV="NOWHERE")
    def test_without_its_key_nothing_is_sold_unsigned(self, client, caplog):
        assert client.get("/weather/").status_code == 503
        assert "NOWHERE is not set" in caplog.text
        assert Payment.objects.count() == 0
