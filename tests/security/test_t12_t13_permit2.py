"""T12, T13 for Permit2: payloads that differ from the offer, and signatures that are not the
payer's, tried on a real chain."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from django.test import Client

from tests.chain.permits import approving_payer, offer_permit2
from tests.security.conftest import Untouched, earned
from tests.shop.runs import runs
from x402_django.constants import EXACT_PROXY_ADDRESS, PERMIT2_ADDRESS, UPTO_PROXY_ADDRESS
from x402_django.models import Payment, Receipt
from x402_django.protocol.types import SignedPayment
from x402_django.testing.payer import Payer, PayingClient, decode, encode

pytestmark = pytest.mark.django_db(transaction=True)

STRANGER = "0x000000000000000000000000000000000000dEaD"
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.fixture
def buyer(chain) -> PayingClient:
    """A buyer with a test dollar that has approved Permit2."""
    offer_permit2()
    return PayingClient(
        payer=Payer(approving_payer()), raise_request_exception=False, automatic=False
    )


def offer_of(client, path="/weather/"):
    return decode(client.get(path)["PAYMENT-REQUIRED"])["accepts"][0]


def send(client, payload, path="/weather/"):
    return client.get(path, headers={"PAYMENT-SIGNATURE": encode(payload)})


def assert_nothing_bought(chain, buyer):
    assert (earned(chain), runs["weather"], Receipt.objects.count()) == (0, 0, 0)
    assert chain.dollars(buyer.payer.address) == 1_000_000
    assert not Payment.objects.exclude(state="rejected").exists()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"permitted": {"token": STRANGER, "amount": "10000"}}, "permit2_token_mismatch"),
        ({"permitted": {"amount": "9999"}}, "permit2_amount_mismatch"),
        ({"permitted": {"amount": "10001"}}, "permit2_amount_mismatch"),
        ({"permitted": {"amount": "0"}}, "permit2_amount_mismatch"),
        ({"spender": STRANGER}, "invalid_permit2_spender"),
        ({"spender": UPTO_PROXY_ADDRESS}, "invalid_permit2_spender"),
        ({"spender": PERMIT2_ADDRESS}, "invalid_permit2_spender"),
        ({"witness": {"to": STRANGER}}, "invalid_permit2_recipient_mismatch"),
        ({"witness": {"validAfter": str(2**40)}}, "permit2_not_yet_valid"),
        ({"deadline": "0"}, "permit2_deadline_expired"),
        ({"deadline": "now"}, "permit2_deadline_expired"),
    ],
)
def test_t12_a_permit_that_differs_from_the_offer_is_refused(chain, buyer, change, error):
    """Signed as it stands: the signature is good, the deal is not ours."""
    offer = offer_of(buyer)
    permit = buyer.payer.permit(offer)
    for key, value in change.items():
        if isinstance(value, dict):
            permit[key] = {**permit[key], **value}
        else:
            permit[key] = str(int(time.time())) if value == "now" else value
    untouched = Untouched()
    response = send(
        buyer,
        {
            "x402Version": 2,
            "payload": {
                "signature": buyer.payer.sign_permit(offer, permit),
                "permit2Authorization": permit,
            },
            "accepted": offer,
        },
    )
    assert response.status_code == 402
    assert decode(response["PAYMENT-REQUIRED"])["error"] == error
    untouched.verify()
    assert_nothing_bought(chain, buyer)


@pytest.mark.parametrize(
    "change",
    [
        {"amount": "1"},
        {"asset": STRANGER},
        {"payTo": STRANGER},
        {"network": "eip155:1"},
        {"scheme": "upto"},
        {"maxTimeoutSeconds": 1},
        {"extra": {"name": "Test Dollar", "version": "1"}},
        {"extra": {"name": "Test Dollar", "version": "1", "assetTransferMethod": "eip3009"}},
        {"extra": {"name": "Test Dollar", "version": "2", "assetTransferMethod": "permit2"}},
    ],
)
def test_t12_accepted_terms_that_are_not_ours_are_refused(chain, buyer, change):
    payload = buyer.payer.payload(offer_of(buyer))
    payload["accepted"] |= change
    untouched = Untouched()
    assert send(buyer, payload).status_code in (400, 402)
    untouched.verify()
    assert_nothing_bought(chain, buyer)


@pytest.mark.parametrize(
    "twist",
    [
        lambda p: p["permit2Authorization"].pop("deadline"),
        lambda p: p["permit2Authorization"].update(extra="1"),
        lambda p: p["permit2Authorization"]["witness"].update(facilitator=STRANGER),
        lambda p: p["permit2Authorization"]["witness"].update(extra="0x"),
        lambda p: p["permit2Authorization"]["permitted"].update(amount=10000),
        lambda p: p["permit2Authorization"].update(nonce="0x07"),
        lambda p: p["permit2Authorization"].update(nonce="007"),
        lambda p: p["permit2Authorization"].update(nonce=str(2**256)),
        lambda p: p["permit2Authorization"].update(nonce=7),
        lambda p: p["permit2Authorization"].update(spender=EXACT_PROXY_ADDRESS[:-1]),
        lambda p: p.update(authorization={}),
        lambda p: p.pop("signature"),
        lambda p: p.update(permit2Authorization=[]),
    ],
)
def test_t12_a_permit_that_is_not_well_formed_is_refused(chain, buyer, twist):
    payload = buyer.payer.payload(offer_of(buyer))
    twist(payload["payload"])
    untouched = Untouched()
    assert send(buyer, payload).status_code == 400
    untouched.verify()
    assert_nothing_bought(chain, buyer)


def test_t12_an_authorization_of_the_token_does_not_pay_a_permit2_offer(chain, buyer):
    """The same token, payee and amount, but another way of moving money than was asked for."""
    offer = offer_of(buyer)
    plain = {**offer, "extra": {"name": "Test Dollar", "version": "1"}}
    payload = {**buyer.payer.payload(plain), "accepted": offer}
    untouched = Untouched()
    response = send(buyer, payload)
    assert decode(response["PAYMENT-REQUIRED"])["error"] == "invalid_payment_requirements"
    untouched.verify()
    assert_nothing_bought(chain, buyer)


def forged(offer, payer):
    return Payer().payload(offer, **{"from": payer.address})


def high_s(offer, payer):
    payload = payer.payload(offer)
    raw = bytes.fromhex(payload["payload"]["signature"][2:])
    s = ORDER - int.from_bytes(raw[32:64], "big")
    flipped = raw[:32] + s.to_bytes(32, "big") + bytes([27 + 28 - raw[64]])
    return _with_signature(payload, flipped)


def compact(offer, payer):
    """EIP-2098: Permit2 itself takes it, so that one permit could pass for two."""
    payload = payer.payload(offer)
    raw = bytes.fromhex(payload["payload"]["signature"][2:])
    s = int.from_bytes(raw[32:64], "big") | (raw[64] - 27) << 255
    return _with_signature(payload, raw[:32] + s.to_bytes(32, "big"))


def _with_signature(payload, signature):
    payload["payload"]["signature"] = "0x" + signature.hex()
    return payload


def _signed_for(offer, payer, **change):
    payload = payer.payload({**offer, **change})
    payload["accepted"] = offer
    payload["payload"]["permit2Authorization"] |= {
        "witness": {"to": offer["payTo"], "validAfter": "0"}
    }
    return payload


ATTACKS = {
    "another key": forged,
    "malleated": high_s,
    "compact": compact,
    "another chain": lambda o, p: _signed_for(o, p, network="eip155:1"),
    "another payee": lambda o, p: _signed_for(o, p, payTo=STRANGER),
    "zeros": lambda o, p: _with_signature(p.payload(o), bytes(65)),
    "one byte": lambda o, p: _with_signature(p.payload(o), b"\x01"),
    "wrapped": lambda o, p: _with_signature(
        p.payload(o), b"\x01" * 96 + bytes.fromhex("6492" * 16)
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_t13_a_signature_that_is_not_the_payers_buys_nothing(chain, buyer, attack):
    payload = ATTACKS[attack](offer_of(buyer), buyer.payer)
    response = send(Client(raise_request_exception=False), payload)
    assert response.status_code == 402
    assert "signature" in decode(response["PAYMENT-REQUIRED"])["error"]
    assert_nothing_bought(chain, buyer)


def test_t13_an_eip3009_signature_is_none_for_a_permit(chain, buyer):
    offer = offer_of(buyer)
    payload = buyer.payer.payload(offer)
    plain = {**offer, "extra": {"name": "Test Dollar", "version": "1"}}
    payload["payload"]["signature"] = buyer.payer.payload(plain)["payload"]["signature"]
    response = send(buyer, payload)
    assert decode(response["PAYMENT-REQUIRED"])["error"] == "invalid_permit2_signature"
    assert_nothing_bought(chain, buyer)


@pytest.mark.parametrize("second", ["/weather/?again", "/hidden/"])
def test_t03_a_permit_buys_one_thing_once(chain, buyer, second):
    assert buyer.pay("GET", "/weather/").status_code == 200
    response = buyer.get(second, headers=buyer.last_headers)
    assert response.status_code == 402
    assert decode(response["PAYMENT-REQUIRED"])["error"] == "payment_already_used"
    assert (earned(chain), Receipt.objects.count()) == (10_000, 1)


def test_t03_a_nonce_buys_one_thing_whatever_the_token(chain, buyer):
    """Permit2 spends a nonce once for all tokens: two permits with it are one payment here too."""
    from x402_django.chain.devchain.deployment import PLAIN_TOKEN_ADDRESS

    offer_permit2(name="Another token", asset=PLAIN_TOKEN_ADDRESS, priority=-1)
    offers = decode(buyer.get("/weather/")["PAYMENT-REQUIRED"])["accepts"]
    assert send(buyer, buyer.payer.payload(offers[0], nonce="5")).status_code == 200
    other = buyer.payer.payload(offers[1], nonce="5")
    response = send(buyer, other, "/weather/?again")
    assert response.status_code == 402
    assert decode(response["PAYMENT-REQUIRED"])["error"] == "payment_already_used"
    assert Payment.objects.count() == 1


def test_t05_another_spelling_is_the_same_permit(chain, buyer):
    first = buyer.pay("GET", "/weather/")
    payload = decode(buyer.last_headers["PAYMENT-SIGNATURE"])
    permit = payload["payload"]["permit2Authorization"]
    permit["from"] = permit["from"].lower()
    permit["permitted"]["token"] = "0x" + permit["permitted"]["token"][2:].upper()
    payload["payload"] = {
        "permit2Authorization": dict(reversed(list(permit.items()))),
        "signature": "0x" + payload["payload"]["signature"][2:].upper(),
    }
    assert send(buyer, payload).content == first.content
    assert send(buyer, payload, "/hidden/").status_code == 402
    assert (earned(chain), Payment.objects.count()) == (10_000, 1)


def test_a_row_is_rebuilt_as_it_was_signed(chain, buyer):
    buyer.pay("GET", "/weather/")
    payment = Payment.objects.get()
    signed = SignedPayment.from_row(payment)
    sent = decode(buyer.last_headers["PAYMENT-SIGNATURE"])["payload"]
    assert signed.payload_dict() == sent == payment.payload
    assert signed.key == (
        payment.network, payment.verifying_contract, payment.payer, payment.nonce
    )  # fmt: skip
    assert replace(signed, nonce="0x" + "0" * 64).key != signed.key
