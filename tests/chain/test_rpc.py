"""Errors as our own, one web3 per process, and no URL that a contract names."""

from __future__ import annotations

import os
import threading

import pytest
from web3.exceptions import ContractLogicError, TransactionNotFound

from tests.chain import support
from tests.chain.support import NETWORK, node_down
from x402_django.chain.devchain import DevChain
from x402_django.chain.rpc import get_web3, rpc_errors
from x402_django.exceptions import ConfigurationError, RpcUnavailable
from x402_django.testing.chain import running_devchain

HASH = "0x" + "ab" * 32


def block_number() -> int:
    with rpc_errors(NETWORK):
        return get_web3(NETWORK).eth.block_number


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
