"""Which logs of a receipt are plain transfers to the payee."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chain.support import NETWORK, direct, facilitator_body, node_down, sign
from tests.settings import PAY_TO
from x402_django.chain import transfers
from x402_django.chain.devchain import DevChain
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS
from x402_django.chain.methods import AUTHORIZATION_USED, TRANSFER
from x402_django.chain.transfers import Transfer, plain_transfers
from x402_django.exceptions import RpcUnavailable
from x402_django.testing.chain import deploy_smart_wallet, new_payer
from x402_django.testing.submission import submit_authorization

PAYER = "0x" + "11" * 20
OTHER = "0x" + "22" * 20
TOKEN = "0x" + "33" * 20


def word(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])


def moved(sender: str, to: str, value: int, index: int, token: str = TOKEN) -> dict[str, Any]:
    return {
        "address": token,
        "topics": [TRANSFER, word(sender), word(to)],
        "data": value.to_bytes(32, "big"),
        "logIndex": index,
    }


def used(authorizer: str, index: int) -> dict[str, Any]:
    topics = [AUTHORIZATION_USED, word(authorizer), bytes(32)]
    return {"address": TOKEN, "topics": topics, "data": b"", "logIndex": index}


def indexes(*logs: dict[str, Any]) -> list[int]:
    return [one.log_index for one in plain_transfers({"logs": logs}, TOKEN, PAY_TO)]


def test_a_plain_transfer() -> None:
    (found,) = plain_transfers({"logs": [moved(PAYER, PAY_TO, 2**255, 3)]}, TOKEN, PAY_TO)
    assert found == Transfer("0x1111111111111111111111111111111111111111", 2**255, 3)


def test_others_are_left_out() -> None:
    assert indexes(
        moved(PAYER, OTHER, 5, 0),
        moved(PAYER, PAY_TO, 5, 1, token=OTHER),
        {**moved(PAYER, PAY_TO, 5, 2), "topics": [TRANSFER, word(PAYER), word(PAY_TO), bytes(32)]},
        {**moved(PAYER, PAY_TO, 5, 3), "data": b""},
        {**moved(PAYER, PAY_TO, 5, 4), "topics": []},
    ) == []  # fmt: skip


def test_what_belongs_to_an_authorization_is_left_out() -> None:
    assert indexes(used(PAYER, 0), moved(PAYER, PAY_TO, 5, 1)) == []
    assert indexes(used(PAYER, 0), moved(PAYER, PAY_TO, 5, 1), moved(PAYER, PAY_TO, 5, 2)) == [2]
    assert indexes(used(PAYER, 0), moved(PAYER, OTHER, 5, 1), moved(PAYER, PAY_TO, 5, 2)) == [2]
    assert indexes(used(OTHER, 0), moved(PAYER, PAY_TO, 5, 1)) == [1]
    assert indexes(moved(PAYER, PAY_TO, 5, 1), used(PAYER, 2), moved(PAYER, PAY_TO, 5, 3)) == [1]
    # in the order of their numbers, whatever the order of the list
    assert indexes(moved(PAYER, PAY_TO, 5, 1), used(PAYER, 0)) == []
    odd = {**used(PAYER, 0), "topics": [AUTHORIZATION_USED]}
    assert indexes(odd, moved(PAYER, PAY_TO, 5, 1)) == [1]


def test_a_settled_payment_holds_no_plain_transfer(chain: DevChain) -> None:
    transaction = submit_authorization(direct(), facilitator_body(sign(new_payer(chain, 1))))
    mined = transfers.read_transfers(NETWORK, transaction, asset=TOKEN_ADDRESS, pay_to=PAY_TO)
    assert mined is not None
    assert (mined.succeeded, mined.transfers, mined.confirmations) == (True, (), 1)
    block = direct().eth.get_block("latest")
    assert (mined.block_number, mined.timestamp) == (block["number"], block["timestamp"])
    assert mined.block_hash == "0x" + bytes(block["hash"]).hex()
    assert transfers.is_block(NETWORK, mined.block_number, mined.block_hash) is True
    assert transfers.is_block(NETWORK, mined.block_number, "0x" + "00" * 32) is False
    assert transfers.is_block(NETWORK, mined.block_number + 1, mined.block_hash) is None


def test_what_is_not_there(chain: DevChain) -> None:
    unknown = "0x" + "ab" * 32
    assert transfers.read_transfers(NETWORK, unknown, asset=TOKEN_ADDRESS, pay_to=PAY_TO) is None
    assert transfers.sender_of_known(NETWORK, unknown) is None


def test_only_the_wallet_itself_signs(chain: DevChain) -> None:
    owner, stranger = new_payer(chain, 0, wei=10**18), new_payer(chain, 0)
    wallet = deploy_smart_wallet(direct(), owner.address)
    digest = bytes(range(32))
    signature = bytes(owner.unsafe_sign_hash(digest).signature)
    foreign = bytes(stranger.unsafe_sign_hash(digest).signature)
    ask = transfers.signed_by_contract
    assert ask(NETWORK, wallet, digest, signature)
    assert not ask(NETWORK, wallet, digest, foreign)
    assert not ask(NETWORK, wallet, digest, signature + b"\0")
    assert not ask(NETWORK, wallet, digest, b"\1")
    assert not ask(NETWORK, stranger.address, digest, foreign)  # no code there
    assert not ask(NETWORK, TOKEN_ADDRESS, digest, signature)  # a contract of another kind


def test_a_node_that_is_down_says_nothing(chain: DevChain) -> None:
    with node_down():
        for ask in (
            lambda: transfers.read_transfers(
                NETWORK, "0x" + "ab" * 32, asset=TOKEN_ADDRESS, pay_to=PAY_TO
            ),
            lambda: transfers.sender_of_known(NETWORK, "0x" + "ab" * 32),
            lambda: transfers.is_block(NETWORK, 1, "0x"),
            lambda: transfers.signed_by_contract(NETWORK, PAY_TO, bytes(32), b"\1"),
        ):
            with pytest.raises(RpcUnavailable):
                ask()
