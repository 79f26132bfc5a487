"""One POST: to the address that was looked at, without redirects, bounded in time and size."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import httpcore

from x402_django.webhooks.addresses import AddressRefused, resolve
from x402_django.webhooks.answers import Answer

#: Seconds for the whole exchange after the name is known, and for a connection.
TIMEOUT: Final = 15.0
CONNECT_TIMEOUT: Final = 5.0
#: Bytes of an answer that are read.
MAX_ANSWER: Final = 4096
#: Characters of an answer that are kept.
KEPT: Final = 500


def post(url: str, headers: dict[str, str], body: bytes) -> Answer:
    """POST ``body`` and judge the answer. Raises nothing for what the other side does.

    The name is resolved once and only a public address is connected to; the certificate is
    checked against the name. Proxies of the environment are not used.
    """
    started = time.monotonic()
    status: int | None = None
    text = ""
    try:
        with httpcore.ConnectionPool(
            ssl_context=_tls(), network_backend=_Pinned(started + TIMEOUT), retries=0
        ) as pool:
            sent = {"content-type": "application/json", "user-agent": "x402-django", **headers}
            with pool.stream(
                "POST",
                url,
                headers=list(sent.items()),
                content=body,
                extensions={"timeout": _TIMEOUTS},
            ) as response:
                status = response.status
                text = _beginning(response.iter_stream())
        error = "" if 200 <= status < 300 else _refusal(status)
    except AddressRefused:
        error = "address_refused"
    except (httpcore.TimeoutException, TimeoutError):
        error = "timeout"
    except ssl.SSLError:
        error = "tls_failed"
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as failure:
        error = "tls_failed" if isinstance(failure.__context__, ssl.SSLError) else "unreachable"
    except (httpcore.UnsupportedProtocol, UnicodeError, ValueError):
        error = "invalid_url"
    return Answer(status, error, int((time.monotonic() - started) * 1000), text)


_TIMEOUTS: Final = {"connect": CONNECT_TIMEOUT, "read": TIMEOUT, "write": TIMEOUT, "pool": 1.0}


def _refusal(status: int) -> str:
    return "redirected" if 300 <= status < 400 else "refused"


def _beginning(chunks: Iterable[bytes]) -> str:
    read = b""
    for chunk in chunks:
        read += chunk
        if len(read) >= MAX_ANSWER:
            break
    shown = read.decode("utf-8", "replace")
    return "".join(one if one.isprintable() else "�" for one in shown[:KEPT])


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class _Pinned(httpcore.NetworkBackend):
    """Connects to an address of the host that was found to be public, whatever DNS says later."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = OSError("no address")
        for address in resolve(host, port):
            bound = _left(self._deadline, timeout)
            try:
                stream = self._plain.connect_tcp(address, port, bound, local_address)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _Bounded(stream, self._deadline)
        raise failure


class _Bounded(httpcore.NetworkStream):
    """Ends an exchange at its deadline, also one whose bytes come in one by one."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        bound = _left(self._deadline, timeout)
        stream = self._stream.start_tls(ssl_context, server_hostname, bound)
        return _Bounded(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float, timeout: float | None) -> float:
    """Seconds that an operation may take. Raises ReadTimeout when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("The exchange takes too long.")
    return left if timeout is None else min(left, timeout)
