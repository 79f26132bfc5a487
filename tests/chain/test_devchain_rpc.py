"""The development chain's JSON-RPC, through web3 in process and over HTTP, and byte by byte."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from web3 import HTTPProvider, Web3
from web3.exceptions import (
    BlockNotFound,
    ContractLogicError,
    TransactionNotFound,
    Web3RPCError,
)

from x402_django.chain.devchain import DevChain, DevServer, rpc
from x402_django.chain.devchain.artifacts import load_artifact
from x402_django.chain.devchain.deployment import MULTICALL3_ADDRESS, TOKEN_ADDRESS
from x402_django.chain.devchain.server import MAX_BODY, is_loopback
from x402_django.testing.chain import (
    DOLLAR,
    Authorization,
    deploy_contract,
    new_payer,
    running_devchain,
    send_transaction,
    sign_authorization,
    token_contract,
)

SELLER = to_checksum_address("0x" + "5e11e2" + 34 * "0")
TRANSFER = Web3.keccak(text="Transfer(address,address,uint256)").to_0x_hex()
USED = Web3.keccak(text="AuthorizationUsed(address,bytes32)").to_0x_hex()


@pytest.fixture(scope="module")
def server() -> Iterator[DevServer]:
    with running_devchain() as running:
        yield running


@pytest.fixture
def chain(server: DevServer) -> Iterator[DevChain]:
    snapshot = server.chain.snapshot()
    yield server.chain
    server.chain.set_automine(True)
    server.chain.revert(snapshot)


@pytest.fixture(params=["in process", "http"])
def w3(request: pytest.FixtureRequest, server: DevServer, chain: DevChain) -> Web3:
    http_provider = HTTPProvider(server.url, exception_retry_configuration=None)
    return Web3(http_provider if request.param == "http" else chain.provider())


@pytest.fixture
def submitter(chain: DevChain) -> LocalAccount:
    return Account.from_key(chain.accounts[0].private_key)


def ask(chain: DevChain, method: str, *params: Any) -> Any:
    """The result of a request; an error fails the test."""
    answer = chain.handle({"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)})
    assert "error" not in answer, answer
    return answer["result"]


def error(chain: DevChain, method: str, *params: Any) -> dict[str, Any]:
    answer = chain.handle({"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)})
    assert "result" not in answer, answer
    return dict(answer["error"])


def pay(w3: Web3, submitter: LocalAccount, payer: LocalAccount, amount: int) -> Any:
    auth = Authorization(payer.address, SELLER, amount)
    signature = sign_authorization(payer, auth)
    return send_transaction(w3, submitter, _call(w3, auth, signature))


def _call(w3: Web3, auth: Authorization, signature: bytes) -> dict[str, Any]:
    token = token_contract(w3)
    data = token.encode_abi(
        "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)",
        [*auth.arguments(), signature],
    )
    return {"to": TOKEN_ADDRESS, "data": data}


# ---------------------------------------------------------------------- web3


def test_web3_sees_an_ordinary_chain(w3: Web3, chain: DevChain) -> None:
    assert w3.is_connected()
    assert w3.client_version == "x402-devchain/py-evm"
    assert w3.eth.chain_id == 1337
    assert w3.net.version == "1337"
    assert w3.eth.syncing is False
    assert w3.eth.accounts == []
    chain.mine(2)
    head = w3.eth.block_number
    latest = w3.eth.get_block("latest")
    assert latest["number"] == head
    assert w3.eth.get_block(latest["hash"]) == latest
    assert w3.eth.get_block(head) == latest
    assert w3.eth.get_block("safe") == w3.eth.get_block("finalized") == latest
    assert w3.eth.get_block(head - 1)["hash"] == latest["parentHash"]
    assert w3.eth.get_block("earliest")["number"] == 0
    pending = w3.eth.get_block("pending")
    assert (pending["number"], pending["parentHash"]) == (head + 1, latest["hash"])
    with pytest.raises(BlockNotFound):
        w3.eth.get_block(head + 1)
    with pytest.raises(BlockNotFound):
        w3.eth.get_block("0x" + 64 * "1")
    with pytest.raises(TransactionNotFound):
        w3.eth.get_transaction("0x" + 64 * "1")
    with pytest.raises(TransactionNotFound):
        w3.eth.get_transaction_receipt("0x" + 64 * "1")


def test_web3_fills_fees_and_gas(w3: Web3, chain: DevChain, submitter: LocalAccount) -> None:
    transaction = {
        "from": submitter.address,
        "to": SELLER,
        "value": 5,
        "chainId": 1337,
        "nonce": w3.eth.get_transaction_count(submitter.address),
        "gas": w3.eth.estimate_gas({"from": submitter.address, "to": SELLER, "value": 5}),
        "maxPriorityFeePerGas": w3.eth.max_priority_fee,
        "maxFeePerGas": w3.eth.gas_price * 2,
    }
    signed = submitter.sign_transaction(transaction)
    sent = w3.eth.send_raw_transaction(signed.raw_transaction)
    receipt = w3.eth.wait_for_transaction_receipt(sent, timeout=5)

    assert sent == signed.hash
    assert (receipt["status"], receipt["gasUsed"], receipt["type"]) == (1, 21_000, 2)
    mined = w3.eth.get_transaction(sent)
    assert mined["blockHash"] == receipt["blockHash"] == w3.eth.get_block("latest")["hash"]
    assert (mined["from"], mined["to"], mined["value"]) == (submitter.address, SELLER, 5)
    block = w3.eth.get_block("latest", full_transactions=True)
    assert block["transactions"] == [mined]
    price = block["baseFeePerGas"] + 10**9
    assert receipt["effectiveGasPrice"] == mined["gasPrice"] == price
    assert w3.eth.get_balance(SELLER) == 5
    assert w3.eth.get_balance(SELLER, block["number"] - 1) == 0


def test_every_type_of_transaction(w3: Web3, chain: DevChain, submitter: LocalAccount) -> None:
    base = {"to": SELLER, "value": 1, "gas": 40_000, "chainId": 1337}
    kinds = [
        {"gasPrice": 3 * 10**9},
        {
            "gasPrice": 3 * 10**9,
            "accessList": [{"address": SELLER, "storageKeys": ["0x" + 64 * "1"]}],
        },
        {"maxFeePerGas": 3 * 10**9, "maxPriorityFeePerGas": 1},
    ]
    nonce = w3.eth.get_transaction_count(submitter.address)
    for kind, fees in enumerate(kinds):
        signed = submitter.sign_transaction({**base, **fees, "nonce": nonce + kind})
        sent = w3.eth.send_raw_transaction(signed.raw_transaction)
        mined = w3.eth.get_transaction(sent)
        assert mined["type"] == kind
        assert w3.eth.get_transaction_receipt(sent)["type"] == kind
        assert (int(mined["r"].hex(), 16), int(mined["s"].hex(), 16)) == (signed.r, signed.s)
    assert w3.eth.get_balance(SELLER) == 3


def test_contract_creation(w3: Web3, submitter: LocalAccount) -> None:
    address = deploy_contract(w3, "TestDollar")
    code = w3.eth.get_code(to_checksum_address(address))
    assert code.to_0x_hex() == load_artifact("TestDollar").deployed_bytecode
    assert token_contract(w3, address).functions.symbol().call() == "TUSD"


def test_reverts_carry_their_reason_and_data(w3: Web3, chain: DevChain) -> None:
    payer = new_payer(chain, 1)
    auth = Authorization(payer.address, SELLER, 2 * DOLLAR)
    call = _call(w3, auth, sign_authorization(payer, auth))
    reason = "ERC20: transfer amount exceeds balance"
    for simulate in (w3.eth.call, w3.eth.estimate_gas):
        with pytest.raises(ContractLogicError) as caught:
            simulate(call)
        assert caught.value.message == f"execution reverted: {reason}"
        assert str(caught.value.data).startswith("0x08c379a0")
        assert reason.encode().hex() in str(caught.value.data)


def test_batch_of_requests(w3: Web3, chain: DevChain) -> None:
    chain.mint(SELLER, 3)
    token = token_contract(w3)
    with w3.batch_requests() as batch:
        batch.add(w3.eth.get_block("latest"))
        batch.add(token.functions.balanceOf(SELLER))
        batch.add(w3.eth.get_balance(SELLER))
        block, dollars, wei = batch.execute()
    assert (block["number"], dollars, wei) == (chain.height, 3, 0)


def test_logs_by_range_address_and_topics(
    w3: Web3, chain: DevChain, submitter: LocalAccount
) -> None:
    first, second = new_payer(chain, 1), new_payer(chain, 1)
    start = chain.height + 1
    receipts = [pay(w3, submitter, first, 1), pay(w3, submitter, second, 2)]
    pay(w3, submitter, first, 3)
    padded = {
        account: "0x" + account.address[2:].lower().rjust(64, "0") for account in (first, second)
    }
    seller = "0x" + SELLER[2:].lower().rjust(64, "0")

    def logs(**query: Any) -> list[Any]:
        return list(w3.eth.get_logs({"fromBlock": start, "toBlock": "latest", **query}))

    assert len(logs()) == 6
    assert len(logs(address=TOKEN_ADDRESS)) == 6
    assert len(logs(address=[SELLER, TOKEN_ADDRESS])) == 6
    assert logs(address=SELLER) == []
    assert len(logs(topics=[USED])) == 3
    assert len(logs(topics=[[USED, TRANSFER]])) == 6
    assert len(logs(topics=[None, padded[first]])) == 4
    assert len(logs(topics=[TRANSFER, None, seller])) == 3
    assert len(logs(topics=[TRANSFER, [padded[first], padded[second]], seller])) == 3
    assert logs(topics=[TRANSFER, seller]) == []
    assert logs(topics=[None, None, None, seller]) == []
    assert len(logs(toBlock=start)) == 2
    assert len(logs(toBlock=start + 10_000)) == 6
    assert len(w3.eth.get_logs({})) == 2  # the newest block alone
    by_hash = w3.eth.get_logs({"blockHash": receipts[1]["blockHash"]})
    assert by_hash == receipts[1]["logs"]


def test_logs_are_numbered_through_the_block(
    w3: Web3, chain: DevChain, submitter: LocalAccount
) -> None:
    payer = new_payer(chain, 1)
    chain.set_automine(False)
    nonce = w3.eth.get_transaction_count(submitter.address)
    for offset in range(2):
        auth = Authorization(payer.address, SELLER, offset)
        fields = _call(w3, auth, sign_authorization(payer, auth))
        signed = submitter.sign_transaction(
            {
                **fields,
                "nonce": nonce + offset,
                "gas": 200_000,
                "gasPrice": 10**10,
                "chainId": 1337,
            }
        )
        w3.eth.send_raw_transaction(signed.raw_transaction)
    chain.mine()
    block = w3.eth.get_block("latest")
    receipts = [w3.eth.get_transaction_receipt(sent) for sent in block["transactions"]]
    logs = w3.eth.get_logs({"blockHash": block["hash"]})

    assert [log["logIndex"] for log in logs] == [0, 1, 2, 3]
    assert [log["transactionIndex"] for log in logs] == [0, 0, 1, 1]
    assert [log["transactionHash"] for log in logs] == [
        receipt["transactionHash"] for receipt in receipts for _ in range(2)
    ]
    assert {log["blockHash"] for log in logs} == {block["hash"]}
    assert {log["removed"] for log in logs} == {False}
    assert receipts[1]["logs"] == logs[2:]
    assert receipts[1]["cumulativeGasUsed"] == sum(receipt["gasUsed"] for receipt in receipts)
    assert block["gasUsed"] == receipts[1]["cumulativeGasUsed"]
    assert ask(chain, "eth_getBlockReceipts", "latest") == [
        ask(chain, "eth_getTransactionReceipt", sent.to_0x_hex()) for sent in block["transactions"]
    ]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"fromBlock": "0x2", "toBlock": "0x1"}, "invalid block range params"),
        ({"blockHash": "0x" + 64 * "1"}, "unknown block"),
        ({"blockHash": "0x" + 64 * "1", "fromBlock": "0x1"}, "cannot specify both"),
        ({"address": "0x12"}, "20 bytes wanted"),
        ({"topics": ["0x12"]}, "32 bytes wanted"),
        ({"topics": [None] * 5}, "exceed max topics"),
        ({"topics": "all"}, "exceed max topics"),
        ("latest", "filter object wanted"),
    ],
)
def test_bad_log_filters(chain: DevChain, query: Any, message: str) -> None:
    assert message in error(chain, "eth_getLogs", query)["message"]


# ------------------------------------------------------------------ execution


def test_call_sees_the_present_not_the_newest_block(chain: DevChain) -> None:
    """An idle chain's newest block is old; an authorization signed since must simulate well."""
    w3 = Web3(chain.provider())
    payer = new_payer(chain, 1)
    chain.advance_time(10_000)
    auth = Authorization(payer.address, SELLER, 1, chain.now() - 60, chain.now() + 60)
    call = _call(w3, auth, sign_authorization(payer, auth))
    w3.eth.call(call)
    with pytest.raises(ContractLogicError, match="authorization is not yet valid"):
        w3.eth.call(call, chain.height - 1)


