"""What a facilitator supports, asked once an hour and not at start-up.

``/supported`` changes with deployments of the service, not with payments. A site must start, and
sell, while the service is down, so an old answer is better than none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from x402_django.exceptions import FacilitatorUnavailable

#: Seconds an answer is taken for current.
DEFAULT_TTL: Final = 3600.0
#: Seconds after a failure in which nobody asks again.
RETRY_AFTER: Final = 30.0


class CachedCapabilities:
    """The answer of ``fetch``, for all threads of this process. No two of them ask at once.

    Args:
        fetch: asks the service; raises FacilitatorUnavailable.
        ttl: seconds an answer is taken for current.
        monotonic: seconds on a clock that is never set back.
    """

    def __init__(
        self,
        fetch: Callable[[], frozenset[tuple[str, str]]],
        *,
        ttl: float = DEFAULT_TTL,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._ttl = ttl
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: frozenset[tuple[str, str]] | None = None
        self._ask_from: float | None = None

    def get(self) -> frozenset[tuple[str, str]]:
        """The last answer; a new one if it is too old and one can be had.

        Raises FacilitatorUnavailable if there never was an answer, and at once for a while after
        a failure, so that a service that hangs does not hang every request.
        """
        if not self._is_due():
            return self._last()
        # Who has an old answer does not wait for somebody else's new one.
        if not self._lock.acquire(blocking=self._known is None):
            return self._last()
        try:
            if self._is_due():
                self._renew()
        finally:
            self._lock.release()
        return self._last()

    def _is_due(self) -> bool:
        return self._ask_from is None or self._monotonic() >= self._ask_from

    def _renew(self) -> None:
        try:
            self._known = self._fetch()
        except FacilitatorUnavailable:
            self._ask_from = self._monotonic() + RETRY_AFTER
        else:
            self._ask_from = self._monotonic() + self._ttl

    def _last(self) -> frozenset[tuple[str, str]]:
        if self._known is None:
            raise FacilitatorUnavailable()
        return self._known
