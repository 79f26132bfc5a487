"""A facilitator without a chain: every valid-looking payment settles at once.

For tests of everything *around* settlement. Tests of settlement itself use real facilitators
and a real EVM. ``calls`` counts what was asked; ``script`` makes the next answers raise.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter

from x402_django.constants import Code
from x402_django.exceptions import PaymentRefused
from x402_django.facilitators.base import BaseFacilitator
from x402_django.protocol.signatures import check_eoa_signature
from x402_django.protocol.types import Settlement, SignedPayment


class InstantFacilitator(BaseFacilitator):
    trusted = True
    calls: Counter[str] = Counter()
    settled: list[str] = []
    script: dict[str, list[BaseException]] = {"verify": [], "settle": []}
    _lock = threading.Lock()

    @classmethod
    def reset(cls) -> None:
        cls.calls.clear()
        cls.settled.clear()
        cls.script = {"verify": [], "settle": []}

    def _next(self, operation: str) -> None:
        with self._lock:
            self.calls[operation] += 1
            error = self.script[operation].pop(0) if self.script[operation] else None
        if error is not None:
            raise error

    def verify(self, signed: SignedPayment) -> None:
        self._next("verify")
        if not check_eoa_signature(signed):
            raise PaymentRefused("Forged.", code=Code.INVALID_SIGNATURE)

    def settle(self, signed: SignedPayment, payment: object) -> Settlement:
        self._next("settle")
        self.settled.append(signed.nonce)
        digest = hashlib.sha256("/".join(signed.key).encode()).hexdigest()
        return Settlement(
            transaction=f"0x{digest}", block_number=1, block_hash="0x" + "0" * 64, log_index=0
        )

    def supported(self) -> frozenset[tuple[str, str]]:
        return frozenset({("exact", "eip155:84532")})
