"""JSON-RPC endpoints that answer by script, and that remember what they were asked."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Node:
    """``answers`` maps methods to results.

    A number is an HTTP status, bytes are the whole answer, a dict with a ``code`` is an error, an
    event is waited for, and a function is called with the parameters for any of these.
    """

    def __init__(self, **answers: object) -> None:
        head = {"number": "0x1", "timestamp": hex(1_700_000_000)}
        usual = {"eth_chainId": "0x539", "eth_getBlockByNumber": head}
        self.answers: dict[str, Any] = {**usual, **answers}
        self.asked: list[str] = []
        #: Parameters of each request, by method.
        self.got: dict[str, list[Any]] = {}
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, body = node.answer_all(request)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "http://127.0.0.1:9/")
                with suppress(BrokenPipeError):  # who asked has given up waiting
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.host}/v2/very-secret-key"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer_all(self, request: Any) -> tuple[int, bytes]:
        """The answer to one request or to a batch, in which only results and errors are of use."""
        batch = request if isinstance(request, list) else [request]
        answers = []
        for one in batch:
            self.asked.append(one["method"])
            self.got.setdefault(one["method"], []).append(one["params"])
            answers.append(self.answer(one))
        if batch is not request:
            return answers[0]
        return 200, b"[" + b",".join(body for _, body in answers) + b"]"

    def answer(self, request: dict[str, Any]) -> tuple[int, bytes]:
        result = self.answers.get(request["method"], "0x1")
        if callable(result):
            result = result(*request["params"])
        if isinstance(result, threading.Event):
            result.wait(30)
            return 500, b""
        if isinstance(result, int):
            return result, b"{}"
        if isinstance(result, bytes):
            return 200, result
        key = "error" if isinstance(result, dict) and "code" in result else "result"
        return 200, json.dumps({"jsonrpc": "2.0", "id": request["id"], key: result}).encode()

    def is_at(self, number: int, timestamp: int) -> None:
        """Its newest block from now on."""
        block = {"number": hex(number), "timestamp": hex(timestamp)}
        self.answers["eth_getBlockByNumber"] = block

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