def test_calls_leave_no_trace(chain: DevChain) -> None:
    w3 = Web3(chain.provider())
    mint = token_contract(w3).encode_abi("mint", [SELLER, 5])
    w3.eth.call({"to": TOKEN_ADDRESS, "data": mint})
    w3.eth.estimate_gas({"to": TOKEN_ADDRESS, "data": mint})
    assert chain.dollars(SELLER) == 0


def test_call_without_recipient_runs_code(chain: DevChain) -> None:
    """How viem asks counterfactual questions; the code returns the word 42."""
    assert ask(chain, "eth_call", {"data": "0x602a60005260206000f3"}) == "0x" + 62 * "0" + "2a"


@pytest.mark.parametrize(
    ("code", "message"),
    [("0xfe", "InvalidInstruction"), ("0x5b600056", "OutOfGas")],
)
def test_machine_errors_are_not_reverts(chain: DevChain, code: str, message: str) -> None:
    failure = error(chain, "eth_call", {"data": code, "gas": "0x186a0"})
    assert failure["code"] == -32000
    assert failure["message"].startswith(message)
    assert "data" not in failure


def test_revert_without_reason(chain: DevChain) -> None:
    failure = error(chain, "eth_call", {"data": "0x60006000fd"})
    assert failure == {"code": 3, "message": "execution reverted", "data": "0x"}


