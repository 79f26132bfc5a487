"""The wire of transfer proofs: what is signed, and what is read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_defunct

from tests.settings import PAY_TO, TEST_DOLLAR
from x402_django.exceptions import MalformedPayment, PaymentRefused
from x402_django.protocol.proofs import (
    TransferChallenge,
    TransferProof,
    proof_digest,
    proof_message,
    read_proof_header,
)
from x402_django.protocol.signatures import recover_signer

HASH = "0x" + "ab" * 32
CHALLENGE = TransferChallenge(
    fingerprint="f" * 64,
    network="eip155:84532",
    asset=TEST_DOLLAR,
    pay_to=PAY_TO,
    amount=2**200,
    decimals=6,
    symbol="₮",
    price_usd="0.01",
    issued=1_700_000_000,
    expires=1_700_003_600,
)


def test_the_text_to_sign() -> None:
    text = "x402 transfer proof\nchallenge: abc\ntransaction: " + HASH
    assert proof_message("abc", HASH.upper().replace("0X", "0x")) == text
    message = encode_defunct(text=text)
    assert proof_digest("abc", HASH) == bytes(_hash_eip191_message(message))
    account = Account.create()
    signature = bytes(account.sign_message(message).signature)
    assert recover_signer(proof_digest("abc", HASH), signature) == account.address


def test_a_challenge_comes_back_as_it_was() -> None:
    assert TransferChallenge.from_id(CHALLENGE.to_id()) == CHALLENGE
    nothing = replace(CHALLENGE, price_usd=None)
    assert TransferChallenge.from_id(nothing.to_id()) == nothing
    assert CHALLENGE.to_id().isascii()


def test_the_header_of_a_challenge() -> None:
    uri = f"ethereum:{TEST_DOLLAR}@84532/transfer?address={PAY_TO}&uint256={2**200}"
    assert CHALLENGE.header_value().isascii()
    assert json.loads(CHALLENGE.header_value()) == {
        "amount": str(2**200),
        "asset": TEST_DOLLAR,
        "payTo": PAY_TO,
        "chainId": 84532,
        "challengeId": CHALLENGE.to_id(),
        "paymentUri": uri,
        "expires": 1_700_003_600,
    }


@pytest.mark.parametrize("wrong", ["", "x", ":", "a:b", "a:b:c", "=" * 50])
def test_not_our_challenge(wrong: str) -> None:
    with pytest.raises(PaymentRefused) as refused:
        TransferChallenge.from_id(wrong)
    assert refused.value.code == "invalid_challenge"


def test_signed_by_us_for_something_else() -> None:
    from django.core.signing import Signer

    from x402_django.protocol import proofs

    for value in ([], [1], {"a": 1}, "text", 7, None):
        other = Signer(salt=proofs._SALT).sign_object(value)
        with pytest.raises(PaymentRefused):
            TransferChallenge.from_id(other)
    with pytest.raises(PaymentRefused):  # another salt: another purpose
        TransferChallenge.from_id(Signer(salt="other").sign_object(["x"] * 10))


def proof(**changes: object) -> str:
    document = {"txHash": HASH, "chainId": 1, "challengeId": "a-B_9:c", "signature": "0x12"}
    return json.dumps({**document, **changes})


@pytest.mark.parametrize("name", ["X-402-Proof", "X-Payment-Proof"])
def test_a_proof(name: str) -> None:
    decoded = read_proof_header({name: proof(txHash=HASH.upper().replace("0X", "0x"), more=[1])})
    assert decoded == TransferProof(HASH, 1, "a-B_9:c", b"\x12")
    assert TransferProof.from_payload(decoded.payload_dict()) == decoded
    unsigned = read_proof_header({name: proof(signature=None)})
    assert unsigned == replace(decoded, signature=None)
    assert TransferProof.from_payload(unsigned.payload_dict()) == unsigned


def test_no_proof() -> None:
    assert read_proof_header({}) is None


def test_the_nonce_is_of_transaction_and_challenge_alone() -> None:
    one = TransferProof(HASH, 1, "a", b"\x12")
    assert one.nonce == replace(one, signature=b"\x13").nonce
    others = {one.nonce, replace(one, challenge_id="b").nonce}
    others.add(replace(one, transaction="0x" + "cd" * 32).nonce)
    assert len(others) == 3
    assert all(len(nonce) == 66 for nonce in others)


def test_nothing_but_malformed_is_raised() -> None:
    for value in ("[" * 3000, "{" * 300, '{"a":' * 300, "\x7f", '{"txHash":"\\ud800"}'):
        with pytest.raises(MalformedPayment):
            read_proof_header({"X-402-Proof": value})
