"""JSON-RPC over HTTP to several endpoints of one network: the first that is well answers.

Each process finds out for itself how the endpoints are: from their answers, and by asking all of
them from time to time for their chain and their newest block, apart from the requests. What it
knows decides whom it asks *first*, and never what is true of a payment. An endpoint is

* well, and then asked in the order of the settings;
* behind: its newest block is older than another's by more than ``RPC_MAX_LAG``; asked after those
  that are well;
* down: its last answer was none; asked last, until it answers a look after it;
* of another chain: not asked at all, and reported as an error.

Addresses of endpoints carry API keys, so messages name the host alone.
"""

from __future__ import annotations

import enum
import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Final, cast
from urllib.parse import urlsplit

import requests
from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from x402_django.chain.post import JsonPost
from x402_django.conf_entries import NetworkSettings
from x402_django.exceptions import ConfigurationError, RpcUnavailable
from x402_django.observing import observed

logger = logging.getLogger("x402_django.chain")

SEND_RAW: Final = "eth_sendRawTransaction"

#: What a span says of several questions in one request.
BATCH: Final = "batch"

#: What a node says of a transaction that it has already.
KNOWN: Final = re.compile(r"already known|known transaction|already imported|already exists", re.I)

#: JSON-RPC error codes by which providers say "too many requests".
_RATE_LIMITED: Final = frozenset({429, -32005, -32007})

#: What they say with the same codes when a range of blocks holds more logs than they return.
_TOO_MANY_LOGS: Final = re.compile(r"results|block range|logs", re.I)

#: Seconds that a look after an endpoint waits for it.
_LOOK_TIMEOUT: Final = 3.0


class State(enum.IntEnum):
    """How an endpoint is; in the order in which they are asked."""

    WELL = 0
    BEHIND = 1
    DOWN = 2
    WRONG_CHAIN = 3


class Endpoint:
    """One endpoint, as this process has found it. Threads may see each other's findings late."""

    def __init__(self, url: str, network: str) -> None:
        self.url = url
        self.host = host_of(url)
        self.post = JsonPost(url)
        self.state = State.WELL
        #: Whether it has said that it serves the chain of the settings.
        self.confirmed = False
        self._network = network

    def become(self, state: State, why: str) -> None:
        """Note how it is, and log it if that is news."""
        if state is self.state:
            return
        self.state = state
        level = {State.WELL: logging.INFO, State.WRONG_CHAIN: logging.ERROR}.get(
            state, logging.WARNING
        )
        logger.log(level, "RPC endpoint %s of %s %s.", self.host, self._network, why)


class EndpointDown(Exception):
    """One endpoint gave no usable answer. ``received`` is False if it surely got no request."""

    def __init__(self, reason: str, *, received: bool) -> None:
        super().__init__(reason)
        self.received = received


