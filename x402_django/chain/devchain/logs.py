"""``eth_getLogs``: which blocks, and which of their logs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .encoding import Json
from .errors import INVALID_PARAMS, RpcError

MAX_TOPICS = 4


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Addresses and topics in lower case; an empty set matches everything."""

    addresses: frozenset[str]
    topics: tuple[frozenset[str], ...]

    @classmethod
    def from_params(cls, params: Json) -> LogFilter:
        """From the filter object of a request. Raises ``RpcError``."""
        topics = params.get("topics") or []
        if not isinstance(topics, list) or len(topics) > MAX_TOPICS:
            raise RpcError(INVALID_PARAMS, "exceed max topics")
        return cls(
            addresses=_alternatives(params.get("address"), 20),
            topics=tuple(_alternatives(topic, 32) for topic in topics),
        )

    def select(self, logs: Iterable[Json]) -> list[Json]:
        """Those of ``logs`` that match, in order."""
        return [log for log in logs if self._matches(log)]

    def _matches(self, log: Json) -> bool:
        if self.addresses and log["address"].lower() not in self.addresses:
            return False
        if len(self.topics) > len(log["topics"]):
            return False
        return all(
            not wanted or topic in wanted
            for wanted, topic in zip(self.topics, log["topics"], strict=False)
        )


def _alternatives(value: Any, length: int) -> frozenset[str]:
    """One value or several of which any will do; null (or an empty list) is a wildcard."""
    if value is None:
        return frozenset()
    values = value if isinstance(value, list) else [value]
    for item in values:
        if not isinstance(item, str) or len(item) != 2 + 2 * length:
            raise RpcError(
                INVALID_PARAMS, f"invalid argument 0: hex string of {length} bytes wanted"
            )
    return frozenset(item.lower() for item in values)
