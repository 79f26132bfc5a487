"""A network between a buyer and a seller that loses answers, or gives its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx


@dataclass
class Flaky:
    """``plan`` says what becomes of the requests that carry a payment, one after another.

    ``"lose"``: the seller gets it, its answer is lost. A number: the seller does not get it; that
    status is the answer. ``"pass"``, and everything beyond the plan: as if it were not there.
    """

    seller: str
    plan: list[Any] = field(default_factory=list)
    #: The payments that were sent, as they were.
    payments: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def flaky(seller: str, *plan: Any) -> Iterator[Flaky]:
    """A flaky way to ``seller`` (the base of its URLs)."""
    way = Flaky(seller, list(plan))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            payment = self.headers.get("PAYMENT-SIGNATURE") or self.headers.get("X-PAYMENT")
            fate: Any = "pass"
            if payment:
                way.payments.append(payment)
                fate = way.plan.pop(0) if way.plan else "pass"
            if isinstance(fate, int):
                self.answer(fate, {"Retry-After": "0"}, b"{}")
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            sent = {k: v for k, v in self.headers.items() if k.lower() != "host"}
            got = httpx.request(
                self.command, way.seller + self.path, headers=sent, content=body, timeout=60
            )
            if fate == "lose":
                self.close_connection = True
                return
            dropped = ("transfer-encoding", "content-length", "connection", "content-encoding")
            kept = {k: v for k, v in got.headers.items() if k.lower() not in dropped}
            self.answer(got.status_code, kept, got.content)

        def do_POST(self) -> None:
            self.do_GET()

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    way.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield way
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
