"""Who sells, for catalogues: name, tags and icon of the service, on a challenge's ``resource``.

Catalogues drop what does not fit in silence, so that ``manage.py check`` says it instead.

Source: x402 extension "bazaar", "Service Metadata on resource".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from django.core.signals import setting_changed

from x402_django.conf import x402

#: The extension that catalogues read, whose options say it.
KEY: Final = "bazaar"
OPTIONS: Final = frozenset({"SERVICE_NAME", "TAGS", "ICON_URL"})
MOST_TAGS: Final = 5
LONGEST_ICON_URL: Final = 2048

_WORD: Final = re.compile(r"[\x20-\x7e]{1,32}")
#: Names alone: no address of a machine, in whatever notation, and no machine's own name.
_HOST: Final = re.compile(r"(?!(0x[0-9a-f]+|[0-9.]+)$)[a-z0-9-]+(\.[a-z0-9-]+)+", re.I)


@lru_cache(maxsize=1)
def service_metadata() -> Mapping[str, Any]:
    """``serviceName``, ``tags`` and ``iconUrl``, those that the site says; empty without bazaar."""
    if KEY not in x402.extensions:
        return {}
    options = x402.extensions[KEY].options
    found = {
        "serviceName": options.get("SERVICE_NAME"),
        "tags": list(options.get("TAGS") or ()),
        "iconUrl": options.get("ICON_URL"),
    }
    return {name: value for name, value in found.items() if value}


def wrong_service_metadata(options: Mapping[str, Any]) -> str:
    """What catalogues would drop, in a sentence; empty if nothing."""
    name, tags = options.get("SERVICE_NAME", "x"), options.get("TAGS", ())
    if not _is_word(name):
        return "SERVICE_NAME of the extension bazaar must be 1 to 32 printable ASCII characters."
    if not isinstance(tags, list | tuple) or not all(map(_is_word, tags)):
        return "TAGS of the extension bazaar must be a list of texts of 1 to 32 ASCII characters."
    if len({tag.lower() for tag in tags}) < len(tags) or len(tags) > MOST_TAGS:
        return f"TAGS of the extension bazaar must be at most {MOST_TAGS}, each once."
    icon = options.get("ICON_URL")
    if icon is not None and not _is_icon(icon):
        return (
            "ICON_URL of the extension bazaar must be an absolute https:// address on a named host."
        )
    return ""


def _is_word(value: object) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _is_icon(value: object) -> bool:
    if not isinstance(value, str) or len(value) > LONGEST_ICON_URL or not value.isascii():
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    host = parts.hostname or ""
    named = _HOST.fullmatch(host) is not None and not host.startswith("localhost.")
    return (
        value.isprintable() and parts.scheme in ("http", "https") and not parts.username and named
    )


def _reset(*, setting: str, **kwargs: object) -> None:
    if setting == "X402":
        service_metadata.cache_clear()


setting_changed.connect(_reset, dispatch_uid="x402_django.protocol.service_metadata.reset")
