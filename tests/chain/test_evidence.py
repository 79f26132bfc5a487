"""What counts as proof, log by log, and how far back is looked for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from eth_account import Account

from tests.chain import support
from tests.chain.support import NETWORK, PRICE, SETTLER, direct, facilitator_body, node_down, sign
from tests.settings import PAY_TO
from x402_django import clock
from x402_django.chain import evidence, methods
from x402_django.chain.devchain import DevChain
from x402_django.chain.devchain.deployment import MULTICALL3_ADDRESS
from x402_django.chain.evidence import (
    authorization_state,
    authorization_used,
    chain_time,
    find_settlement,
)
from x402_django.chain.methods import transfer_in_receipt
from x402_django.exceptions import RpcUnavailable
from x402_django.testing.chain import (
    deploy_contract,
    new_payer,
    send_transaction,
    token_contract,
)
from x402_django.testing.submission import submit_authorization, transfer_call

PAYER = "0x" + "11" * 20
TOKEN = "0x" + "22" * 20
NONCE = bytes.fromhex("aa" * 32)
OTHER_NONCE = bytes.fromhex("bb" * 32)


def submit(signed) -> str:
    return submit_authorization(direct(), facilitator_body(signed))


# ------------------------------------------------------------------- on a chain


def test_a_settlement_is_found_by_its_logs(chain: DevChain) -> None:
    signed = sign(new_payer(chain, 1))
    assert find_settlement(signed) is None
    assert not authorization_used(signed)
    transaction = submit(signed)
    chain.mine(4)

    found = find_settlement(signed)

    assert found is not None
    receipt = direct().eth.get_transaction_receipt(transaction)
    assert found.transaction == transaction
    assert found.block_number == receipt["blockNumber"]
    assert found.block_hash == "0x" + receipt["blockHash"].hex().removeprefix("0x")
    assert found.log_index == 1
    assert found.confirmations == 5
    assert find_settlement(signed, transaction=transaction) == found
    assert authorization_used(signed)


def test_with_the_hash_no_logs_are_searched(chain: DevChain) -> None:
    signed = sign(new_payer(chain, 1))
    transaction = submit(signed)
    support.requests.clear()
    assert find_settlement(signed, transaction=transaction) is not None
    assert support.requests["eth_getLogs"] == 0


@pytest.mark.parametrize("hint", ["0x" + "00" * 32, "", "0x12", "not a hash", "0x" + "zz" * 32])
def test_a_wrong_hash_does_not_hide_the_settlement(chain, hint) -> None:
    signed = sign(new_payer(chain, 1))
    transaction = submit(signed)
    found = find_settlement(signed, transaction=hint)
    assert found is not None
    assert found.transaction == transaction


def test_somebody_elses_transaction_proves_nothing(chain: DevChain) -> None:
    payer = new_payer(chain, 1)
    theirs, mine = sign(payer), sign(payer)
    assert find_settlement(mine, transaction=submit(theirs)) is None


@pytest.mark.parametrize(
    "change", [{"amount": PRICE + 1}, {"pay_to": SETTLER.address}, {"asset": MULTICALL3_ADDRESS}]
)
def test_another_offer_is_not_proven(chain, change) -> None:
    signed = sign(new_payer(chain, 1))
    transaction = submit(signed)
    other = replace(signed, offer=replace(signed.offer, **change))
    receipt = direct().eth.get_transaction_receipt(transaction)
    assert transfer_in_receipt(receipt, signed) == 1
    assert transfer_in_receipt(receipt, other) is None


def test_a_cancelled_authorization_is_used_but_not_settled(chain: DevChain) -> None:
    payer = new_payer(chain, 1)
    signed = sign(payer)
    from x402_django.testing.chain import sign_for_token

    signature = sign_for_token(
        payer,
        "CancelAuthorization",
        {"authorizer": "address", "nonce": "bytes32"},
        {"authorizer": payer.address, "nonce": bytes.fromhex(signed.nonce[2:])},
    )
    cancel = token_contract(direct()).get_function_by_signature(
        "cancelAuthorization(address,bytes32,bytes)"
    )(payer.address, bytes.fromhex(signed.nonce[2:]), signature)
    call = {"to": signed.offer.asset, "data": cancel._encode_transaction_data(), "value": 0}
    send_transaction(direct(), Account.from_key(SETTLER.private_key), call)
    assert authorization_used(signed)
    assert find_settlement(signed) is None


def test_one_transaction_with_several_payments_proves_each_by_its_own_log(chain) -> None:
    payer = new_payer(chain, 1)
    payments = [sign(payer) for _ in range(3)]
    calls = [transfer_call(direct(), facilitator_body(signed)) for signed in payments]
    from x402_django.chain.devchain.artifacts import load_artifact

    multicall = direct().eth.contract(
        address=MULTICALL3_ADDRESS, abi=load_artifact("Multicall3").abi
    )
    data = multicall.functions.aggregate3(
        [(call["to"], False, call["data"]) for call in calls]
    )._encode_transaction_data()
    send_transaction(
        direct(),
        Account.from_key(SETTLER.private_key),
        {"to": MULTICALL3_ADDRESS, "data": data, "value": 0},
    )
    assert [find_settlement(signed).log_index for signed in payments] == [1, 3, 5]
    assert len({find_settlement(signed).transaction for signed in payments}) == 1
    assert chain.dollars(PAY_TO) == 3 * PRICE


@pytest.mark.parametrize("mode", [1, 3, 4, 5])
def test_a_lying_token_proves_nothing(chain, mode) -> None:
    token = deploy_contract(direct(), "LyingDollar")
    payer = new_payer(chain, 0)
    settler = Account.from_key(SETTLER.private_key)
    lying = direct().eth.contract(address=token, abi=support_abi("LyingDollar"))
    for call in (lying.functions.mint(payer.address, PRICE), lying.functions.setMode(mode)):
        data = call._encode_transaction_data()
        send_transaction(direct(), settler, {"to": token, "data": data, "value": 0})
    signed = sign(payer, token=token)
    transaction = submit(signed)
    assert direct().eth.get_transaction_receipt(transaction)["status"] == 1
    assert find_settlement(signed, transaction=transaction) is None


def support_abi(name: str):
    from x402_django.chain.devchain.artifacts import load_artifact

    return load_artifact(name).abi


def test_the_search_goes_back_in_steps_and_stops_in_time(chain, settings) -> None:
    settings.X402 = support.x402_settings(LOG_RANGE=5)
    payer = new_payer(chain, 1)
    signed = sign(payer)
    transaction = submit(signed)
    chain.mine(20)
    support.requests.clear()
    assert find_settlement(signed).transaction == transaction
    assert support.requests["eth_getLogs"] == 5

    # Blocks of an hour later: the search for "since now" ends in the first step.
    chain.advance_time(3600)
    chain.mine(10)
    support.requests.clear()
    assert find_settlement(signed, since=clock.now() + timedelta(hours=1)) is None
    assert support.requests["eth_getLogs"] == 3
    support.requests.clear()
    assert find_settlement(signed, from_block=chain.height - 2) is None
    assert support.requests["eth_getLogs"] == 1


def test_a_search_that_would_not_end_is_no_answer(chain, settings, monkeypatch) -> None:
    settings.X402 = support.x402_settings(LOG_RANGE=1)
    monkeypatch.setattr(evidence, "MAX_LOG_QUERIES", 3)
    signed = sign(new_payer(chain, 1), valid_after=0)
    submit(signed)
    chain.mine(5)
    with pytest.raises(RpcUnavailable, match="in vain"):
        find_settlement(signed)


@pytest.mark.parametrize("method", ["eth_call", "eth_getLogs", "eth_getTransactionReceipt"])
def test_without_the_node_there_is_no_answer(chain, method) -> None:
    signed = sign(new_payer(chain, 1))
    transaction = submit(signed)
    with node_down(method), pytest.raises(RpcUnavailable):
        find_settlement(signed, transaction=transaction if "Receipt" in method else None)


def test_a_contract_that_is_no_token_has_no_state(chain: DevChain) -> None:
    for address in (MULTICALL3_ADDRESS, PAY_TO):
        with pytest.raises(RpcUnavailable, match="does not say"):
            authorization_used(sign(Account.create(), token=address))


def test_state_and_time_are_of_one_block(chain: DevChain) -> None:
    signed = sign(new_payer(chain, 1))
    chain.mine()
    before = chain.height
    submit(signed)
    state = authorization_state(signed)
    assert (state.used, state.block_number) == (True, before + 1)
    assert state.timestamp == chain_time(NETWORK)
    earlier = authorization_state(signed, depth=1)
    assert (earlier.used, earlier.block_number) == (False, before)


# --------------------------------------------------------------- receipts by hand


def word(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])


def used(index, nonce=NONCE, payer=PAYER, token=TOKEN):
    topics = [methods.AUTHORIZATION_USED, word(payer), nonce]
    return {"address": token, "topics": topics, "data": b"", "logIndex": index}


def moved(index, amount=PRICE, payer=PAYER, to=PAY_TO, token=TOKEN):
    topics = [methods.TRANSFER, word(payer), word(to)]
    data = amount.to_bytes(32, "big")
    return {"address": token, "topics": topics, "data": data, "logIndex": index}


@pytest.fixture
def payment():
    signed = sign(Account.from_key("0x" + "01" * 32), payer=PAYER, token=TOKEN, nonce=NONCE)
    return signed


@pytest.mark.parametrize(
    ("logs", "index"),
    [
        ([used(4), moved(5)], 5),
        ([moved(5), used(4)], 5),
        ([used(4), moved(5), moved(6)], 5),
        ([used(4), moved(5, to=TOKEN), moved(6)], 6),
        ([used(1, OTHER_NONCE), moved(2), used(3), moved(4)], 4),
        ([used(1), moved(2), used(3, OTHER_NONCE), moved(4)], 2),
        ([used(1), used(2, OTHER_NONCE, token=PAY_TO), moved(3)], 3),
        ([], None),
        ([used(1)], None),
        ([moved(1)], None),
        ([moved(1), used(2)], None),
        ([used(1), used(2, OTHER_NONCE), moved(3)], None),
        ([used(1, OTHER_NONCE), moved(2)], None),
        ([used(1, payer=PAY_TO), moved(2)], None),
        ([used(1), moved(2, amount=PRICE - 1)], None),
        ([used(1), moved(2, amount=PRICE + 1)], None),
        ([used(1), moved(2, to=PAYER)], None),
        ([used(1), moved(2, payer=PAY_TO)], None),
        ([used(1), moved(2, token=PAY_TO)], None),
        ([used(1, token=PAY_TO), moved(2)], None),
    ],
)
def test_which_transfer_belongs_to_which_authorization(payment, logs, index) -> None:
    assert transfer_in_receipt({"status": 1, "logs": logs}, payment) == index
    assert transfer_in_receipt({"status": 0, "logs": logs}, payment) is None


def test_data_longer_than_a_word_is_no_transfer_of_that_value(payment) -> None:
    log = {**moved(2), "data": moved(2)["data"] + bytes(32)}
    assert transfer_in_receipt({"status": 1, "logs": [used(1), log]}, payment) is None
