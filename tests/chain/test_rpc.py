"""Failover between endpoints, errors as our own, and no key in any message."""

from __future__ import annotations

import json
import logging
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from web3.exceptions import ContractLogicError, TransactionNotFound

from tests.chain import support
from tests.chain.support import NETWORK, node_down
from x402_django.chain.devchain import DevChain
from x402_django.chain.rpc import FailoverProvider, get_web3, host_of, rpc_errors
from x402_django.exceptions import ConfigurationError, RpcUnavailable
from x402_django.testing.chain import running_devchain

HASH = "0x" + "ab" * 32


class Node:
    """A JSON-RPC endpoint that answers by script: ``answers`` maps methods to results."""

    def __init__(self, **answers: object) -> None:
        self.answers = {"eth_chainId": "0x539", **answers}
        self.asked: list[str] = []
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                node.asked.append(request["method"])
                status, body = node.answer(request)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "http://127.0.0.1:9/")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v2/very-secret-key"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, request: dict) -> tuple[int, bytes]:
        result = self.answers.get(request["method"], "0x1")
        if isinstance(result, int):
            return result, b"{}"
        if isinstance(result, bytes):
            return 200, result
        key = "error" if isinstance(result, dict) and "code" in result else "result"
        return 200, json.dumps({"jsonrpc": "2.0", "id": request["id"], key: result}).encode()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def nodes(settings):
    """Makes nodes and configures them as the endpoints of the network, in their order."""
    made: list[Node] = []

    def make(*answers: dict) -> list[Node]:
        made.extend(Node(**each) for each in answers)
        urls = [node.url for node in made]
        settings.X402 = {"NETWORKS": {NETWORK: {"RPC_URLS": urls, "RPC_TIMEOUT": 0.5}}}
        return made

    yield make
    for node in made:
        node.close()


def block_number() -> int:
    with rpc_errors(NETWORK):
        return get_web3(NETWORK).eth.block_number


@pytest.mark.parametrize(
    "failure",
    [
        500,
        502,
        429,
        403,
        308,
        b"<html>",
        b"[]",
        b"\xff\xfe",
        {"code": -32005, "message": "daily request count exceeded"},
        {"code": 429, "message": "slow down"},
    ],
    ids=str,
)
def test_the_next_endpoint_is_asked_and_remembered(nodes, failure) -> None:
    bad, good = nodes({"eth_blockNumber": failure}, {"eth_blockNumber": "0x2a"})
    assert block_number() == 42
    assert block_number() == 42
    assert bad.asked == ["eth_chainId", "eth_blockNumber"]
    assert good.asked == ["eth_chainId", "eth_blockNumber", "eth_blockNumber"]


def test_an_endpoint_that_is_down_is_passed_over(nodes) -> None:
    bad, good = nodes({}, {"eth_blockNumber": "0x2a"})
    bad.close()
    assert block_number() == 42
    assert good.asked == ["eth_chainId", "eth_blockNumber"]


def test_an_ordinary_error_is_an_answer(nodes) -> None:
    first, second = nodes({"eth_blockNumber": {"code": -32601, "message": "no such method"}}, {})
    with pytest.raises(RpcUnavailable, match="refused"):
        block_number()
    assert second.asked == []
    assert first.asked == ["eth_chainId", "eth_blockNumber"]


def test_when_none_answers_the_message_names_hosts_and_no_keys(nodes, caplog) -> None:
    caplog.set_level(logging.DEBUG, logger="x402_django")
    made = nodes({"eth_chainId": 500}, {"eth_blockNumber": 503})
    with pytest.raises(RpcUnavailable) as unavailable:
        block_number()
    port = made[0].server.server_address[1]
    assert f"127.0.0.1:{port}: HTTP 500" in str(unavailable.value)
    everything = repr(get_web3(NETWORK).provider) + str(unavailable.value) + caplog.text
    assert "very-secret-key" not in everything
    assert unavailable.value.__cause__ is None
    made[0].close()
    made[1].close()
    with pytest.raises(RpcUnavailable) as unavailable:
        block_number()
    assert "very-secret-key" not in str(unavailable.value)


def test_an_endpoint_of_another_chain_is_a_configuration_error(nodes) -> None:
    nodes({"eth_chainId": "0x2105"})
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1:\d+ serves chain 8453, not 1337"):
        block_number()


def test_a_node_without_a_chain_id_is_down(nodes) -> None:
    nodes({"eth_chainId": None})
    with pytest.raises(RpcUnavailable, match="no chain id"):
        block_number()


def send_raw() -> object:
    with rpc_errors(NETWORK):
        return FailoverProvider.make_request(
            get_web3(NETWORK).provider, "eth_sendRawTransaction", ["0x00"]
        )


def test_a_transaction_is_sent_to_the_next_endpoint_once_each(nodes) -> None:
    bad, good = nodes({"eth_sendRawTransaction": 500}, {"eth_sendRawTransaction": HASH})
    assert send_raw()["result"] == HASH
    assert bad.asked.count("eth_sendRawTransaction") == 1
    assert good.asked.count("eth_sendRawTransaction") == 1


