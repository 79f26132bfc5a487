"""What a view's code says about its price."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from x402_django.constants import FLOWS, MAX_SESSION_ACCESS
from x402_django.exceptions import ConfigurationError
from x402_django.pricing.money import read_usd
from x402_django.pricing.payees import Payee, PayeeSource

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

#: US dollars: ``"$0.01"``, ``Decimal("0.01")`` or whole dollars as an ``int``.
Price = str | int | Decimal
PriceSource = Price | Callable[["HttpRequest"], Price]


@dataclass(frozen=True, slots=True)
class PaidViewOptions:
    """A price declared in code, and what the payer is told about it.

    ``rule`` is the key of a PriceRule; while one is in force it wins over ``price``. At least
    one of the two must be given. A price in code below ``minimum``, or above ``maximum`` (US
    dollars), becomes that; a rule's does not. ``pay_to`` is who is paid, instead of the payment
    methods' payees.
    """

    price: PriceSource | None = None
    rule: str | None = None
    description: str = ""
    mime_type: str = ""
    flow: str | None = None
    #: Looks at a request that carries a payment before anything is taken; see ``http.matching``.
    validate: Callable[[HttpRequest], HttpResponseBase | None] | None = None
    pay_to: PayeeSource | None = None
    minimum: Price | None = None
    maximum: Price | None = None
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

    #: What the view says to extensions, by key: options over those of the setting, or False.
    extensions: Mapping[str, Mapping[str, Any] | bool] = field(default_factory=dict)

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
        bounds = [read_usd(bound) for bound in (self.minimum, self.maximum) if bound is not None]
        if any(bound <= 0 for bound in bounds) or bounds != sorted(bounds):
            raise ConfigurationError(
                f"minimum={self.minimum!r} and maximum={self.maximum!r} are not bounds of a price "
                "in US dollars, the lower one first."
            )

    def price_for(self, request: HttpRequest) -> Price | None:
        """What the code asks for ``request``, within its bounds; None if it names no price.

        Raises ConfigurationError for what is no price; nothing is never raised to the minimum
        from below zero.
        """
        price = self.price(request) if callable(self.price) else self.price
        if price is None or (self.minimum is None and self.maximum is None):
            return price
        dollars = read_usd(price)
        if dollars < 0:
            return price
        if self.minimum is not None:
            dollars = max(dollars, read_usd(self.minimum))
        if self.maximum is not None:
            dollars = min(dollars, read_usd(self.maximum))
        return dollars

    def payee_for(self, request: HttpRequest) -> Payee | None:
        """Whom the code says to pay for ``request``; None leaves that to the payment methods."""
        return self.pay_to(request) if callable(self.pay_to) else self.pay_to
