"""Several questions in one request, over HTTP and to nodes that answer badly."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.chain import scripted
from tests.chain.scripted import ScriptedNode
from tests.chain.support import NETWORK, x402_settings
from x402_django.chain.batch import RpcRefused, ask
from x402_django.chain.scan import read_view
from x402_django.exceptions import RpcUnavailable

QUESTIONS = [("eth_blockNumber", []), ("eth_chainId", [])]


@pytest.fixture
def endpoint(settings):
    """An HTTP endpoint; ``say`` turns the decoded request into the answer."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        say = None

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(request)
            body = json.dumps(Handler.say(request)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    settings.X402 = x402_settings(PROVIDER=None, RPC_URLS=[url])
    Handler.seen = seen
    yield Handler
    server.shutdown()
    server.server_close()


def one(request) -> dict:
    results = {"eth_chainId": "0x539", "eth_blockNumber": "0x7"}
    return {"jsonrpc": "2.0", "id": request["id"], "result": results[request["method"]]}


def honest(request):
    return [one(r) for r in request] if isinstance(request, list) else one(request)


def test_a_batch_is_one_request_over_http(endpoint) -> None:
    endpoint.say = honest
    assert ask(NETWORK, QUESTIONS) == ["0x7", "0x539"]
    assert [isinstance(request, list) for request in endpoint.seen] == [False, True]


def test_answers_may_come_in_any_order(endpoint) -> None:
    endpoint.say = lambda r: honest(r)[::-1] if isinstance(r, list) else honest(r)
    assert ask(NETWORK, QUESTIONS) == ["0x7", "0x539"]


def test_an_endpoint_without_batches_is_asked_one_by_one(endpoint) -> None:
    no = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no batches"}}
    endpoint.say = lambda r: no if isinstance(r, list) else honest(r)
    assert ask(NETWORK, QUESTIONS) == ["0x7", "0x539"]


@pytest.mark.parametrize("answer", [[], [7], "text", [{"result": 1}]])
def test_half_an_answer_is_none(endpoint, answer) -> None:
    endpoint.say = lambda r: answer if isinstance(r, list) else honest(r)
    with pytest.raises(RpcUnavailable):
        ask(NETWORK, QUESTIONS)


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (-32000, "anything", RpcRefused),
        (-32005, "query returned more than 10000 results", RpcRefused),
        (-32005, "daily request count exceeded, request rate limited", RpcUnavailable),
    ],
)
def test_too_many_logs_is_no_rate_limit(endpoint, code, message, kind) -> None:
    error = {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message}}
    endpoint.say = lambda r: [one(r[0]), error] if isinstance(r, list) else honest(r)
    with pytest.raises(RpcUnavailable) as caught:
        ask(NETWORK, QUESTIONS)
    assert type(caught.value) is kind
    assert message not in str(caught.value)


@pytest.mark.parametrize("answer", ["0x1", {}, {"number": "x", "hash": "0x"}, {"number": "0x1"}])
def test_a_malformed_block_is_no_block(settings, monkeypatch, answer) -> None:
    settings.X402 = x402_settings(PROVIDER="tests.chain.scripted.provider")
    ScriptedNode()
    monkeypatch.setattr(ScriptedNode, "eth_getBlockByNumber", lambda *args: answer)
    assert scripted.ScriptedNode.current.head == 100
    with pytest.raises(RpcUnavailable):
        read_view(NETWORK)
