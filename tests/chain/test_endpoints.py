"""Several endpoints of one network: who is asked, and that nothing is ever sent twice."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest

from tests.chain import support
from tests.chain.nodes import Node
from tests.chain.support import NETWORK, PRICE, SETTLER, sign, store
from tests.settings import PAY_TO
from x402_django.chain.endpoints import FailoverProvider, host_of
from x402_django.chain.rpc import get_web3, rpc_errors
from x402_django.exceptions import ConfigurationError, RpcUnavailable
from x402_django.facilitators.base import get_facilitator
from x402_django.models import ChainTransaction
from x402_django.testing.chain import new_payer, running_devchain

HASH = "0x" + "ab" * 32
NOW = 1_700_000_000


def provider() -> FailoverProvider:
    found = get_web3(NETWORK).provider
    assert isinstance(found, FailoverProvider)
    return found


def block_number() -> int:
    with rpc_errors(NETWORK):
        return get_web3(NETWORK).eth.block_number


def first_asked(*nodes: Node) -> Node:
    """Which of ``nodes`` gets the next request."""
    before = [node.asked.count("eth_blockNumber") for node in nodes]
    block_number()
    return next(
        node
        for node, count in zip(nodes, before, strict=True)
        if node.asked.count("eth_blockNumber") > count
    )


# -------------------------------------------------------------------------- passing over


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
def test_the_next_endpoint_is_asked_and_remembered(nodes, failure, caplog) -> None:
    bad, good = nodes({"eth_blockNumber": failure}, {"eth_blockNumber": "0x2a"})
    assert block_number() == 42
    assert block_number() == 42
    assert bad.asked == ["eth_chainId", "eth_blockNumber"]
    assert good.asked == ["eth_chainId", "eth_blockNumber", "eth_blockNumber"]
    (warning,) = [one for one in caplog.records if one.name == "x402_django.chain"]
    assert warning.levelno == logging.WARNING
    assert f"RPC endpoint {bad.host} of {NETWORK} gave no answer" in warning.getMessage()


def test_each_request_to_a_node_is_a_span(nodes) -> None:
    """With the endpoint's host and no more of its address, which carries the key."""
    pytest.importorskip("opentelemetry.sdk")
    from tests.spans import recorded_spans

    bad, good = nodes({"eth_blockNumber": 502}, {"eth_blockNumber": "0x2a"})
    with recorded_spans() as spans:
        assert block_number() == 42
    found = [(one.name, dict(one.attributes)) for one in spans.get_finished_spans()]
    asked = {"x402.network": NETWORK, "x402.method": "eth_blockNumber"}
    assert found == [
        ("x402.rpc", {**asked, "x402.endpoint": bad.host}),
        ("x402.rpc", {**asked, "x402.endpoint": good.host}),
    ]
    failed, answered = spans.get_finished_spans()
    assert failed.status.description == "EndpointDown"
    assert (answered.status.is_ok, answered.status.description) == (True, None)


def test_an_endpoint_that_hangs_is_waited_for_once(nodes) -> None:
    hung = threading.Event()
    bad, good = nodes({"eth_blockNumber": hung}, {"eth_blockNumber": "0x2a"})
    assert block_number() == 42
    assert block_number() == 42
    hung.set()
    assert bad.asked.count("eth_blockNumber") == 1
    assert good.asked.count("eth_blockNumber") == 2


def test_an_endpoint_that_is_down_is_passed_over(nodes) -> None:
    bad, good = nodes({}, {"eth_blockNumber": "0x2a"})
    bad.close()
    assert block_number() == 42
    assert good.asked == ["eth_chainId", "eth_blockNumber"]


def test_one_that_is_down_is_asked_again_where_all_are(nodes, caplog) -> None:
    first, second = nodes({"eth_blockNumber": 500}, {"eth_blockNumber": 500})
    with pytest.raises(RpcUnavailable):
        block_number()
    first.answers["eth_blockNumber"] = "0x2a"
    with caplog.at_level(logging.INFO, "x402_django.chain"):
        assert block_number() == 42
    assert "answers again" in caplog.text
    assert first_asked(first, second) is first


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
    assert f"{made[0].host}: HTTP 500" in str(unavailable.value)
    everything = repr(get_web3(NETWORK).provider) + str(unavailable.value) + caplog.text
    assert "very-secret-key" not in everything
    assert unavailable.value.__cause__ is None
    made[0].close()
    made[1].close()
    with pytest.raises(RpcUnavailable) as unavailable:
        block_number()
    assert "very-secret-key" not in str(unavailable.value) + caplog.text