def test_value_needs_a_balance(chain: DevChain) -> None:
    failure = error(chain, "eth_call", {"to": SELLER, "value": "0x1"})
    assert failure["code"] == -32000
    rich = chain.accounts[0].address
    assert ask(chain, "eth_call", {"from": rich, "to": SELLER, "value": "0x1"}) == "0x"


def test_gas_estimates_suffice_and_are_close(chain: DevChain, submitter: LocalAccount) -> None:
    w3 = Web3(chain.provider())
    payer = new_payer(chain, 1)
    auth = Authorization(payer.address, SELLER, 1)
    transfer = _call(w3, auth, sign_authorization(payer, auth))
    multicall = w3.eth.contract(
        address=to_checksum_address(MULTICALL3_ADDRESS), abi=load_artifact("Multicall3").abi
    )
    nested = multicall.encode_abi("aggregate", [[(TOKEN_ADDRESS, transfer["data"])]])
    for call in (
        {"to": MULTICALL3_ADDRESS, "data": nested},
        {"data": load_artifact("TestDollar").bytecode},
        {"to": SELLER, "value": 1, "data": "0x" + "ff" * 100},
    ):
        snapshot = chain.snapshot()
        estimate = w3.eth.estimate_gas({**call, "from": submitter.address})
        receipt = send_transaction(w3, submitter, {**call, "gas": estimate})
        assert receipt["status"] == 1
        assert receipt["gasUsed"] <= estimate <= receipt["gasUsed"] * 1.1
        chain.revert(snapshot)


