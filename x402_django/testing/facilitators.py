"""A facilitator that misbehaves on demand, to prove that nobody is robbed by one.

A real HTTP server on the loopback interface that speaks the facilitator protocol (x402 v2)::

    with HostileFacilitator(dev_chain()) as facilitator:
        facilitator.set_mood(Mood.FAILS_AFTER_SETTLING, endpoint="settle")
        with override_settings(X402=x402_settings(URL=facilitator.url)):
            ...
        assert len(facilitator.calls_of("settle")) == 1

Importing this module loads neither web3 nor py-evm.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from x402_django.testing.submission import authorization_of, submit_authorization, transfer_call

if TYPE_CHECKING:
    from types import TracebackType

    from eth_account.signers.local import LocalAccount
    from web3 import Web3

    from x402_django.chain.devchain import DevChain

ENDPOINTS: Final = ("verify", "settle", "supported")

_STRANGER: Final = "0x000000000000000000000000000000000000dEaD"


class Mood(StrEnum):
    """What an endpoint does with a request."""

    #: Verifies by simulation; settles, if there is a chain.
    HONEST = "honest"
    #: Settles, then never answers. ``verify``: never answers.
    ACCEPTS_THEN_TIMES_OUT = "accepts_then_times_out"
    #: 429.
    RATE_LIMITS = "rate_limits"
    #: 308 to ``/elsewhere`` of this server, which would take the payment with thanks.
    REDIRECTS = "redirects"
    #: Settles, then answers 500.
    FAILS_AFTER_SETTLING = "fails_after_settling"
    #: Says "settled" with a hash that no transaction has.
    LIES_ABOUT_SUCCESS = "lies_about_success"
    #: Says "settled" with the hash of somebody else's transaction.
    LIES_WITH_FOREIGN_HASH = "lies_with_foreign_hash"
    #: Settles, then says that the payer had no money.
    LIES_ABOUT_FAILURE = "lies_about_failure"
    #: 200 and no JSON.
    RETURNS_GARBAGE = "returns_garbage"
    #: Does nothing and never answers.
    HANGS = "hangs"
    #: A proper "no": insufficient funds.
    REFUSES = "refuses"
    #: Reads the request and closes the connection.
    CLOSES_CONNECTION = "closes_connection"
    #: Does its work, then answers about another payer.
    WRONG_PAYER = "wrong_payer"


_SETTLES_FIRST: Final = frozenset(
    {
        Mood.HONEST,
        Mood.ACCEPTS_THEN_TIMES_OUT,
        Mood.FAILS_AFTER_SETTLING,
        Mood.LIES_ABOUT_FAILURE,
        Mood.WRONG_PAYER,
    }
)


@dataclass(frozen=True, slots=True)
class Call:
    """A request the facilitator got."""

    endpoint: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class HostileFacilitator:
    """See the module. Every method may be called while requests are served.

    Args:
        chain: where to settle; without one, nothing is settled and hashes are made up.
        w3: another node to settle on, instead of ``chain``.
        mood: of all endpoints, to begin with.
        account: pays the gas; by default the last but one of the prefunded accounts.
    """

    def __init__(
        self,
        chain: DevChain | None = None,
        *,
        w3: Web3 | None = None,
        mood: Mood | str = Mood.HONEST,
        account: LocalAccount | None = None,
    ) -> None:
        self.moods = {endpoint: Mood(mood) for endpoint in ENDPOINTS}
        self.calls: list[Call] = []
        self.foreign_hash = "0x" + secrets.token_hex(32)
        self._w3 = w3 if chain is None else _web3(chain)
        self._account = account
        self._chain_lock = threading.Lock()
        self._closing = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """The base address; only while it runs."""
        if self._server is None:
            raise RuntimeError("The facilitator is not running: use it in a with statement.")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def set_mood(self, mood: Mood | str, *, endpoint: str | None = None) -> None:
        """Change the mood of one endpoint, or of all."""
        for name in (endpoint,) if endpoint else ENDPOINTS:
            self.moods[name] = Mood(mood)

    def calls_of(self, endpoint: str) -> list[Call]:
        """The requests that ``verify``, ``settle``, ``supported`` or ``elsewhere`` got."""
        return [call for call in self.calls if call.endpoint == endpoint]

    def __enter__(self) -> HostileFacilitator:
        self._closing.clear()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.facilitator = self  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, call: Call) -> _Answer | None:
        """Do what the mood says; None closes the connection without an answer."""
        self.calls.append(call)
        if call.endpoint == "elsewhere":
            return _Answer(200, {"isValid": True, "success": True, **_made_up(call.body)})
        mood = self.moods[call.endpoint]
        early = self._without_work(mood, call)
        if early is not None:
            return early
        if mood in (Mood.HANGS, Mood.CLOSES_CONNECTION):
            if mood is Mood.HANGS:
                self._closing.wait()
            return None
        if call.endpoint == "supported":
            return _Answer(200, self._supported())
        return self._verify(mood, call) if call.endpoint == "verify" else self._settle(mood, call)

    def _without_work(self, mood: Mood, call: Call) -> _Answer | None:
        if mood is Mood.RATE_LIMITS:
            return _Answer(429, {"error": "rate limited"}, {"Retry-After": "60"})
        if mood is Mood.REDIRECTS:
            return _Answer(308, {}, {"Location": f"{self.url}/elsewhere"})
        if mood is Mood.RETURNS_GARBAGE:
            return _Answer(200, "<html>It works!</html>")
        return None

    def _supported(self) -> Any:
        chain_id = self._w3.eth.chain_id if self._w3 is not None else 84532
        kind = {"x402Version": 2, "scheme": "exact", "network": f"eip155:{chain_id}"}
        return {"kinds": [kind], "extensions": [], "signers": {}}

    def _verify(self, mood: Mood, call: Call) -> _Answer | None:
        payer = authorization_of(call.body)["from"]
        if mood is Mood.ACCEPTS_THEN_TIMES_OUT:
            self._closing.wait()
            return None
        if mood is Mood.FAILS_AFTER_SETTLING:
            return _Answer(500, {"error": "internal"})
        if mood is Mood.REFUSES:
            return _invalid("insufficient_funds", payer)
        if mood is Mood.WRONG_PAYER:
            return _Answer(200, {"isValid": True, "payer": _STRANGER})
        reason = self._simulate(call.body) if mood is Mood.HONEST else None
        return (
            _invalid(reason, payer) if reason else _Answer(200, {"isValid": True, "payer": payer})
        )

    def _settle(self, mood: Mood, call: Call) -> _Answer | None:
        settled = _made_up(call.body)
        if mood in _SETTLES_FIRST and self._w3 is not None:
            reason = self._simulate(call.body)
            if reason is not None:
                return _failed(reason, settled)
            settled["transaction"] = self._submit(call.body)
        if mood is Mood.ACCEPTS_THEN_TIMES_OUT:
            self._closing.wait()
            return None
        if mood is Mood.FAILS_AFTER_SETTLING:
            return _Answer(500, {"error": "internal"})
        if mood in (Mood.REFUSES, Mood.LIES_ABOUT_FAILURE):
            return _failed("insufficient_funds", settled)
        if mood is Mood.LIES_WITH_FOREIGN_HASH:
            settled["transaction"] = self.foreign_hash
        if mood is Mood.WRONG_PAYER:
            settled["payer"] = _STRANGER
        return _Answer(200, {"success": True, **settled})

    def _simulate(self, body: Mapping[str, Any]) -> str | None:
        """Why the payment would not settle, in the specification's words."""
        from web3.exceptions import ContractLogicError

        if self._w3 is None:
            return None
        try:
            self._w3.eth.call(transfer_call(self._w3, body))  # type: ignore[arg-type]
        except ContractLogicError as error:
            text = str(error)
            if "balance" in text:
                return "insufficient_funds"
            if "used or canceled" in text:
                return "invalid_exact_evm_nonce_already_used"
            return "invalid_transaction_state"
        return None

    def _submit(self, body: Mapping[str, Any]) -> str:
        if self._w3 is None:
            raise RuntimeError("There is no chain to settle on.")
        with self._chain_lock:
            return submit_authorization(self._w3, body, account=self._account)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is what most moods are for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._handle({})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self._handle(json.loads(self.rfile.read(length) or b"{}"))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: requests carry signatures."""

    def _handle(self, body: Mapping[str, Any]) -> None:
        endpoint = self.path.strip("/").partition("/")[0]
        facilitator: HostileFacilitator = self.server.facilitator  # type: ignore[attr-defined]
        if endpoint not in (*ENDPOINTS, "elsewhere"):
            self._send(_Answer(404, {"error": "not found"}))
            return
        answer = facilitator.answer(Call(endpoint, body, dict(self.headers)))
        if answer is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send(answer)

    def _send(self, answer: _Answer) -> None:
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        content = text.encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _made_up(body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "transaction": "0x" + secrets.token_hex(32),
        "network": body["paymentRequirements"]["network"],
        "payer": authorization_of(body)["from"],
    }


def _invalid(reason: str, payer: str) -> _Answer:
    return _Answer(200, {"isValid": False, "invalidReason": reason, "payer": payer})


def _failed(reason: str, settled: Mapping[str, Any]) -> _Answer:
    return _Answer(200, {**settled, "success": False, "errorReason": reason, "transaction": ""})


def _web3(chain: DevChain) -> Web3:
    from web3 import Web3

    return Web3(chain.provider())
