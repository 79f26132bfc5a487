"""Reading networks: one web3 per process and network, with failover between RPC endpoints.

All trouble with a node surfaces as ``RpcUnavailable``; a contract that reverts stays
``web3.exceptions.ContractLogicError``. Addresses of endpoints carry API keys, so messages name
the host alone.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast
from urllib.parse import urlsplit

import requests
from django.core.signals import setting_changed
from django.utils.module_loading import import_string
from eth_typing import ChecksumAddress
from web3 import Web3
from web3.exceptions import (
    ContractLogicError,
    InvalidAddress,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
    Web3TypeError,
    Web3ValidationError,
)
from web3.middleware import AttributeDictMiddleware
from web3.providers.base import BaseProvider, JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from x402_django.conf import NetworkSettings, x402
from x402_django.exceptions import ConfigurationError, RpcUnavailable
from x402_django.protocol.assets import to_checksum_address

logger = logging.getLogger("x402_django.chain")

SEND_RAW: Final = "eth_sendRawTransaction"

#: JSON-RPC error codes by which providers say "too many requests".
_RATE_LIMITED: Final = frozenset({429, -32005, -32007})

#: What they say with the same codes when a range of blocks holds more logs than they return.
_TOO_MANY_LOGS: Final = re.compile(r"results|block range|logs", re.I)

#: What nodes say, outside the code reserved for reverts, when a contract's execution fails. Geth
#: has sentences, revm (Reth, Anvil) names, some Ethereum clients one sentence for all of it.
_EXECUTION_FAILED: Final = re.compile(
    r"revert|out ?of ?gas|invalid ?(fe)?opcode|opcode ?not ?found|bad ?instruction|invalid ?jump|"
    r"stack ?(under|over)flow|stack limit|write protection|StateChangeDuringStaticCall|"
    r"CallNotAllowedInsideStatic|return data out of bounds|OutOfOffset|max call depth|CallTooDeep|"
    r"max (init)?code ?size|Create(InitCode|Contract)SizeLimit|VM execution error",
    re.I,
)

_lock = threading.RLock()
_web3s: dict[tuple[int, str], Web3] = {}


def get_web3(network: str) -> Web3:
    """The process's web3 for ``network`` (CAIP-2). Safe to share between threads.

    Raises:
        ConfigurationError: no endpoint is configured, or it serves another chain.
        RpcUnavailable: a ``PROVIDER`` could not be asked for its chain id.
    """
    # Keyed by process: sockets opened before a fork must not be shared with the child.
    key = (os.getpid(), network)
    w3 = _web3s.get(key)
    if w3 is None:
        with _lock:
            w3 = _web3s.get(key)
            if w3 is None:
                w3 = _connect(x402.network(network))
                _web3s[key] = w3
    return w3


@contextmanager
def rpc_errors(network: str) -> Iterator[None]:
    """Turn every trouble with the node into RpcUnavailable.

    Passed on are ``TransactionNotFound`` and ``ContractLogicError``; the latter is also raised
    for failed executions that web3 does not recognise as such.
    """
    try:
        yield
    except (ContractLogicError, TransactionNotFound, RpcUnavailable):
        raise
    except (InvalidAddress, Web3TypeError, Web3ValidationError):
        raise  # ours: arguments that never reached a node
    except Web3RPCError as error:
        code, message = error_of(error)
        if _EXECUTION_FAILED.search(message):
            raise ContractLogicError(message) from error
        logger.warning("RPC error of %s: %s %s", network, code, message[:200])
        raise RpcUnavailable(f"The RPC endpoint of {network} refused (code {code}).") from error
    except Web3Exception as error:
        raise RpcUnavailable(
            f"The RPC endpoint of {network} answered with an error ({type(error).__name__})."
        ) from error
    except (OSError, ValueError) as error:
        # Not chained: the text of a transport error holds the endpoint's address with its key.
        raise RpcUnavailable(
            f"The RPC endpoint of {network} did not answer ({type(error).__name__})."
        ) from None


def error_of(error: Web3RPCError) -> tuple[int | None, str]:
    """The code and message of a JSON-RPC error; the message is the node's, not for answers."""
    details = (error.rpc_response or {}).get("error")
    if isinstance(details, dict):
        return details.get("code"), str(details.get("message", ""))
    return None, ""


class EndpointDown(Exception):
    """One endpoint gave no usable answer. ``received`` is False if it surely got no request."""

    def __init__(self, reason: str, *, received: bool) -> None:
        super().__init__(reason)
        self.received = received