def test_state_can_be_read_at_any_block(chain: DevChain) -> None:
    w3 = Web3(chain.provider())
    token = token_contract(w3)
    chain.mint(SELLER, 5)
    before = chain.height
    chain.mint(SELLER, 6)
    assert token.functions.balanceOf(SELLER).call(block_identifier=before) == 5
    assert token.functions.balanceOf(SELLER).call() == 11
    old = w3.eth.get_block(before)["hash"].to_0x_hex()
    call = {"to": TOKEN_ADDRESS, "data": token.encode_abi("balanceOf", [SELLER])}
    assert int(ask(chain, "eth_call", call, {"blockHash": old}), 16) == 5
    assert int(ask(chain, "eth_call", call, {"blockNumber": hex(before)}), 16) == 5
    assert error(chain, "eth_call", call, hex(before + 9))["message"] == "header not found"
    supply = ask(chain, "eth_getStorageAt", TOKEN_ADDRESS, "0x0", "latest")
    assert int(supply, 16) == token.functions.totalSupply().call()


def test_fee_history(chain: DevChain) -> None:
    chain.mine(3)
    chain.fund(SELLER, 1)
    history = Web3(chain.provider()).eth.fee_history(2, "latest", [0, 50, 100])
    assert history["oldestBlock"] == chain.height - 1
    assert len(history["baseFeePerGas"]) == 3
    assert history["gasUsedRatio"] == [0.0, 21_000 / 30_000_000]
    assert history["reward"] == [[0, 0, 0], [10**9] * 3]


