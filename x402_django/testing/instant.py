"""Payments that settle at once, without a chain: for a site's tests of its own paid views.

::

    from x402_django.testing.assertions import assert_requires_payment
    from x402_django.testing.instant import instant_payments
    from x402_django.testing.payer import PayingClient

    @instant_payments()
    class WeatherTests(TestCase):
        def test_weather_is_sold(self):
            assert_requires_payment(self.client.get("/weather/"), "$0.01")
            self.assertEqual(PayingClient().get("/weather/").status_code, 200)

Signatures, prices, the ledger and the answers are the real ones; only that the money moves is
taken for granted. Whether it would is what ``testing.chain`` is for.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.conf import settings
from django.test import override_settings
from django.test.utils import TestContextDecorator

from x402_django.conf import x402
from x402_django.constants import SCHEME_BATCH, SCHEME_EXACT, Code
from x402_django.exceptions import PaymentRefused
from x402_django.facilitators.base import BaseFacilitator, Kind
from x402_django.protocol.signatures import check_eoa_signature
from x402_django.protocol.types import Settlement, SignedPayment

#: Where a test site is paid that names no address itself. No key of it is in use anywhere.
TEST_PAY_TO: Final = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
#: The network of a test site that configures none: Base Sepolia, which also v1 clients know.
TEST_NETWORK: Final = "eip155:84532"

_BACKEND: Final = f"{__name__}.InstantFacilitator"


class InstantFacilitator(BaseFacilitator):
    """Verifies signatures for real, and settles every payment at once, on no chain at all.

    The class remembers what it was asked, for all its instances: ``calls`` counts ``verify`` and
    ``settle``; ``settled`` are the nonces it settled. Put exceptions into ``script["verify"]`` or
    ``script["settle"]`` to have the next calls raise them. ``reset`` forgets all of it.
    """

    trusted = True
    calls: Counter[str] = Counter()
    settled: list[str] = []
    script: dict[str, list[BaseException]] = {"verify": [], "settle": []}
    _lock = threading.Lock()

    @classmethod
    def reset(cls) -> None:
        """Forget the calls and the script."""
        cls.calls.clear()
        cls.settled.clear()
        cls.script = {"verify": [], "settle": []}

    def verify(self, signed: SignedPayment) -> None:
        self._next("verify")
        if not check_eoa_signature(signed):
            raise PaymentRefused(
                "Only payers with a key of their own can pay here.", code=Code.INVALID_SIGNATURE
            )

    def settle(self, signed: SignedPayment, payment: object) -> Settlement:
        self._next("settle")
        self.settled.append(signed.nonce)
        digest = hashlib.sha256("/".join(signed.key).encode()).hexdigest()
        return Settlement(
            transaction=f"0x{digest}", block_number=1, block_hash="0x" + "0" * 64, log_index=0
        )

    def supported(self) -> frozenset[Kind]:
        schemes = (SCHEME_EXACT, SCHEME_BATCH)
        return frozenset((scheme, network) for scheme in schemes for network in x402.networks)

    def claimants(self, network: str) -> Sequence[str]:
        return (TEST_PAY_TO,)

    def _next(self, operation: str) -> None:
        with self._lock:
            self.calls[operation] += 1
            error = self.script[operation].pop(0) if self.script[operation] else None
        if error is not None:
            raise error


class instant_payments(TestContextDecorator):  # noqa: N801 - named as ``override_settings`` is
    """The site's own settings, with every facilitator replaced by an ``InstantFacilitator``.

    A decorator for test cases and functions, and a context manager. A test case gets it anew for
    each test, around its ``setUp``. Prices, networks and payment methods stay the site's; a site
    without ``PAY_TO`` or ``NETWORKS`` gets ``TEST_PAY_TO`` and ``TEST_NETWORK``.

    Args:
        more: further keys of ``X402``, which win.
    """

    def __init__(self, **more: Any) -> None:
        self._more = more
        self._enabled: list[override_settings] = []
        super().__init__()

    def enable(self) -> None:
        InstantFacilitator.reset()
        override = override_settings(X402=self._settings(getattr(settings, "X402", {})))
        override.enable()
        self._enabled.append(override)

    def disable(self) -> None:
        self._enabled.pop().disable()

    def _settings(self, own: Mapping[str, Any]) -> dict[str, Any]:
        aliases = {*(own.get("FACILITATORS") or {}), "default"}
        return {
            **own,
            "PAY_TO": own.get("PAY_TO") or TEST_PAY_TO,
            "NETWORKS": own.get("NETWORKS") or {TEST_NETWORK: {}},
            "FACILITATORS": {alias: {"BACKEND": _BACKEND} for alias in aliases},
            # It would write now and then at the end of a request: tests count statements.
            "CHALLENGE_COUNT_INTERVAL": None,
            **self._more,
        }
