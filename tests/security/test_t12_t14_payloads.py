"""T12 to T14: payloads that differ, signatures that are not the payer's, time and dust."""

from __future__ import annotations

import time

import pytest
from django.test import Client
from eth_account import Account

from tests.chain.support import direct
from tests.security.conftest import Untouched, earned
from tests.shop.runs import runs
from x402_django.models import Payment, Receipt
from x402_django.testing.chain import deploy_smart_wallet
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer, PayingClient, decode, encode

STRANGER = "0x000000000000000000000000000000000000dEaD"
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def offer_of(client, path="/weather/"):
    return decode(client.get(path)["PAYMENT-REQUIRED"])["accepts"][0]


def send(client, payload, path="/weather/"):
    return client.get(path, headers={"PAYMENT-SIGNATURE": encode(payload)})


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change",
    [
        {"amount": "1"},
        {"amount": "010000"},
        {"amount": 10000},
        {"asset": STRANGER},
        {"payTo": STRANGER},
        {"network": "eip155:1"},
        {"network": "eip155:084532"},
        {"scheme": "upto"},
        {"maxTimeoutSeconds": 1},
        {"extra": {"name": "USDC", "version": "1"}},
        {"extra": {"name": "USD Coin", "version": "2"}},
        {"extra": {}},
        {"extra": None},
    ],
)
@pytest.mark.parametrize("signs_it", [True, False])
def test_t12_a_payload_that_differs_from_the_offer_is_refused(client, payer, change, signs_it):
    offer = offer_of(client)
    try:
        payload = payer.payload({**offer, **change} if signs_it else offer)
    except (KeyError, TypeError, ValueError):
        pytest.skip("cannot even be signed")
    payload["accepted"] = {**offer, **change}
    untouched = Untouched()
    assert send(client, payload).status_code in (400, 402)
    untouched.verify()
    assert InstantFacilitator.calls == {}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change", [{"to": STRANGER}, {"value": "9999"}, {"value": "10001"}, {"value": "0"}]
)
@pytest.mark.parametrize("version", [1, 2])
def test_t12_an_authorization_that_pays_somebody_else_or_less_is_refused(
    client, payer, change, version
):
    untouched = Untouched()
    headers = payer.headers_for(client.get("/weather/"), version=version, **change)
    assert client.get("/weather/", headers=headers).status_code == 402
    untouched.verify()
    assert InstantFacilitator.calls == {}


# ------------------------------------------------------------------ signatures, on a real chain


def forged(offer, victim, attacker):
    payload = attacker.payload(offer, **{"from": victim})
    return payload


def high_s(offer, payer):
    payload = payer.payload(offer)
    raw = bytes.fromhex(payload["payload"]["signature"][2:])
    s = ORDER - int.from_bytes(raw[32:64], "big")
    flipped = raw[:32] + s.to_bytes(32, "big") + bytes([27 + 28 - raw[64]])
    payload["payload"]["signature"] = "0x" + flipped.hex()
    return payload


def other_domain(offer, payer, **change):
    payload = payer.payload({**offer, **change})
    payload["accepted"] = dict(offer)
    return payload


ATTACKS = {
    "another key": lambda offer, payer: forged(offer, payer.address, Payer()),
    "malleated": high_s,
    "another chain": lambda offer, payer: other_domain(offer, payer, network="eip155:1"),
    "another token": lambda offer, payer: other_domain(offer, payer, asset=STRANGER),
    "another name": lambda o, p: other_domain(o, p, extra={"name": "Dollar", "version": "1"}),
    "zeros": lambda o, p: _signed_with(o, p, bytes(65)),
    "one byte": lambda o, p: _signed_with(o, p, b"\x01"),
    "long": lambda o, p: _signed_with(o, p, b"\x01" * 600),
    "wrapped": lambda o, p: _signed_with(o, p, b"\x01" * 96 + bytes.fromhex("6492" * 16)),
}


