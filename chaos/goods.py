"""What is for sale, in every payment flow: one list for the shop, its buyers and the audit."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from x402_django.constants import FLOW_AUTHORIZATION, FLOW_DEFERRED, FLOW_UPFRONT

#: Atomic units of a dollar.
DOLLAR: Final = 10**6


@dataclass(frozen=True, slots=True)
class Kind:
    """Things of one kind: at ``/<name>/<size>/<…>/``, for ``size`` times ``price`` dollars."""

    name: str
    method: str
    flow: str
    price: Decimal
    sizes: tuple[int, ...] = (1,)

    def units(self, size: int) -> int:
        """What one costs, in atomic units."""
        return int(self.price * size * DOLLAR)


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("items", "GET", FLOW_AUTHORIZATION, Decimal("0.01")),
        # Priced by its length; some are dear enough to want more confirmations.
        Kind("reports", "GET", FLOW_AUTHORIZATION, Decimal("0.003"), (1, 2, 50)),
        Kind("orders", "POST", FLOW_UPFRONT, Decimal("0.02"), (1, 3)),
        Kind("ticks", "GET", FLOW_DEFERRED, Decimal("0.001"), (1, 2)),
    )
}
