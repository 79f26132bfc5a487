"""Threat 13, the part that needs no network: digests and canonical ECDSA signatures."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st
from x402.mechanisms.evm.eip712 import hash_eip3009_authorization
from x402.mechanisms.evm.types import ExactEIP3009Authorization

from tests.protocol.builders import EURC, PAYER, PAYER_KEY, make_offer, make_signed
from x402_django.constants import Code
from x402_django.exceptions import PaymentRefused
from x402_django.protocol.signatures import (
    check_eoa_signature,
    is_erc6492,
    recover_signer,
    typed_data_digest,
)
from x402_django.protocol.types import SignedPayment

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
UINT256 = st.integers(min_value=0, max_value=2**256 - 1)


def sign(signed: SignedPayment, key: str = PAYER_KEY) -> bytes:
    return bytes(Account.unsafe_sign_hash(typed_data_digest(signed), key).signature)


def sdk_digest(signed: SignedPayment) -> bytes:
    offer = signed.offer
    fields = signed.payload_dict()["authorization"]
    return hash_eip3009_authorization(
        ExactEIP3009Authorization(
            from_address=fields["from"],
            to=fields["to"],
            value=fields["value"],
            valid_after=fields["validAfter"],
            valid_before=fields["validBefore"],
            nonce=fields["nonce"],
        ),
        int(offer.network.removeprefix("eip155:")),
        offer.asset,
        offer.asset_name,
        offer.asset_version,
    )


def test_digest_of_a_known_payment() -> None:
    assert typed_data_digest(make_signed()).hex() == (
        "f75f59ae39094de2d49217258216f346842fe3f971796d574258449560b70724"
    )
    assert sdk_digest(make_signed()) == typed_data_digest(make_signed())


@settings(deadline=None)
@given(
    amount=UINT256,
    valid_after=UINT256,
    valid_before=UINT256,
    nonce=st.binary(min_size=32, max_size=32),
    name=st.text(min_size=1, max_size=20),
    version=st.sampled_from(["1", "2", "ß"]),
    chain=st.integers(min_value=1, max_value=2**64),
)
def test_digest_is_the_sdks(
    amount: int,
    valid_after: int,
    valid_before: int,
    nonce: bytes,
    name: str,
    version: str,
    chain: int,
) -> None:
    signed = make_signed(
        make_offer(
            amount=amount, asset_name=name, asset_version=version, network=f"eip155:{chain}"
        ),
        valid_after=valid_after,
        valid_before=valid_before,
        nonce="0x" + nonce.hex(),
    )
    assert typed_data_digest(signed) == sdk_digest(signed)


def test_signature_of_the_payer() -> None:
    signed = make_signed()
    assert check_eoa_signature(make_signed(signature=sign(signed)))
    assert not check_eoa_signature(make_signed(signature=sign(signed, "0x" + "22" * 32)))
    assert not check_eoa_signature(make_signed(signature=b"\x01" * 200))


@pytest.mark.parametrize(
    "change",
    [
        {"valid_after": 1},
        {"valid_before": 1},
        {"nonce": "0x" + "ac" * 32},
        {"payer": "0x000000000000000000000000000000000000dEaD"},
        {"offer": make_offer(amount=9_999)},
        {"offer": make_offer(pay_to="0x000000000000000000000000000000000000dEaD")},
        {"offer": make_offer(asset=EURC)},
        {"offer": make_offer(network="eip155:8453")},
        {"offer": make_offer(asset_name="USD Coin")},
        {"offer": make_offer(asset_version="1")},
    ],
)
def test_signature_covers_every_field(change: dict[str, Any]) -> None:
    signature = sign(make_signed())
    assert not check_eoa_signature(make_signed(**({"signature": signature} | change)))


def test_recovery_value_in_both_notations() -> None:
    digest = typed_data_digest(make_signed())
    signature = sign(make_signed())
    assert signature[64] in (27, 28)
    assert recover_signer(digest, signature) == PAYER
    assert recover_signer(digest, signature[:64] + bytes([signature[64] - 27])) == PAYER


@pytest.mark.parametrize("v", [2, 3, 26, 29, 30, 31, 32, 255])
def test_other_recovery_values_are_no_eoa_signatures(v: int) -> None:
    digest = typed_data_digest(make_signed())
    assert recover_signer(digest, sign(make_signed())[:64] + bytes([v])) is None


@pytest.mark.parametrize("length", [1, 64, 66, 130])
def test_other_lengths_are_no_eoa_signatures(length: int) -> None:
    assert recover_signer(bytes(32), b"\x01" * length) is None


def test_malleable_and_degenerate_signatures_are_refused() -> None:
    digest = typed_data_digest(make_signed())
    signature = sign(make_signed())
    r, s, v = signature[:32], int.from_bytes(signature[32:64], "big"), signature[64]
    twin = r + (ORDER - s).to_bytes(32, "big") + bytes([55 - v])
    zero = bytes(32)
    for bad in (
        twin,
        zero + signature[32:],
        r + zero + bytes([v]),
        ORDER.to_bytes(32, "big") + signature[32:],
        b"\xff" * 64 + bytes([v]),
    ):
        with pytest.raises(PaymentRefused) as caught:
            recover_signer(digest, bad)
        assert caught.value.code == Code.INVALID_SIGNATURE


@settings(deadline=None)
@given(digest=st.binary(min_size=32, max_size=32), signature=st.binary(min_size=1, max_size=70))
def test_nothing_but_a_refusal_is_raised(digest: bytes, signature: bytes) -> None:
    try:
        recovered = recover_signer(digest, signature)
    except PaymentRefused:
        return
    assert recovered is None or recovered != PAYER


def test_r_that_is_no_point_on_the_curve() -> None:
    """x = 5 is on no point of secp256k1: nobody can have made this signature."""
    assert (
        recover_signer(bytes(32), (5).to_bytes(32, "big") + (1).to_bytes(32, "big") + b"\x1b")
        is None
    )


def test_erc6492_wrapper() -> None:
    assert is_erc6492(b"\x00" * 96 + bytes.fromhex("6492" * 16))
    assert not is_erc6492(bytes.fromhex("6492" * 16))
    assert not is_erc6492(b"\x00" * 65)