# ------------------------------------------------------------------------ the wrong chain


def test_an_endpoint_of_another_chain_is_a_configuration_error(nodes) -> None:
    nodes({"eth_chainId": "0x2105"})
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"0\.1:\d+ serves chain 8453, not 1337\. Cor"):
            block_number()


def test_an_endpoint_of_another_chain_beside_a_right_one_is_reported_and_not_used(
    nodes, caplog
) -> None:
    wrong, right = nodes({"eth_chainId": "0x2105"}, {"eth_sendRawTransaction": HASH})
    assert send_raw()["result"] == HASH
    assert block_number() == 1
    assert (wrong.asked, right.asked.count("eth_blockNumber")) == (["eth_chainId"], 1)
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert f"{wrong.host} of {NETWORK} serves chain 8453, not 1337" in record.getMessage()

    right.answers["eth_blockNumber"] = 500
    with pytest.raises(RpcUnavailable, match=r"HTTP 500; .*serves chain 8453, not 1337"):
        block_number()


def test_an_endpoint_that_is_moved_to_another_chain_is_found_out(nodes) -> None:
    moved, other = nodes({}, {})
    assert first_asked(moved, other) is moved
    moved.answers["eth_chainId"] = "0x2105"
    provider().look_after()
    assert first_asked(moved, other) is other
    moved.answers["eth_chainId"] = "0x539"
    provider().look_after()
    assert first_asked(moved, other) is moved


def test_a_node_without_a_chain_id_is_down(nodes) -> None:
    nodes({"eth_chainId": None})
    with pytest.raises(RpcUnavailable, match="no chain id"):
        block_number()


# --------------------------------------------------------------------------- looking after


def test_one_that_is_well_again_is_asked_first_again(nodes) -> None:
    first, second = nodes({"eth_blockNumber": 500}, {})
    for node in (first, second):
        node.is_at(7, NOW)
    block_number()
    first.answers["eth_blockNumber"] = "0x2a"
    assert first_asked(first, second) is second
    provider().look_after()
    assert first_asked(first, second) is first


def test_one_that_does_not_answer_a_look_is_asked_last(nodes, caplog) -> None:
    first, second = nodes({"eth_getBlockByNumber": 502}, {})
    second.is_at(7, NOW)
    provider().look_after()
    assert first_asked(first, second) is second
    assert f"RPC endpoint {first.host} of {NETWORK} does not answer" in caplog.text
    assert "very-secret-key" not in caplog.text


@pytest.mark.parametrize(
    ("number", "timestamp", "behind"),
    [
        (90, NOW - 40, True),
        (90, NOW - 30, False),  # within RPC_MAX_LAG
        (99, NOW - 400, False),  # one block, where blocks are rare
        (98, NOW - 400, True),
        (100, NOW, False),
    ],
)
def test_a_stale_head_is_asked_after_the_others(
    nodes, caplog, number: int, timestamp: int, behind: bool
) -> None:
    first, second = nodes({}, {})
    second.is_at(100, NOW)
    first.is_at(number, timestamp)
    provider().look_after()
    assert first_asked(first, second) is (second if behind else first)
    assert (f"is {NOW - timestamp} s behind" in caplog.text) is behind

    first.is_at(100, NOW)
    provider().look_after()
    assert first_asked(first, second) is first


def test_one_that_is_behind_is_better_than_none(nodes) -> None:
    behind, current = nodes({}, {})
    behind.is_at(1, NOW - 1000)
    current.is_at(100, NOW)
    provider().look_after()
    current.answers["eth_blockNumber"] = 503
    assert block_number() == 1
    assert [node.asked.count("eth_blockNumber") for node in (behind, current)] == [1, 1]


def test_requests_have_the_endpoints_looked_after_now_and_then(nodes) -> None:
    first, second = nodes({}, {}, RPC_CHECK_INTERVAL=15)
    now = [0.0]
    asked = FailoverProvider(_settings(), monotonic=lambda: now[0])

    def looks_after_a_request() -> int:
        asked.make_request("eth_blockNumber", [])  # type: ignore[arg-type]
        for thread in threading.enumerate():
            if thread.name == f"x402 endpoints of {NETWORK}":
                thread.join(10)
        return second.asked.count("eth_getBlockByNumber")

    first.is_at(1, NOW - 1000)
    second.is_at(100, NOW)
    assert looks_after_a_request() == 1  # at once: it may be behind when the process starts
    now[0] = 14.9
    assert looks_after_a_request() == 1
    assert second.asked.count("eth_blockNumber") == 1
    now[0] = 15
    assert looks_after_a_request() == 2


