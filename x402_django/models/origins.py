"""Origins: scheme, host and port of a web address, in the one form that is compared."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

#: A host as it is written in lower case: names and IPv4, no user, no IPv6.
_HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_PORTS: Final = {"https": 443, "http": 80}
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1"})
#: Written out in every address they can appear in; others are refused.
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*")


def is_origin(value: object) -> bool:
    """Whether ``value`` is an origin in canonical form: lower case, no path, no default port.

    It is to be reached with TLS, unless it is this machine.
    """
    if not isinstance(value, str) or canonical(value) != (value, ""):
        return False
    return value.startswith("https://") or urlsplit(value).hostname in _LOOPBACK


def canonical(url: str) -> tuple[str, str] | None:
    """Origin and path of a web address, canonical; None for what is no plain one.

    Query and fragment are left out: they may name people. Refused are user names, hosts that are
    not ASCII, and paths with dots for segments, which lead elsewhere than they seem to.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname or ""
    default = _PORTS.get(parts.scheme)
    if default is None or "@" in parts.netloc or _HOST.fullmatch(host) is None:
        return None
    path = parts.path
    segments = path.lower().replace("%2e", ".").split("/")
    if _PATH.fullmatch(path) is None or "." in segments or ".." in segments:
        return None
    return f"{parts.scheme}://{host}{'' if port in (None, default) else f':{port}'}", path
