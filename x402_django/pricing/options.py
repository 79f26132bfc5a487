"""What a view's code says about its price."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from x402_django.constants import FLOWS, MAX_SESSION_ACCESS
from x402_django.exceptions import ConfigurationError

if TYPE_CHECKING:
    from django.http import HttpRequest

#: US dollars: ``"$0.01"``, ``Decimal("0.01")`` or whole dollars as an ``int``.
Price = str | int | Decimal
PriceSource = Price | Callable[["HttpRequest"], Price]


@dataclass(frozen=True, slots=True)
class PaidViewOptions:
    """A price declared in code, and what the payer is told about it.

    ``rule`` is the key of a PriceRule; while one is in force it wins over ``price``. At least
    one of the two must be given.
    """

    price: PriceSource | None = None
    rule: str | None = None
    description: str = ""
    mime_type: str = ""
    flow: str | None = None
    #: Seconds for which a browser that has paid may come back (http/access.py).
    session_access: int = 0
    #: US dollars for one unit, where the price is a maximum: ``"$0.000002"``.
    unit_price: str | Decimal | None = None
    #: Whether the price is a maximum, of which the view charges what was used.
    metered: bool = False

    @property
    def is_metered(self) -> bool:
        """Whether the price is a maximum: said so, or by a unit price."""
        return self.metered or self.unit_price is not None

    @property
    def unit_price_usd(self) -> Decimal | None:
        """The unit price in dollars."""
        if self.unit_price is None:
            return None
        return Decimal(str(self.unit_price).strip().removeprefix("$"))

    def __post_init__(self) -> None:
        try:
            unit_price = self.unit_price_usd
        except InvalidOperation:
            unit_price = Decimal(0)
        if unit_price is not None and (not unit_price.is_finite() or unit_price <= 0):
            raise ConfigurationError(
                f"{self.unit_price!r} is not a unit price. Write a string such as '$0.000002'."
            )
        if self.price is None and not self.rule:
            raise ConfigurationError(
                "A paid view needs a price (payment_required('$0.01')) or the key of a price "
                "rule (payment_required(rule='report'))."
            )
        if self.flow is not None and self.flow not in FLOWS:
            raise ConfigurationError(
                f"{self.flow!r} is not a payment flow; use one of: {', '.join(FLOWS)}."
            )
        if not 0 <= self.session_access <= MAX_SESSION_ACCESS:
            raise ConfigurationError(
                f"session_access is a number of seconds from 0 to {MAX_SESSION_ACCESS} (a year), "
                f"not {self.session_access!r}."
            )
