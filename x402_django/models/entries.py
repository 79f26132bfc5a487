"""What ``request.payment`` is where a rule lets somebody in free of charge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

#: As many units as nobody uses up.
_PLENTY: Final = 10**9


@dataclass(slots=True)
class FreeEntry:
    """Nobody paid, and nothing is charged; a view reads of it what it reads of a payment.

    ``reason`` is the name of the rule that let the request in. ``is_free`` is what tells it from a
    payment, which has no such attribute.
    """

    reason: str
    rule_id: int | None = None
    is_free: bool = True
    is_paid: bool = True
    amount: int = 0
    price_usd: Decimal = Decimal(0)
    payer: str = ""
    pay_to: str = ""
    network: str = ""
    asset: str = ""
    transaction: str = ""
    public_id: str = ""
    due: int = 0
    maximum: int = 0
    maximum_units: int = _PLENTY

    def charge(self, amount: Any) -> int:
        """Nothing is charged."""
        return 0

    def charge_units(self, count: int) -> int:
        """Nothing is charged."""
        return 0

    def on_settled(self, callback: Callable[[], object]) -> None:
        """There is no money to wait for: it is called at once."""
        callback()
