"""JSON-RPC over HTTP: a ``DevChain`` for other processes on this machine."""

from __future__ import annotations

import ipaddress
import logging
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self

from .chain import DevChain
from .rpc import handle_bytes

logger = logging.getLogger(__name__)

MAX_BODY = 4 * 2**20
"""Bytes a request may have; a batch of a thousand transactions fits."""

IDLE_SECONDS = 30
"""How long a kept-alive connection may be silent."""


def is_loopback(host: str) -> bool:
    """Whether a server on ``host`` can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class DevServer:
    """Serves ``chain`` on ``http://host:port/``; port 0 takes a free one.

    A context manager: listening inside, stopped outside. Raises ``OSError`` if it cannot listen.
    """

    def __init__(self, chain: DevChain, host: str = "127.0.0.1", port: int = 0) -> None:
        self.chain = chain
        self._http = _HttpServer((host, port), chain)
        self._thread = Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._http.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def start(self) -> None:
        """Answer requests in threads of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; answers under way are finished."""
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # idle kept-alive connections must not hold up the end
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], chain: DevChain) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)
        self.chain = chain

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up or falls silent is nothing to print a stack for."""
        logger.debug("connection of %s ended", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    wbufsize = -1  # one write, hence one packet, per answer
    server: _HttpServer

    def do_POST(self) -> None:
        """A JSON-RPC request; JSON-RPC errors are answered with status 200 too."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            self._answer(HTTPStatus.LENGTH_REQUIRED, b"", close=True)
        elif int(length) > MAX_BODY:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"", close=True)
        else:
            self._answer(
                HTTPStatus.OK, handle_bytes(self.server.chain, self.rfile.read(int(length)))
            )

    def _answer(self, status: HTTPStatus, body: bytes, *, close: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if close:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a request a second per poller would bury everything else."""
