"""Payers who never approved Permit2 and have no gas: the settling wallet pays for the approval."""

from __future__ import annotations

import time

import pytest

from tests.chain.permits import approving_payer, offer_permit2
from tests.chain.support import direct
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django.constants import PERMIT2_ADDRESS
from x402_django.models import ChainTransaction, Payment, Receipt
from x402_django.protocol.types import SignedPayment
from x402_django.testing.chain import (
    new_payer,
    sign_for_token,
    token_contract,
)
from x402_django.testing.payer import Payer, PayingClient, decode, encode

pytestmark = pytest.mark.django_db(transaction=True)

EIP2612 = "eip2612GasSponsoring"


def buyer_of(account) -> PayingClient:
    return PayingClient(payer=Payer(account), raise_request_exception=False, automatic=False)


def permit_info(account, offer, *, signer=None, **changes):
    """An EIP-2612 permit for Permit2, signed as it stands."""
    values = {
        "from": account.address,
        "asset": offer["asset"],
        "spender": PERMIT2_ADDRESS,
        "amount": offer["amount"],
        "nonce": "0",
        "deadline": str(int(time.time()) + 300),
        "version": "1",
        **changes,
    }
    names = {
        "owner": "address",
        "spender": "address",
        "value": "uint256",
        "nonce": "uint256",
        "deadline": "uint256",
    }
    message = {
        "owner": values["from"],
        "spender": values["spender"],
        "value": int(values["amount"]),
        "nonce": int(values["nonce"]),
        "deadline": int(values["deadline"]),
    }
    signature = sign_for_token(signer or account, "Permit", names, message, token=values["asset"])
    return {"signature": "0x" + signature.hex(), **values}


def pay(buyer, info, path="/weather/"):
    challenge = decode(buyer.get(path)["PAYMENT-REQUIRED"])
    payload = buyer.payer.payload(challenge["accepts"][0])
    payload["extensions"] = {EIP2612: {"info": info(challenge["accepts"][0])}}
    headers = {"PAYMENT-SIGNATURE": encode(payload)}
    return buyer.get(path, headers=headers), headers


def test_a_permit_and_the_payment_are_one_transaction(chain):
    offer_permit2(sponsoring=EIP2612)
    account = new_payer(chain, 1)  # no gas, no approval
    buyer = buyer_of(account)
    assert EIP2612 in decode(buyer.get("/weather/")["PAYMENT-REQUIRED"])["extensions"]

    response, headers = pay(buyer, lambda offer: permit_info(account, offer))

    assert response.status_code == 200, decode(response["PAYMENT-REQUIRED"])
    assert (chain.dollars(PAY_TO), chain.dollars(account.address)) == (10_000, 990_000)
    assert token_contract(direct()).functions.nonces(account.address).call() == 1
    assert (ChainTransaction.objects.count(), Receipt.objects.count()) == (1, 1)
    payment = Payment.objects.get()
    assert payment.state == "settled"
    signed = SignedPayment.from_row(payment)
    assert (signed.snapshot(), signed.sponsorship.key) == (payment.payload, EIP2612)
    assert buyer.get("/weather/", headers=headers).content == response.content
    assert runs["weather"] == 1


def test_what_is_not_offered_is_not_taken(chain):
    offer_permit2()
    account = new_payer(chain, 1)
    buyer = buyer_of(account)
    declared = decode(buyer.get("/weather/")["PAYMENT-REQUIRED"]).get("extensions", {})
    assert EIP2612 not in declared
    response, _ = pay(buyer, lambda offer: permit_info(account, offer))
    assert decode(response["PAYMENT-REQUIRED"])["error"] == "permit2_allowance_required"
    assert (runs["weather"], chain.dollars(PAY_TO)) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"amount": "9999"}, "permit2_2612_amount_mismatch"),
        ({"amount": str(2**256 - 1)}, "permit2_2612_amount_mismatch"),
        ({"spender": PAY_TO}, "eip2612_spender_not_permit2"),
        ({"asset": PAY_TO}, "eip2612_asset_mismatch"),
        ({"from": PAY_TO}, "eip2612_from_mismatch"),
        ({"deadline": "1"}, "eip2612_deadline_expired"),
        ({"nonce": "1"}, "invalid_transaction_state"),
        ({"signer": "another"}, "invalid_transaction_state"),
    ],
)
def test_an_approval_of_something_else_or_by_somebody_else_buys_nothing(chain, changes, error):
    offer_permit2(sponsoring=EIP2612)
    account = new_payer(chain, 1)
    changes = {k: new_payer(chain, 0) if v == "another" else v for k, v in changes.items()}
    response, _ = pay(buyer_of(account), lambda offer: permit_info(account, offer, **changes))
    assert response.status_code == 402
    assert decode(response["PAYMENT-REQUIRED"])["error"] == error
    assert (runs["weather"], chain.dollars(PAY_TO), Receipt.objects.count()) == (0, 0, 0)
    assert ChainTransaction.objects.count() == 0


@pytest.mark.parametrize("info", [[], "x", {}, {"from": 1}, {"signature": "0x01"}])
def test_malformed_approvals_are_refused(chain, info):
    offer_permit2(sponsoring=EIP2612)
    account = new_payer(chain, 1)
    good = permit_info(
        account, decode(buyer_of(account).get("/weather/")["PAYMENT-REQUIRED"])["accepts"][0]
    )
    broken = {**good, **info} if isinstance(info, dict) and info else info
    response, _ = pay(buyer_of(account), lambda offer: broken)
    assert (response.status_code, runs["weather"]) == (400, 0)


def test_an_approval_is_no_hindrance_where_there_is_one_already(chain):
    """The permit was used by somebody else first: its allowance is there all the same."""
    offer_permit2(sponsoring=EIP2612)
    account = approving_payer()
    response, _ = pay(buyer_of(account), lambda offer: permit_info(account, offer, nonce="9"))
    assert (response.status_code, chain.dollars(PAY_TO)) == (200, 10_000)
