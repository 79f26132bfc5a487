"""T25, as far as it concerns authorizations: settled ones can be read off the chain by anybody.

The calldata of ``transferWithAuthorization`` holds the whole signed payload, so a copy proves
nothing about who presents it.
"""

from __future__ import annotations

import pytest
from django.test import Client

from tests.chain.support import direct
from tests.security.conftest import earned
from tests.shop.runs import runs
from x402_django.models import Payment, Receipt
from x402_django.testing.chain import token_contract
from x402_django.testing.payer import decode, encode

pytestmark = pytest.mark.django_db(transaction=True)


def read_off_the_chain(challenge):
    """A header made of public things only: the site's challenge and a settled transaction."""
    accepted = decode(challenge["PAYMENT-REQUIRED"])["accepts"][0]
    transaction = direct().eth.get_transaction(Payment.objects.get().transaction)
    _, a = token_contract(direct()).decode_function_input(transaction["input"])
    signature = a.get("signature")
    if signature is None:
        signature = bytes(a["r"]) + bytes(a["s"]) + bytes([a["v"]])
    authorization = {
        "from": a["from"],
        "to": a["to"],
        "value": str(a["value"]),
        "validAfter": str(a["validAfter"]),
        "validBefore": str(a["validBefore"]),
        "nonce": "0x" + bytes(a["nonce"]).hex(),
    }
    payload = {"authorization": authorization, "signature": "0x" + bytes(signature).hex()}
    header = {"x402Version": 2, "payload": payload, "accepted": accepted}
    return {"PAYMENT-SIGNATURE": encode(header)}


def test_t25_a_copy_from_the_chain_buys_nothing_else(chain, rich):
    assert rich.pay("GET", "/weather/").status_code == 200
    thief = Client()
    for path in ("/hidden/", "/weather/?city=2", "/async-weather/"):
        headers = read_off_the_chain(thief.get(path))
        assert thief.get(path, headers=headers).status_code == 402
    assert (runs["weather"], runs["hidden"], runs["async_weather"]) == (1, 0, 0)
    assert (earned(chain), Receipt.objects.count()) == (10_000, 1)


def test_t25_a_copy_gets_nothing_but_the_stored_bytes(chain, rich):
    """The documented limit: while an answer is stored, the same payload on the same request gets
    it, and a settled payload is public. It runs no view, moves no money and gets nothing newer."""
    bought = rich.pay("GET", "/weather/")
    thief = Client()
    response = thief.get("/weather/", headers=read_off_the_chain(thief.get("/weather/")))
    assert response.content == bought.content
    assert (runs["weather"], earned(chain), Receipt.objects.count()) == (1, 10_000, 1)


def test_t25_after_the_stored_answers_time_a_copy_gets_nothing(chain, rich, settings):
    settings.X402 = {**settings.X402, "RESPONSE_STORE_TTL": 0}
    assert rich.pay("GET", "/weather/").status_code == 200
    thief = Client()
    response = thief.get("/weather/", headers=read_off_the_chain(thief.get("/weather/")))
    assert (response.status_code, runs["weather"]) == (402, 1)
