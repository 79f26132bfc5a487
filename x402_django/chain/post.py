"""HTTP to one RPC endpoint.

What ``requests`` finds out for each request anew (proxies, certificates and credentials, from the
environment) is found out once here; left to it, that takes longer than a node nearby takes to
answer.
"""

from __future__ import annotations

import requests
from requests.adapters import HTTPAdapter

#: Connections that are kept open.
_POOL = 32


class JsonPost:
    """POSTs JSON to ``url``, following no redirect. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        request = requests.Request("POST", url, headers={"Content-Type": "application/json"})
        with requests.Session() as session:
            self._prepared = session.prepare_request(request)
            found = session.merge_environment_settings(url, {}, None, None, None)
        self._options = {name: found[name] for name in ("proxies", "verify", "cert")}
        self._adapter = HTTPAdapter(pool_maxsize=_POOL)

    def __call__(self, body: bytes, *, timeout: float) -> requests.Response:
        """The answer, read to its end. Raises as ``requests``; ``timeout`` is in seconds."""
        request = self._prepared.copy()
        request.body = body
        request.headers["Content-Length"] = str(len(body))
        response = self._adapter.send(request, timeout=timeout, **self._options)
        response.content  # noqa: B018 - reads it
        return response
