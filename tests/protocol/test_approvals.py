"""A payer's approval transaction: one call of ``approve``, and nothing else, is taken for one."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import pytest
import rlp
from eth_account import Account

from x402_django.constants import PERMIT2_ADDRESS, SPONSOR_ERC20_APPROVAL
from x402_django.exceptions import MalformedPayment, PaymentRefused
from x402_django.protocol.approvals import decode_approval
from x402_django.protocol.sponsoring import read_sponsorship
from x402_django.protocol.transfer_methods import METHODS
from x402_django.protocol.types import Offer

NETWORK = "eip155:84532"
TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
ELSEWHERE = "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"
ACCOUNT = Account.from_key("0x" + "11" * 32)
MOST = 2**256 - 1


def call(spender: str = PERMIT2_ADDRESS, amount: int = MOST, selector: str = "095ea7b3") -> str:
    return f"0x{selector}{spender[2:].lower():0>64}{amount:064x}"


def signed(account: Any = ACCOUNT, **changes: Any) -> bytes:
    transaction = {
        "type": 2, "chainId": 84532, "nonce": 7, "to": TOKEN, "value": 0, "data": call(),
        "gas": 70_000, "maxFeePerGas": 10**9, "maxPriorityFeePerGas": 10**8, **changes,
    }  # fmt: skip
    transaction = {name: value for name, value in transaction.items() if value is not None}
    return bytes(account.sign_transaction(transaction).raw_transaction)


def decode(raw: bytes) -> Any:
    return decode_approval(raw, network=NETWORK, payer=ACCOUNT.address, token=TOKEN)


def test_what_the_official_clients_sign_is_read_as_it_is() -> None:
    raw = signed()
    approval = decode(raw)
    assert (approval.nonce, approval.gas, approval.max_fee, approval.priority_fee) == (
        7, 70_000, 10**9, 10**8,
    )  # fmt: skip
    assert (approval.amount, approval.cost, approval.raw) == (MOST, 70_000 * 10**9, raw)
    assert approval.hash == ACCOUNT.sign_transaction(
        {
            "type": 2, "chainId": 84532, "nonce": 7, "to": TOKEN, "value": 0, "data": call(),
            "gas": 70_000, "maxFeePerGas": 10**9, "maxPriorityFeePerGas": 10**8,
        }
    ).hash.to_0x_hex()  # fmt: skip
    assert "0x" + approval.call.hex() == call()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"chainId": 1}, "wrong_chain"),
        ({"to": ELSEWHERE}, "wrong_target"),
        ({"value": 1}, "wrong_target"),
        ({"data": call(ELSEWHERE)}, "wrong_spender"),
        ({"data": call(selector="a9059cbb")}, "wrong_selector"),  # transfer(address,uint256)
        ({"data": call() + "00"}, "wrong_selector"),
        ({"data": "0x"}, "wrong_selector"),
        ({"accessList": [{"address": TOKEN, "storageKeys": []}]}, "wrong_selector"),
        ({"account": Account.from_key("0x" + "22" * 32)}, "signer_mismatch"),
        ({"type": None, "maxFeePerGas": None, "maxPriorityFeePerGas": None, "gasPrice": 10**9},
         "parse_failed"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(PaymentRefused) as refusal:
        decode(signed(**changes))
    assert refusal.value.code == f"erc20_approval_tx_{code}"


def test_no_bytes_break_it() -> None:
    fields = rlp.decode(signed()[1:])
    broken = [
        b"\x02" + rlp.encode([*fields[:index], value, *fields[index + 1 :]])
        for index in range(len(fields))
        for value in (b"\0", b"\xff" * 33, [b"x"], b"")
    ]
    broken += [
        b"",
        b"\x02",
        b"\x02\xc0",
        b"\x02" + rlp.encode(b"x"),
        signed()[:-1],
        signed() + b"0",
    ]
    broken += [b"\x02" + secrets.token_bytes(120) for _ in range(200)]
    for raw in broken:
        try:
            found = decode(raw)
        except PaymentRefused:
            continue
        assert raw == signed(), found  # what is the same again, such as an empty access list


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({}, None),
        ({"amount": "1"}, PaymentRefused),
        ({"signedTransaction": "0x" + signed(data=call(amount=9_999)).hex(), "amount": "9999"},
         PaymentRefused),
        ({"signedTransaction": "0x" + "02" * 301}, MalformedPayment),
        ({"signedTransaction": "nonsense"}, MalformedPayment),
        ({"spender": ELSEWHERE}, PaymentRefused),
        ({"from": ELSEWHERE}, PaymentRefused),
    ],
)  # fmt: skip
def test_the_extension_says_what_the_transaction_does(changes: Any, error: Any) -> None:
    offer = Offer(
        scheme="exact", network=NETWORK, asset=TOKEN, amount=10_000, pay_to=ELSEWHERE,
        max_timeout_seconds=60, asset_name="USDC", asset_version="2", decimals=6, symbol="USDC",
        facilitator="default", transfer_method="permit2", sponsoring=SPONSOR_ERC20_APPROVAL,
    )  # fmt: skip
    permit = {
        "signature": "0x" + "01" * 65,
        "permit2Authorization": {
            "from": ACCOUNT.address,
            "permitted": {"token": TOKEN, "amount": "10000"},
            "spender": ELSEWHERE, "nonce": "1", "deadline": "1",
            "witness": {"to": ELSEWHERE, "validAfter": "0"},
        },
    }  # fmt: skip
    terms = METHODS["permit2"].read(permit, "exact")
    info = {
        "from": ACCOUNT.address, "asset": TOKEN, "spender": PERMIT2_ADDRESS, "amount": str(MOST),
        "signedTransaction": "0x" + signed().hex(), "version": "1", **changes,
    }  # fmt: skip
    extensions = {SPONSOR_ERC20_APPROVAL: {"info": info}}
    if error is not None:
        with pytest.raises(error):
            read_sponsorship(extensions, terms, offer)
        return
    sponsorship = read_sponsorship(extensions, terms, offer)
    assert sponsorship is not None
    assert sponsorship.approval(offer) == decode(signed())
    assert read_sponsorship(extensions, terms, replace(offer, sponsoring="")) is None
