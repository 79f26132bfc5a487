"""What a payment is bound to when it is first used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What a payment is bound to when it is first used.

    ``fingerprint`` is the hex SHA-256 over method, canonical URL with query, and body digest;
    ``resource_url`` is the canonical URL without its query, which may name people. ``extensions``
    are the entries, by key, that extensions have read from the payload and keep; ``identifier`` is
    the payer's own name for the purchase (``payments.identifiers``).
    """

    method: str
    resource_url: str
    fingerprint: str
    extensions: Mapping[str, Any] = field(default_factory=dict)
    identifier: str | None = None

    def keeping(self, key: str, entry: Any) -> RequestFacts:
        """These, and ``entry`` (JSON) of the extension ``key``."""
        return replace(self, extensions={**self.extensions, key: entry})
