"""A facilitator service for Solana on the loopback interface: the SDK's scheme over ``Cluster``."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from solders.keypair import Keypair
from x402.mechanisms.svm.exact.facilitator import ExactSvmScheme
from x402.schemas import PaymentPayload, PaymentRequirements

from tests.solana.cluster import NETWORK, Cluster, FeePayers


class SolanaFacilitator:
    """``answers`` is what the next settlements are answered instead of the truth, in order:

    a dict, or None to hang up. What was asked is done all the same, unless ``is_idle``.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.fee_payers = FeePayers(cluster, [Keypair(), Keypair()])
        self.answers: list[dict[str, Any] | None] = []
        self.is_idle = False
        self.asked: list[str] = []
        #: Whether ``/supported`` names all fee payers, or one of them.
        self.names_signers = True
        self._scheme = ExactSvmScheme(self.fee_payers)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> SolanaFacilitator:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def supported(self) -> dict[str, Any]:
        extra = self._scheme.get_extra(NETWORK)
        kind = {"x402Version": 2, "scheme": "exact", "network": NETWORK, "extra": extra}
        signers = {"solana:*": self._scheme.get_signers(NETWORK)} if self.names_signers else {}
        return {"kinds": [kind], "extensions": [], "signers": signers}

    def decide(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any] | None:
        self.asked.append(endpoint)
        if endpoint == "settle" and self.answers and self.is_idle:
            return self.answers.pop(0)
        payload = PaymentPayload.model_validate(body["paymentPayload"])
        requirements = PaymentRequirements.model_validate(body["paymentRequirements"])
        answer = getattr(self._scheme, endpoint)(payload, requirements)
        if endpoint == "settle" and self.answers:
            return self.answers.pop(0)
        found: dict[str, Any] = answer.model_dump(by_alias=True, exclude_none=True, mode="json")
        return found

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(service.supported())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = service.decide(self.path.strip("/"), body)
                if answer is not None:
                    self._answer(answer)

            def _answer(self, document: dict[str, Any]) -> None:
                content = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        return Handler
