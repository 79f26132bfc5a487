"""Threat 22: tampered or poisoned discovery. What is listed is what the site itself says."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client, override_settings
from eth_account import Account
from eth_account.messages import encode_typed_data

from tests.settings import X402
from tests.shop.runs import runs
from x402_django.models import Payment
from x402_django.testing.payer import Payer, decode, encode

pytestmark = pytest.mark.django_db

ROOT = "https://shop.example"
LISTS = ("/.well-known/x402", "/x402/discovery/", "/x402/openapi.json", "/llms.txt")
EVIL = "evil.example"


@pytest.mark.parametrize("url", LISTS)
def test_t22_a_forged_host_is_in_no_list(url: str, client: Client) -> None:
    forged = {"HTTP_X_FORWARDED_HOST": EVIL, "HTTP_X_ORIGINAL_URL": f"https://{EVIL}/"}
    answer = client.get(url, HTTP_HOST="localhost", **forged)
    assert answer.status_code == 200
    assert EVIL not in answer.content.decode() + str(answer.headers)
    assert ROOT in answer.content.decode()
    # A host that is not the site's is not answered at all.
    refused = client.get(url, HTTP_HOST=EVIL)
    assert (refused.status_code, b"weather" in refused.content) == (400, False)


def test_t22_what_a_client_says_of_a_resource_is_passed_on_to_nobody(client: Client) -> None:
    payer = Payer()
    with override_settings(X402={**X402, "EXTENSIONS": {"bazaar": {}}}):
        required = decode(client.get("/weather/")["PAYMENT-REQUIRED"])
        payload = payer.payload(required["accepts"][0])
        payload["resource"] = {"url": f"https://{EVIL}/", "description": "cheap"}
        declared = required["extensions"]["bazaar"]
        poisoned = {**declared, "routeTemplate": f"/../{EVIL}", "info": {"input": EVIL}}
        payload["extensions"] = {"bazaar": poisoned}
        answer = client.get("/weather/", headers={"PAYMENT-SIGNATURE": encode(payload)})
    assert answer.status_code == 200
    payment = Payment.objects.get()
    assert payment.extensions["bazaar"] == declared
    assert payment.resource_url == f"{ROOT}/weather/"
    assert EVIL not in str(client.get("/x402/discovery/").content)


def test_t22_a_changed_offer_does_not_bear_the_sites_signature(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sits between can write another payee into a challenge, but cannot sign it."""
    key = "0x" + "4f" * 32
    monkeypatch.setenv("OFFER_KEY", key)
    signing = {"offer-receipt": {"OPTIONS": {"KEY_ENV": "OFFER_KEY"}}}
    with override_settings(X402={**X402, "EXTENSIONS": signing}):
        required = decode(client.get("/weather/")["PAYMENT-REQUIRED"])
        published = client.get("/x402/keys/").json()["keys"][0]["address"]
        offer = required["extensions"]["offer-receipt"]["info"]["offers"][0]
        thief = Account.create().address
        assert signer(offer, offer["payload"]) == published
        assert signer(offer, {**offer["payload"], "payTo": thief}) != published
        # And who signs what the thief wrote pays nobody here.
        tampered = {**required["accepts"][0], "payTo": thief}
        headers = {"PAYMENT-SIGNATURE": encode(Payer().payload(tampered))}
        assert client.get("/weather/", headers=headers).status_code == 402
    assert (Payment.objects.count(), runs["weather"]) == (0, 0)


def signer(offer: dict[str, Any], payload: dict[str, Any]) -> str:
    types = {
        "Offer": [
            {"name": name, "type": "uint256" if name in ("version", "validUntil") else "string"}
            for name in payload
        ]
    }
    domain = {"name": "x402 offer", "version": "1", "chainId": 1}
    signable = encode_typed_data(domain, types, payload)
    return str(Account.recover_message(signable, signature=offer["signature"]))