def _signed_with(offer, payer, signature):
    payload = payer.payload(offer)
    payload["payload"]["signature"] = "0x" + signature.hex()
    return payload


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("attack", ATTACKS)
def test_t13_a_signature_that_is_not_the_payers_buys_nothing(chain, rich, attack):
    payload = ATTACKS[attack](offer_of(rich), rich.payer)
    response = send(Client(raise_request_exception=False), payload)

    assert response.status_code == 402
    assert "signature" in decode(response["PAYMENT-REQUIRED"])["error"] or attack == "wrapped"
    assert (earned(chain), runs["weather"], Receipt.objects.count()) == (0, 0, 0)
    assert chain.dollars(rich.payer.address) == 1_000_000
    assert not Payment.objects.exclude(state="rejected").exists()


@pytest.mark.django_db(transaction=True)
def test_t13_a_contract_wallet_pays_by_its_owners_signature_only(chain):
    owner, thief = Account.create(), Account.create()
    wallet = deploy_smart_wallet(direct(), owner.address)
    chain.mint(wallet, 1_000_000)
    honest = PayingClient(payer=Payer(owner, address=wallet))
    hostile = PayingClient(payer=Payer(thief, address=wallet))

    refused = hostile.pay("GET", "/weather/")
    assert (refused.status_code, earned(chain), runs["weather"]) == (402, 0, 0)
    served = honest.pay("GET", "/weather/")
    assert (served.status_code, earned(chain), runs["weather"]) == (200, 10_000, 1)

    # Knowing the nonce of what was bought, but not the owner's key.
    bought = decode(honest.last_headers["PAYMENT-SIGNATURE"])
    bought["payload"]["signature"] = hostile.payer.sign(
        bought["accepted"], bought["payload"]["authorization"]
    )
    copied = send(hostile, bought)
    assert copied.status_code == 402
    assert b"sunny" not in copied.content
    assert honest.get("/weather/", headers=honest.last_headers).content == served.content
    assert (earned(chain), runs["weather"]) == (10_000, 1)


@pytest.mark.django_db(transaction=True)
def test_t13_a_forged_claim_on_somebodys_nonce_does_not_stand_in_its_owners_way(chain, rich):
    genuine = rich.payer.payload(offer_of(rich))
    fake = {**genuine, "payload": dict(genuine["payload"])}
    fake["payload"]["signature"] = Payer().sign(
        genuine["accepted"], genuine["payload"]["authorization"]
    )
    thief = Client()
    for path in ("/hidden/", "/weather/"):
        assert send(thief, fake, path).status_code == 402
    response = send(rich, genuine)
    assert (response.status_code, earned(chain)) == (200, 10_000)
    assert b"sunny" not in send(thief, fake).content


# ------------------------------------------------------------------ time and dust


@pytest.mark.django_db
@pytest.mark.parametrize("left", [-1000, -1, 0, 5, 9])
def test_t14_an_authorization_about_to_expire_is_refused(client, payer, left):
    """SETTLEMENT_TIMEOUT is 10 seconds."""
    untouched = Untouched()
    payload = payer.payload(offer_of(client), validBefore=str(int(time.time()) + left))
    response = send(client, payload)
    assert response.status_code == 402
    assert decode(response["PAYMENT-REQUIRED"])["error"].endswith("valid_before")
    untouched.verify()
    assert InstantFacilitator.calls == {}


@pytest.mark.django_db
@pytest.mark.parametrize("cents", ["0", "0.001", "-1", "NaN"])
def test_t14_a_price_of_dust_is_not_asked_and_not_free(client, cents):
    response = client.get(f"/by-size/?cents={cents}")
    assert (response.status_code, runs["by_size"]) == (503, 0)


@pytest.mark.django_db
def test_t14_an_authorization_for_ever_is_the_payers_choice(client, payer):
    payload = payer.payload(offer_of(client), validBefore=str(2**256 - 1), validAfter="0")
    assert send(client, payload).status_code == 200
    assert Payment.objects.get().valid_before == 2**256 - 1
