"""A server that answers as services document that they do: ``recorded/*.json``, word for word.

Only the payer is replaced by that of the request, where the recording names one.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "recorded"


def load(name: str) -> dict[str, Any]:
    """A recording: endpoint → case → (status, body)."""
    recording: dict[str, Any] = json.loads((DIRECTORY / f"{name}.json").read_text("utf-8"))
    return recording


class RecordedService:
    """Plays ``recording``; ``cases`` says which answer an endpoint gives."""

    def __init__(self, recording: dict[str, Any], prefix: str = "") -> None:
        self.recording, self.prefix = recording, prefix
        self.cases = {"verify": "valid", "settle": "settled", "supported": "kinds"}
        self.calls: list[tuple[str, dict[str, str], Any]] = []

    def __enter__(self) -> RecordedService:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                self._answer(json.loads(self.rfile.read(length)))

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

            def _answer(self, body: Any) -> None:
                service.calls.append(
                    (f"{self.command} {self.path}", dict(self.headers.items()), body)
                )
                endpoint = self.path.removeprefix(service.prefix).strip("/")
                status, answer = service.recording[endpoint][service.cases[endpoint]]
                if body is not None and "payer" in answer:
                    payload = body["paymentPayload"]["payload"]
                    answer = {**answer, "payer": payload["authorization"]["from"]}
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.host}{self.prefix}"
