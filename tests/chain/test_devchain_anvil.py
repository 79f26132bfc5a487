"""The development chain against a real node: what clients see must not depend on which it is.

Needs Anvil on the PATH, or its path in the environment variable ``ANVIL``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from eth_account import Account
from eth_utils.address import to_checksum_address
from web3 import HTTPProvider, Web3

from tests.chain.anvil import running_anvil
from x402_django.chain.devchain import DevChain
from x402_django.chain.devchain.artifacts import load_artifact
from x402_django.chain.devchain.deployment import DEPLOYED, TOKEN_ADDRESS
from x402_django.testing.chain import (
    DOLLAR,
    Authorization,
    deploy_smart_wallet,
    install_contracts,
    send_transaction,
    sign_authorization,
    token_contract,
)

pytestmark = pytest.mark.anvil

EXTRAS = {"blobGasPrice", "blobGasUsed", "blockTimestamp", "root"}
"""Fields that Anvil adds to the specification's."""


@pytest.fixture(scope="module")
def anvil() -> Iterator[Web3]:
    """A fresh Anvil with the devchain's contracts."""
    with running_anvil() as url:
        w3 = Web3(HTTPProvider(url))
        install_contracts(w3)
        yield w3


@pytest.fixture
def both(anvil: Web3) -> list[Web3]:
    return [anvil, Web3(DevChain().provider())]


def test_contracts_are_at_the_same_addresses(anvil: Web3) -> None:
    install_contracts(anvil)  # once more is harmless
    for address, name in DEPLOYED.items():
        code = anvil.eth.get_code(to_checksum_address(address)).to_0x_hex()
        assert code == load_artifact(name).deployed_bytecode


@pytest.mark.parametrize("wallet", ["eoa", "eip-1271"])
def test_a_payment_looks_the_same(both: list[Web3], wallet: str) -> None:
    owner, submitter, seller = Account.create(), Account.create(), Account.create().address
    nonce = os.urandom(32)
    seen = []
    for w3 in both:
        rich = Account.from_key(_rich_key())
        send_transaction(w3, rich, {"to": submitter.address, "value": 10**18})
        address = owner.address if wallet == "eoa" else deploy_smart_wallet(w3, owner.address)
        token = token_contract(w3)
        mint = {"to": TOKEN_ADDRESS, "data": token.encode_abi("mint", [address, DOLLAR])}
        send_transaction(w3, rich, mint)
        auth = Authorization(address, seller, DOLLAR, nonce=nonce)
        signature = sign_authorization(owner, auth)
        pay = {"to": TOKEN_ADDRESS, "data": _encode(token, auth, signature)}
        receipt = send_transaction(w3, submitter, pay)
        seen.append(
            {
                "status": receipt["status"],
                "gas": receipt["gasUsed"],
                "logs": [(log["address"], log["topics"], log["data"]) for log in receipt["logs"]],
                "fields": sorted(set(receipt) - EXTRAS),
                "log fields": sorted(set(receipt["logs"][0]) - EXTRAS),
                "replay": _error(w3, "eth_call", {**pay, "from": submitter.address}),
            }
        )
    assert seen[0] == seen[1]
    assert seen[1]["replay"]["message"] == (
        "execution reverted: FiatTokenV2: authorization is used or canceled"
    )


def test_rejections_have_the_same_code(both: list[Web3]) -> None:
    codes = []
    for w3 in both:
        account = Account.from_key(_rich_key())
        nonce = w3.eth.get_transaction_count(account.address)
        base = {
            "to": account.address,
            "value": 1,
            "gas": 21_000,
            "gasPrice": 10**10,
            "chainId": 1337,
        }
        good = account.sign_transaction({**base, "nonce": nonce}).raw_transaction
        w3.eth.wait_for_transaction_receipt(w3.eth.send_raw_transaction(good))
        poor = Account.from_key(b"\x12" * 32).sign_transaction({**base, "nonce": 0})
        codes.append(
            [
                _error(w3, "eth_sendRawTransaction", raw.to_0x_hex())["code"]
                for raw in (good, poor.raw_transaction)
            ]
        )
    assert codes[1] == [-32000, -32000]
    assert {code < 0 for code in codes[0]} == {True}


def _rich_key() -> str:
    return DevChain().accounts[4].private_key


def _encode(token: Any, auth: Authorization, signature: bytes) -> str:
    name = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"
    return str(token.encode_abi(name, [*auth.arguments(), signature]))


def _error(w3: Web3, method: str, *params: Any) -> dict[str, Any]:
    if method == "eth_call":
        params = (*params, "latest")
    answer: Any = w3.provider.make_request(method, list(params))  # type: ignore[arg-type]
    assert "error" in answer, answer
    return dict(answer["error"])