class FailoverProvider(JSONBaseProvider):
    """JSON-RPC over HTTP to the first of several endpoints that answers.

    The last good endpoint is asked first. An endpoint is passed over on transport failures,
    HTTP errors (429 and 5xx among them), redirects, answers that are no JSON-RPC, and JSON-RPC
    errors that mean "too many requests". Nothing is retried on the same endpoint.

    Sending a signed transaction to a second endpoint is safe, it being the same transaction.
    But where an earlier endpoint may have taken it, a later one's error does not mean that it
    was not sent; then RpcUnavailable is raised instead of passing the error on.
    """

    # EIP-3668 lets a contract name URLs for the caller to fetch, and a payer's wallet is a
    # contract of the payer's choosing.
    global_ccip_read_enabled = False

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self._network = settings.network
        self._chain_id = settings.chain_id
        self._timeout = settings.rpc_timeout
        self._urls = settings.rpc_urls
        self._preferred = 0
        self._confirmed: set[str] = set()
        self._session = requests.Session()
        self._session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=32))
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=32))

    def __repr__(self) -> str:
        return f"<FailoverProvider {self._network} {', '.join(map(host_of, self._urls))}>"

    __str__ = __repr__

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Ask the endpoints in turn. Raises RpcUnavailable, ConfigurationError."""
        body = self.encode_rpc_request(method, params)
        return cast(RPCResponse, self._first_answer(body, sends=method == SEND_RAW))

    def make_batch_request(
        self, requests: list[tuple[RPCEndpoint, Any]]
    ) -> list[RPCResponse] | RPCResponse:
        """Several questions in one HTTP request. For reading only. Raises as ``make_request``.

        An endpoint that knows no batches answers with one error instead of a list.
        """
        body = self.encode_batch_rpc_request(requests)
        return cast("list[RPCResponse] | RPCResponse", self._first_answer(body, sends=False))

    def _first_answer(self, body: bytes, *, sends: bool) -> Any:
        maybe_sent = False
        failures: list[str] = []
        first = self._preferred
        for step in range(len(self._urls)):
            index = (first + step) % len(self._urls)
            try:
                response = self._ask(self._urls[index], body)
            except EndpointDown as down:
                maybe_sent = maybe_sent or down.received
                failures.append(str(down))
                continue
            if sends and maybe_sent and "error" in response:
                break
            self._preferred = index
            return response
        raise RpcUnavailable(f"No RPC endpoint of {self._network} answered: {'; '.join(failures)}.")

    def _ask(self, url: str, body: bytes) -> Any:
        """Raises EndpointDown, or ConfigurationError if ``url`` serves another chain."""
        if url not in self._confirmed:
            question = self.encode_rpc_request(RPCEndpoint("eth_chainId"), [])
            answer = self._post(url, question, carries_request=False).get("result")
            check_chain_id(_as_int(answer, url), self._chain_id, host_of(url))
            self._confirmed.add(url)
        return self._post(url, body, carries_request=True)

    def _post(self, url: str, body: bytes, *, carries_request: bool) -> Any:
        host = host_of(url)
        try:
            response = self._session.post(
                url,
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=self._timeout,
                allow_redirects=False,
            )
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


def checksum(address: str) -> ChecksumAddress:
    """An address of any letter case as web3 wants it. Raises ValueError if it is none."""
    return cast(ChecksumAddress, to_checksum_address(address))


def host_of(url: str) -> str:
    """The host and port of an endpoint's address: what may be shown of it."""
    parts = urlsplit(url)
    host = parts.hostname or "?"
    return f"{host}:{parts.port}" if parts.port else host


def check_chain_id(found: int, expected: int, where: str) -> None:
    """Raise ConfigurationError unless the node serves the chain that the settings say."""
    if found != expected:
        raise ConfigurationError(
            f"The RPC endpoint {where} serves chain {found}, not {expected}. "
            "Correct X402['NETWORKS']."
        )


def _is_rate_limit(error: object) -> bool:
    return (
        isinstance(error, dict)
        and error.get("code") in _RATE_LIMITED
        and not _TOO_MANY_LOGS.search(str(error.get("message", "")))
    )


def _as_int(value: object, url: str) -> int:
    try:
        return int(cast(str, value), 16)
    except (TypeError, ValueError):
        raise EndpointDown(f"{host_of(url)}: no chain id", received=False) from None


def _connect(settings: NetworkSettings) -> Web3:
    if settings.provider:
        w3 = _web3(_custom_provider(settings))
        with rpc_errors(settings.network):
            check_chain_id(w3.eth.chain_id, settings.chain_id, "of PROVIDER")
        return w3
    if not settings.rpc_urls:
        raise ConfigurationError(
            f"X402['NETWORKS'][{settings.network!r}] has no RPC_URLS, so the chain cannot be read."
        )
    return _web3(FailoverProvider(settings))


def _web3(provider: BaseProvider) -> Web3:
    # Of web3's default middleware only this one is wanted: the others serve accounts that the
    # node holds, ENS, and checks that cost requests or that proof-of-authority chains fail.
    return Web3(provider, middleware=[(AttributeDictMiddleware, "attrdict")])


def _custom_provider(settings: NetworkSettings) -> BaseProvider:
    path = cast(str, settings.provider)
    try:
        factory = import_string(path)
    except ImportError as error:
        raise ConfigurationError(
            f"X402['NETWORKS'][{settings.network!r}]['PROVIDER'] = {path!r} "
            f"cannot be imported: {error}"
        ) from error
    provider = cast(BaseProvider, factory(settings.network))
    provider.global_ccip_read_enabled = False
    return provider


def _reset(*, setting: str, **kwargs: object) -> None:
    if setting == "X402":
        with _lock:
            _web3s.clear()


setting_changed.connect(_reset, dispatch_uid="x402_django.chain.rpc.reset")