# ---------------------------------------------------------------- Multicall3


def test_multicall_isolates_a_failing_call(chain: DevChain, submitter: LocalAccount) -> None:
    w3 = Web3(chain.provider())
    token = token_contract(w3)
    multicall = w3.eth.contract(
        address=to_checksum_address(MULTICALL3_ADDRESS), abi=load_artifact("Multicall3").abi
    )
    payers = [new_payer(chain, 1), new_payer(chain, 0), new_payer(chain, 1)]
    auths = [Authorization(payer.address, SELLER, DOLLAR) for payer in payers]
    datas = [
        _call(w3, auth, sign_authorization(payer, auth))["data"]
        for payer, auth in zip(payers, auths, strict=True)
    ]
    tries = [(TOKEN_ADDRESS, data) for data in datas]
    reason = b"ERC20: transfer amount exceeds balance".hex()

    results = multicall.functions.tryAggregate(False, tries).call()
    assert [success for success, _ in results] == [True, False, True]
    assert reason in results[1][1].hex()
    number, block_hash, results = multicall.functions.tryBlockAndAggregate(False, tries).call()
    assert (number, block_hash, len(results)) == (chain.height, bytes(32), 3)
    for strict in (
        multicall.functions.aggregate(tries),
        multicall.functions.tryAggregate(True, tries),
        multicall.functions.blockAndAggregate(tries),
        multicall.functions.aggregate3([(TOKEN_ADDRESS, False, data) for data in datas]),
    ):
        with pytest.raises(ContractLogicError, match="Multicall3: call failed"):
            strict.call()

    data = multicall.encode_abi("aggregate3", [[(TOKEN_ADDRESS, True, data) for data in datas]])
    receipt = send_transaction(w3, submitter, {"to": MULTICALL3_ADDRESS, "data": data})

    assert receipt["status"] == 1
    used = [
        log["topics"][1][-20:] for log in receipt["logs"] if log["topics"][0].to_0x_hex() == USED
    ]
    assert used == [bytes.fromhex(payers[n].address[2:]) for n in (0, 2)]
    assert token.functions.balanceOf(SELLER).call() == 2 * DOLLAR


def test_multicall_with_value(chain: DevChain, submitter: LocalAccount) -> None:
    w3 = Web3(chain.provider())
    multicall = w3.eth.contract(
        address=to_checksum_address(MULTICALL3_ADDRESS), abi=load_artifact("Multicall3").abi
    )
    calls = [(SELLER, False, 3, b""), (TOKEN_ADDRESS, True, 4, b"")]  # a token takes no ether
    pay_seven = multicall.functions.aggregate3Value(calls)
    results = pay_seven.call({"from": submitter.address, "value": 7})
    assert [success for success, _ in results] == [True, False]
    with pytest.raises(ContractLogicError, match="Multicall3: value mismatch"):
        pay_seven.call({"from": submitter.address, "value": 8})