class FailoverProvider(JSONBaseProvider):
    """Asks the endpoints in turn until one answers, the healthiest first.

    An endpoint is passed over on transport failures, HTTP errors (429 and 5xx among them),
    redirects, answers that are no JSON-RPC, and JSON-RPC errors that mean "too many requests".
    Nothing is retried on the same endpoint.

    Sending a signed transaction to a second endpoint is safe, the same bytes being the same
    transaction. But where an earlier endpoint may have taken it, a later one's error does not
    mean that it was not sent; then RpcUnavailable is raised instead of passing the error on,
    unless the later one says that it knows the transaction already.
    """

    # EIP-3668 lets a contract name URLs for the caller to fetch, and a payer's wallet is a
    # contract of the payer's choosing.
    global_ccip_read_enabled = False

    def __init__(
        self, settings: NetworkSettings, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._network = settings.network
        self._chain_id = settings.chain_id
        self._timeout = settings.rpc_timeout
        self._interval = settings.rpc_check_interval
        self._max_lag = settings.rpc_max_lag
        self._monotonic = monotonic
        self.endpoints = tuple(Endpoint(url, settings.network) for url in settings.rpc_urls)
        self._look_at = self._monotonic()
        self._looking = threading.Lock()

    def __repr__(self) -> str:
        hosts = ", ".join(one.host for one in self.endpoints)
        return f"<FailoverProvider {self._network} {hosts}>"

    __str__ = __repr__

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Ask the endpoints in turn. Raises RpcUnavailable, ConfigurationError."""
        body = self.encode_rpc_request(method, params)
        return cast(RPCResponse, self._first_answer(body, method, sends=method == SEND_RAW))

    def make_batch_request(
        self, requests: list[tuple[RPCEndpoint, Any]]
    ) -> list[RPCResponse] | RPCResponse:
        """Several questions in one HTTP request. For reading only. Raises as ``make_request``.

        An endpoint that knows no batches answers with one error instead of a list.
        """
        body = self.encode_batch_rpc_request(requests)
        answer = self._first_answer(body, BATCH, sends=False)
        return cast("list[RPCResponse] | RPCResponse", answer)

    def look_after(self) -> None:
        """Ask every endpoint for its chain and its newest block, and note how it is."""
        heads = {}
        for endpoint in self.endpoints:
            try:
                self._check_chain(endpoint, _LOOK_TIMEOUT)
                heads[endpoint] = self._head(endpoint)
            except EndpointDown as down:
                if endpoint.state is not State.WRONG_CHAIN:
                    endpoint.become(State.DOWN, f"does not answer ({down}); it is asked last")
        newest, latest = max(heads.values(), default=(0, 0))
        for endpoint, (number, timestamp) in heads.items():
            lag = latest - timestamp
            # One block is nothing: on a chain with rare blocks somebody always has it first.
            if number < newest - 1 and lag > self._max_lag:
                endpoint.become(State.BEHIND, f"is {lag} s behind; others are asked first")
            else:
                endpoint.become(State.WELL, "is well again")

    # ------------------------------------------------------------------ asking in turn

    def _first_answer(self, body: bytes, method: str, *, sends: bool) -> Any:
        self._look_if_due()
        maybe_sent = False
        failures: list[str] = []
        for endpoint in sorted(self.endpoints, key=lambda one: one.state):
            try:
                if not endpoint.confirmed:
                    self._check_chain(endpoint, self._timeout)
                with observed("rpc", network=self._network, method=method, endpoint=endpoint.host):
                    response = self._post(endpoint, body, self._timeout, carries_request=True)
            except EndpointDown as down:
                maybe_sent = maybe_sent or down.received
                failures.append(str(down))
                if endpoint.state is not State.WRONG_CHAIN:
                    endpoint.become(State.DOWN, f"gave no answer ({down}); it is asked last")
                continue
            if endpoint.state > State.BEHIND:
                endpoint.become(State.WELL, "answers again")
            if sends and maybe_sent and "error" in response and not _is_known(response["error"]):
                break
            return response
        if failures and all(one.state is State.WRONG_CHAIN for one in self.endpoints):
            raise ConfigurationError(
                f"The RPC endpoint {'; '.join(failures)}. Correct X402['NETWORKS']."
            )
        raise RpcUnavailable(f"No RPC endpoint of {self._network} answered: {'; '.join(failures)}.")

    def _check_chain(self, endpoint: Endpoint, timeout: float) -> None:
        """Raise EndpointDown unless the endpoint serves the chain of the settings."""
        question = self.encode_rpc_request(RPCEndpoint("eth_chainId"), [])
        answer = self._post(endpoint, question, timeout, carries_request=False)
        found = _as_int(answer.get("result"), endpoint.host, "chain id")
        endpoint.confirmed = found == self._chain_id
        if not endpoint.confirmed:
            why = f"serves chain {found}, not {self._chain_id}"
            endpoint.become(State.WRONG_CHAIN, f"{why}; it is not used")
            raise EndpointDown(f"{endpoint.host} {why}", received=False)

    # ---------------------------------------------------------------------- looking after

    def _look_if_due(self) -> None:
        """Have the endpoints looked after, beside the requests: nobody waits for that."""
        if len(self.endpoints) < 2 or not self._interval or self._monotonic() < self._look_at:
            return
        if self._looking.acquire(blocking=False):
            self._look_at = self._monotonic() + self._interval
            name = f"x402 endpoints of {self._network}"
            threading.Thread(target=self._look, name=name, daemon=True).start()

    def _look(self) -> None:
        try:
            self.look_after()
        except Exception:
            logger.exception("The RPC endpoints of %s could not be looked after.", self._network)
        finally:
            self._looking.release()

    def _head(self, endpoint: Endpoint) -> tuple[int, int]:
        """Number and time (seconds) of the endpoint's newest block."""
        question = self.encode_rpc_request(RPCEndpoint("eth_getBlockByNumber"), ["latest", False])
        answer = self._post(endpoint, question, _LOOK_TIMEOUT, carries_request=False)
        block = answer.get("result")
        if not isinstance(block, dict):
            raise EndpointDown(f"{endpoint.host}: no newest block", received=False)
        number = _as_int(block.get("number"), endpoint.host, "block number")
        return number, _as_int(block.get("timestamp"), endpoint.host, "block time")

    # ------------------------------------------------------------------------- over HTTP

    def _post(
        self, endpoint: Endpoint, body: bytes, timeout: float, *, carries_request: bool
    ) -> Any:
        host = endpoint.host
        try:
            response = endpoint.post(body, timeout=timeout)
        except (requests.ConnectTimeout, requests.exceptions.SSLError) as error:
            raise EndpointDown(f"{host}: {type(error).__name__}", received=False) from None
        except (requests.RequestException, OSError, ValueError) as error:
            raise EndpointDown(
                f"{host}: {type(error).__name__}", received=carries_request
            ) from None
        if response.status_code != 200:
            raise EndpointDown(f"{host}: HTTP {response.status_code}", received=carries_request)
        batch = body.startswith(b"[")
        return self._decode(response.content, host, received=carries_request, batch=batch)

    def _decode(self, content: bytes, host: str, *, received: bool, batch: bool) -> Any:
        try:
            answer = self.decode_rpc_response(content)
        except ValueError:
            raise EndpointDown(f"{host}: no JSON", received=received) from None
        answers: list[Any] = answer if batch and isinstance(answer, list) else [answer]
        if not all(isinstance(one, dict) for one in answers):
            raise EndpointDown(f"{host}: no JSON-RPC", received=received)
        if any(_is_rate_limit(one.get("error")) for one in answers):
            raise EndpointDown(f"{host}: rate limited", received=False)
        return answer


def host_of(url: str) -> str:
    """The host and port of an endpoint's address: what may be shown of it."""
    parts = urlsplit(url)
    host = parts.hostname or "?"
    return f"{host}:{parts.port}" if parts.port else host


def _is_known(error: object) -> bool:
    return isinstance(error, dict) and KNOWN.search(str(error.get("message", ""))) is not None


def _is_rate_limit(error: object) -> bool:
    return (
        isinstance(error, dict)
        and error.get("code") in _RATE_LIMITED
        and not _TOO_MANY_LOGS.search(str(error.get("message", "")))
    )


def _as_int(value: object, host: str, what: str) -> int:
    try:
        return int(cast(str, value), 16)
    except (TypeError, ValueError):
        raise EndpointDown(f"{host}: no {what}", received=False) from None
