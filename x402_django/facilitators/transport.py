"""HTTP to a facilitator: no redirects, bounded in time and size, authenticated per request."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import httpx

from x402_django.exceptions import ConfigurationError, FacilitatorUnavailable
from x402_django.facilitators.answers import REFUSAL_STATUSES, proper_refusal
from x402_django.observing import observed

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("x402_django.facilitators")

#: Bytes of an answer that are read; real ones are a few hundred.
MAX_ANSWER: Final = 256 * 1024
#: Seconds to establish a connection, and to wait for a free one of the pool.
CONNECT_TIMEOUT: Final = 5.0

_LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=20)


def http_client(timeout: float) -> httpx.Client:
    """A client for one facilitator; ``timeout`` is seconds for a whole answer.

    Redirects are not followed: a signed payment goes where the settings say and nowhere else.
    """
    return httpx.Client(
        transport=BoundedTransport(timeout, limits=_LIMITS),
        timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT)),
        headers={"Accept-Encoding": "identity"},
        follow_redirects=False,
    )


class BoundedTransport(httpx.HTTPTransport):
    """Ends an answer that is larger than ``MAX_ANSWER`` or takes longer than ``timeout`` seconds.

    httpx's own timeouts start anew with each piece that arrives.
    """

    def __init__(self, timeout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._timeout = timeout

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        deadline = time.monotonic() + self._timeout
        with observed("facilitator", endpoint=request.url.path.rpartition("/")[2]):
            response = super().handle_request(request)
        encoded = response.headers.get("Content-Encoding", "identity") != "identity"
        if encoded or not isinstance(response.stream, httpx.SyncByteStream):
            # What was not asked for is not unpacked: a compressed answer may be of any size.
            response.close()
            raise httpx.ReadError("The answer cannot be read.", request=request)
        response.stream = _BoundedStream(response.stream, deadline)
        if response.status_code in REFUSAL_STATUSES:
            return _with_refusal_read(request, response)
        return response


def _with_refusal_read(request: httpx.Request, response: httpx.Response) -> httpx.Response:
    """``response`` with its body read; with status 200 if the body is a proper refusal."""
    try:
        body = response.read()
    finally:
        response.close()
    refusal = proper_refusal(request.url.path, response.status_code, body)
    if refusal is None:
        return httpx.Response(response.status_code, content=body)
    return httpx.Response(200, content=refusal)


class _BoundedStream(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._stream:
            size += len(chunk)
            if size > MAX_ANSWER:
                raise httpx.ReadError("The answer is too large.")
            if time.monotonic() > self._deadline:
                raise httpx.ReadTimeout("The answer takes too long.")
            yield chunk

    def close(self) -> None:
        self._stream.close()


class AuthHeaders:
    """The SDK's ``AuthProvider`` over what the ``AUTH`` option names.

    Args:
        source: a callable that returns headers by endpoint, or a class (or instance) with
            ``get_auth_headers()``.
    """

    def __init__(self, source: Any) -> None:
        if isinstance(source, type) and hasattr(source, "get_auth_headers"):
            source = source()
        self._ask: Callable[[], Any] = getattr(source, "get_auth_headers", source)

    def get_auth_headers(self) -> Any:
        """Headers by endpoint. Raises FacilitatorUnavailable if they cannot be had."""
        try:
            headers = self._ask()
        except Exception as error:  # noqa: BLE001 - a site's own code, and nothing was sent
            # Not chained and not quoted: the error may tell what the headers are made from.
            raise FacilitatorUnavailable(
                f"The AUTH option's callable failed ({type(error).__name__})."
            ) from None
        return headers if hasattr(headers, "settle") else _Headers(headers)


class RequestHeaders:
    """An ``AuthProvider`` of the SDK whose headers are made for one request at a time.

    Args:
        make: takes the HTTP method and the endpoint ("verify", "settle", "supported"), returns
            headers. Called for the endpoint that is asked and for no other.
        name: the facilitator's alias, for the log.
    """

    def __init__(self, make: Callable[[str, str], Mapping[str, str]], name: str) -> None:
        self._make = make
        self._name = name

    def get_auth_headers(self) -> RequestHeaders:
        """Itself: the SDK then reads the attribute of the endpoint it is about to ask."""
        return self

    @property
    def verify(self) -> dict[str, str]:
        return self._for("POST", "verify")

    @property
    def settle(self) -> dict[str, str]:
        return self._for("POST", "settle")

    @property
    def supported(self) -> dict[str, str]:
        return self._for("GET", "supported")

    def _for(self, method: str, endpoint: str) -> dict[str, str]:
        """Raises FacilitatorUnavailable if they cannot be had: nothing was sent."""
        try:
            return dict(self._make(method, endpoint))
        except ConfigurationError as error:
            logger.error("Facilitator %s cannot authenticate: %s", self._name, error)
            raise FacilitatorUnavailable() from None


class _Headers:
    """Headers by endpoint, as the SDK reads them."""

    def __init__(self, headers: Mapping[str, Mapping[str, str]]) -> None:
        self.verify = headers.get("verify", {})
        self.settle = headers.get("settle", {})
        self.supported = headers.get("supported", headers.get("list", {}))
        self.bazaar = headers.get("bazaar", {})