def test_multicall_tells_about_the_block(chain: DevChain) -> None:
    w3 = Web3(chain.provider())
    functions = w3.eth.contract(
        address=to_checksum_address(MULTICALL3_ADDRESS), abi=load_artifact("Multicall3").abi
    ).functions
    chain.mine(2)
    head = w3.eth.get_block("latest")
    rich = chain.accounts[3].address
    assert functions.getBlockNumber().call() == head["number"]
    assert functions.getLastBlockHash().call() == head["parentHash"]
    assert (
        functions.getBlockHash(head["number"] - 2).call()
        == w3.eth.get_block(head["number"] - 2)["hash"]
    )
    assert functions.getChainId().call() == 1337
    assert functions.getBasefee().call() == head["baseFeePerGas"]
    assert functions.getCurrentBlockGasLimit().call() == head["gasLimit"]
    assert functions.getCurrentBlockTimestamp().call() >= head["timestamp"]
    assert functions.getCurrentBlockCoinbase().call() == head["miner"]
    assert functions.getEthBalance(rich).call() == 10_000 * 10**18


# ------------------------------------------------------------------- wire


def test_malformed_requests(chain: DevChain) -> None:
    def answer(body: bytes) -> Any:
        return json.loads(rpc.handle_bytes(chain, body))

    assert answer(b"{")["error"]["code"] == -32700
    assert answer(b"[]")["error"] == {"code": -32600, "message": "empty batch"}
    assert answer(b"5")["error"]["code"] == -32600
    assert [one["error"]["code"] for one in answer(b"[1, {}]")] == [-32600, -32600]
    named = b'{"jsonrpc":"2.0","id":"x","method":"eth_chainId","params":{"a":1}}'
    assert answer(named)["error"]["code"] == -32602
    assert answer(b'{"jsonrpc":"2.0","id":"x","method":"eth_chainId"}') == {
        "jsonrpc": "2.0",
        "id": "x",
        "result": "0x539",
    }


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("eth_mint", [], -32601),
        ("eth_getBalance", [], -32602),
        ("eth_chainId", [1], -32602),
        ("eth_getBalance", ["0x12", "latest"], -32602),
        ("eth_getBalance", ["zz" * 20, "latest"], -32602),
        ("eth_getBalance", [SELLER, "newest"], -32602),
        ("eth_getBalance", [SELLER, True], -32602),
        ("eth_getBalance", [SELLER, "-0x1"], -32602),
        ("eth_getBalance", [SELLER, "0xffff"], -32000),
        ("eth_getTransactionByHash", ["0x12"], -32602),
        ("eth_sendRawTransaction", ["0x"], -32000),
        ("eth_sendRawTransaction", ["0xzz"], -32602),
        ("eth_call", ["0x"], -32602),
        ("eth_call", [{"to": SELLER, "accessList": [{}]}], -32602),
        ("evm_setNextBlockTimestamp", ["0x1"], -32602),
        ("anvil_mine", [1_001], -32602),
        ("dev_mint", ["0x12", 1], -32602),
        ("dev_reorg", [1_000], -32602),
    ],
)
def test_bad_parameters(chain: DevChain, method: str, params: list[Any], code: int) -> None:
    assert error(chain, method, *params)["code"] == code