def test_a_refusal_after_a_lost_answer_is_no_refusal(nodes) -> None:
    nodes(
        {"eth_sendRawTransaction": 502},
        {"eth_sendRawTransaction": {"code": -32000, "message": "insufficient funds"}},
    )
    with pytest.raises(RpcUnavailable):
        send_raw()


def test_errors_become_ours(chain: DevChain) -> None:
    w3 = get_web3(NETWORK)
    with pytest.raises(TransactionNotFound), rpc_errors(NETWORK):
        w3.eth.get_transaction_receipt(HASH)
    revert = {"to": support.TOKEN_ADDRESS, "data": "0xdeadbeef"}
    with pytest.raises(ContractLogicError), rpc_errors(NETWORK):
        w3.eth.call(revert)
    with pytest.raises(RpcUnavailable) as unavailable, node_down(), rpc_errors(NETWORK):
        w3.eth.block_number  # noqa: B018
    assert "secret" not in str(unavailable.value)
    assert unavailable.value.__cause__ is None
    with pytest.raises(RpcUnavailable), rpc_errors(NETWORK):
        w3.eth.get_block(10**9)


def test_running_out_of_gas_is_the_contracts_fault(chain: DevChain) -> None:
    call = {"to": support.TOKEN_ADDRESS, "data": "0x06fdde03", "gas": 100}
    with pytest.raises(ContractLogicError), rpc_errors(NETWORK):
        get_web3(NETWORK).eth.call(call)


@pytest.mark.parametrize(
    "words",
    [
        "execution reverted: FiatTokenV2: invalid signature",
        "EVM error InvalidFEOpcode",
        "EVM error: OpcodeNotFound",
        "EVM error OutOfGas(Basic)",
        "EVM error StackUnderflow",
        "EVM error StateChangeDuringStaticCall",
        "invalid opcode: INVALID",
        "Invalid opcode: 0xfe",
        "invalid jump destination",
        "stack underflow (0 <=> 2)",
        "stack limit reached 1024 (1023)",
        "write protection",
        "return data out of bounds",
        "max code size exceeded",
        "VM execution error.",
        "BadInstruction",
    ],
)
def test_what_a_contract_does_is_not_blamed_on_the_node(nodes, words) -> None:
    """A payer's wallet is a contract of the payer's choosing."""
    nodes({"eth_call": {"code": -32603, "message": words}})
    with pytest.raises(ContractLogicError), rpc_errors(NETWORK):
        get_web3(NETWORK).eth.call({"to": support.TOKEN_ADDRESS, "data": "0x"})


@pytest.mark.parametrize(
    "words", ["gas required exceeds allowance (21000)", "header not found", "database error"]
)
def test_what_the_node_lacks_is_not_blamed_on_a_contract(nodes, words) -> None:
    """The first is also said where our own wallet cannot pay for the gas."""
    nodes({"eth_call": {"code": -32000, "message": words}})
    with pytest.raises(RpcUnavailable), rpc_errors(NETWORK):
        get_web3(NETWORK).eth.call({"to": support.TOKEN_ADDRESS, "data": "0x"})


def test_one_web3_per_process_until_the_settings_change(chain, settings) -> None:
    first = get_web3(NETWORK)
    assert get_web3(NETWORK) is first
    found = []
    thread = threading.Thread(target=lambda: found.append(get_web3(NETWORK)))
    thread.start()
    thread.join()
    assert found == [first]
    settings.X402 = support.x402_settings(POLL_INTERVAL=0.01)
    assert get_web3(NETWORK) is not first


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_connects_anew(chain, monkeypatch) -> None:
    first = get_web3(NETWORK)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert get_web3(NETWORK) is not first


def test_what_is_not_configured_is_named(settings) -> None:
    settings.X402 = {"NETWORKS": {NETWORK: {}}}
    with pytest.raises(ConfigurationError, match="has no RPC_URLS"):
        get_web3(NETWORK)
    with pytest.raises(ConfigurationError, match="has no entry for 'eip155:1'"):
        get_web3("eip155:1")
    settings.X402 = {"NETWORKS": {NETWORK: {"PROVIDER": "no.such.provider"}}}
    with pytest.raises(ConfigurationError, match="cannot be imported"):
        get_web3(NETWORK)


def test_a_provider_that_is_down_at_first_is_asked_again(chain) -> None:
    with node_down(), pytest.raises(RpcUnavailable):
        get_web3(NETWORK)
    assert get_web3(NETWORK).eth.chain_id == 1337


def test_contracts_cannot_make_us_fetch_urls(chain, settings) -> None:
    assert get_web3(NETWORK).provider.global_ccip_read_enabled is False
    with running_devchain() as server:
        settings.X402 = {"NETWORKS": {NETWORK: {"RPC_URLS": [server.url]}}}
        assert get_web3(NETWORK).provider.global_ccip_read_enabled is False
        assert block_number() == server.chain.height


def test_hosts_only() -> None:
    assert host_of("https://user:pass@node.example:8545/v2/key?token=1") == "node.example:8545"
    assert host_of("https://node.example/key") == "node.example"