def test_a_single_endpoint_is_not_looked_after(nodes) -> None:
    (only,) = nodes({}, RPC_CHECK_INTERVAL=15)
    block_number()
    time.sleep(0.1)
    assert only.asked == ["eth_chainId", "eth_blockNumber"]


def _settings() -> Any:
    from x402_django.conf import x402

    return x402.network(NETWORK)


# ------------------------------------------------------------------------------- sending


def send_raw() -> Any:
    with rpc_errors(NETWORK):
        return provider().make_request("eth_sendRawTransaction", ["0xbeef"])  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", [500, 502, 429, b"<html>", "hang"])
def test_a_second_endpoint_gets_the_same_bytes_once(nodes, loss) -> None:
    hung = threading.Event()
    bad, good = nodes(
        {"eth_sendRawTransaction": hung if loss == "hang" else loss},
        {"eth_sendRawTransaction": HASH},
    )
    assert send_raw()["result"] == HASH
    hung.set()
    assert bad.got["eth_sendRawTransaction"] == [["0xbeef"]]
    assert good.got["eth_sendRawTransaction"] == [["0xbeef"]]


@pytest.mark.parametrize("words", ["already known", "transaction already imported"])
def test_already_known_after_a_lost_answer_is_good_news(nodes, words) -> None:
    nodes(
        {"eth_sendRawTransaction": 502},
        {"eth_sendRawTransaction": {"code": -32000, "message": words}},
    )
    assert send_raw()["error"]["message"] == words


@pytest.mark.parametrize("words", ["insufficient funds", "nonce too low", "txpool is full"])
def test_a_refusal_after_a_lost_answer_is_no_refusal(nodes, words) -> None:
    """The first endpoint may have the transaction all the same."""
    nodes(
        {"eth_sendRawTransaction": 502},
        {"eth_sendRawTransaction": {"code": -32000, "message": words}},
    )
    with pytest.raises(RpcUnavailable):
        send_raw()


def test_what_one_endpoint_refuses_is_not_offered_to_another(nodes) -> None:
    refusal = {"code": -32000, "message": "insufficient funds"}
    first, second = nodes({"eth_sendRawTransaction": refusal}, {"eth_sendRawTransaction": HASH})
    assert send_raw()["error"] == refusal
    assert (first.asked.count("eth_sendRawTransaction"), second.asked) == (1, [])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("loss", [502, 429, b"<html>", "hang"])
def test_a_settlement_whose_broadcast_is_lost_is_sent_once(settings, loss) -> None:
    """The first endpoint takes the transaction and never says so; a second has the same chain."""
    hung = threading.Event()
    with running_devchain() as server:

        def take(raw: str) -> Any:
            server.chain.provider().make_request("eth_sendRawTransaction", [raw])
            return hung if loss == "hang" else loss

        lossy = Node(eth_sendRawTransaction=take, **_forwarded(server.chain))
        settings.X402 = support.x402_settings(
            PROVIDER=None, RPC_URLS=[lossy.url, server.url], RPC_TIMEOUT=1, RPC_CHECK_INTERVAL=0
        ) | {"SETTLEMENT_TIMEOUT": 20}
        signed = sign(new_payer(server.chain, 1))

        settlement = get_facilitator("default").settle(signed, store(signed))
        hung.set()
        lossy.close()

        row = ChainTransaction.objects.get()
        assert (row.hash, row.status) == (settlement.transaction, "mined")
        assert lossy.got["eth_sendRawTransaction"] == [["0x" + bytes(row.raw).hex()]]
        assert server.chain.dollars(PAY_TO) == PRICE
        count = server.chain.provider().make_request(
            "eth_getTransactionCount", [SETTLER.address, "latest"]
        )
        assert count["result"] == "0x1"


def _forwarded(chain: Any) -> dict[str, Any]:
    """All else that a settlement asks, answered by ``chain``."""
    methods = (
        "eth_blockNumber", "eth_call", "eth_estimateGas", "eth_getBlockByNumber", "eth_getCode",
        "eth_gasPrice", "eth_feeHistory", "eth_getTransactionCount", "eth_getTransactionReceipt",
        "eth_maxPriorityFeePerGas",
    )  # fmt: skip

    def forward(method: str) -> Any:
        return lambda *params: chain.provider().make_request(method, list(params))["result"]

    return {method: forward(method) for method in methods}


def test_hosts_only() -> None:
    assert host_of("https://user:pass@node.example:8545/v2/key?token=1") == "node.example:8545"
    assert host_of("https://node.example/key") == "node.example"