def test_a_bug_is_answered_without_details(
    chain: DevChain, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(chain, "mint", lambda *args: 1 // 0)
    assert error(chain, "dev_mint", SELLER, 1) == {"code": -32603, "message": "internal error"}
    assert "ZeroDivisionError" in caplog.text


def test_methods_for_tests(chain: DevChain) -> None:
    start = chain.height
    snapshot = ask(chain, "evm_snapshot")
    ask(chain, "evm_mine")
    ask(chain, "anvil_mine", "0x2")
    assert ask(chain, "eth_blockNumber") == hex(start + 3)
    assert ask(chain, "evm_setAutomine", False) is True
    ask(chain, "dev_mint", SELLER, "0x5")
    ask(chain, "dev_fund", SELLER, 9)
    assert chain.dollars(SELLER) == 5
    assert ask(chain, "eth_getBalance", SELLER) == "0x9"
    before = chain.now()
    assert ask(chain, "evm_increaseTime", 500) == "0x1f4"
    assert chain.now() >= before + 500
    later = chain.now() + 1_000
    ask(chain, "evm_mine", hex(later))
    assert ask(chain, "eth_getBlockByNumber", "latest", False)["timestamp"] == hex(later)
    ask(chain, "dev_reorg", 1)
    assert ask(chain, "evm_revert", snapshot) is True
    assert ask(chain, "evm_revert", snapshot) is False
    assert chain.height == start
    assert ask(chain, "anvil_dropTransaction", "0x" + 64 * "1") is None
    assert ask(chain, "anvil_dropAllTransactions") is None
    assert ask(chain, "evm_setIntervalMining", 0) is True


def test_geth_words_for_transactions_sent_twice(
    w3: Web3, chain: DevChain, submitter: LocalAccount
) -> None:
    nonce = w3.eth.get_transaction_count(submitter.address)
    signed = submitter.sign_transaction(
        {
            "to": SELLER,
            "value": 1,
            "gas": 21_000,
            "gasPrice": 10**10,
            "nonce": nonce,
            "chainId": 1337,
        }
    )
    chain.set_automine(False)
    w3.eth.send_raw_transaction(signed.raw_transaction)
    with pytest.raises(Web3RPCError, match="already known"):
        w3.eth.send_raw_transaction(signed.raw_transaction)
    assert w3.eth.get_transaction(signed.hash)["blockNumber"] is None
    chain.mine()
    with pytest.raises(Web3RPCError, match="nonce too low"):
        w3.eth.send_raw_transaction(signed.raw_transaction)


# ----------------------------------------------------------------------- HTTP


def test_many_threads_pay_at_once(server: DevServer, chain: DevChain) -> None:
    """8 threads, each its own wallet and connection: nothing is lost, nothing is counted twice."""
    start = chain.height

    def buy(index: int) -> None:
        w3 = Web3(HTTPProvider(server.url))
        submitter = Account.from_key(chain.accounts[index].private_key)
        payer = new_payer(chain, 1)
        for amount in range(1, 6):
            assert pay(w3, submitter, payer, amount)["status"] == 1
            assert w3.eth.get_balance(submitter.address) > 0

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(buy, range(8)))

    assert chain.dollars(SELLER) == 8 * 15
    assert chain.height == start + 8 * 6
    logs = ask(chain, "eth_getLogs", {"fromBlock": hex(start + 1), "topics": [USED]})
    assert len({log["transactionHash"] for log in logs}) == 40


def test_connections_are_kept_alive(server: DevServer, chain: DevChain) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]))
    sockets = set()
    for _ in range(3):
        connection.request("POST", "/", b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}')
        response = connection.getresponse()
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/json"
        assert json.loads(response.read())["result"] == "0x539"
        sockets.add(connection.sock)
    assert len(sockets) == 1
    connection.close()


def test_other_requests_are_refused(server: DevServer) -> None:
    def status(method: str, **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]))
        connection.putrequest(method, "/")
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        code = connection.getresponse().status
        connection.close()
        return code

    assert status("GET") == 501
    assert status("POST") == 411
    assert status("POST", Content_Length="ten") == 411
    assert status("POST", Content_Length=str(MAX_BODY + 1)) == 413


def test_server_stops_with_idle_connections_open() -> None:
    with running_devchain() as server:
        connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]))
        connection.request("POST", "/", b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}')
        connection.getresponse().read()
    assert not Web3(HTTPProvider(server.url)).is_connected()
    connection.close()


def test_ipv6() -> None:
    try:
        server = DevServer(DevChain(), "::1")
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with server:
        assert server.url.startswith("http://[::1]:")
        assert Web3(HTTPProvider(server.url)).eth.chain_id == 1337


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("192.168.1.5", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
