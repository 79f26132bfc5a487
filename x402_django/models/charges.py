"""``request.payment.charge(…)``: what a view has used of the maximum (the scheme ``upto``)."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from x402_django.constants import SCHEME_UPTO
from x402_django.exceptions import InvalidCharge


class Charges:
    """The part of ``Payment`` that takes down what is to be charged.

    Amounts are dollars (``"0.0042"``, ``Decimal``), rounded up to the token's smallest unit, or
    atomic units as an ``int``.
    """

    if TYPE_CHECKING:
        scheme: Any
        amount: Any
        asset_decimals: Any
        requirements: Any
        unit_price_usd: Any

    _charged: int | None = None

    def charge(self, amount: str | Decimal | int) -> int:
        """Charge ``amount`` instead of the maximum; what will be settled, in atomic units.

        ::

            @payment_required("$0.10")                 # the maximum
            def complete(request):
                answer = model.complete(request.POST["prompt"])
                request.payment.charge(answer.cost)    # Decimal("0.0042")
                return JsonResponse(answer.json)

        The last call counts. 0 is allowed: nothing is settled then. A view that never calls
        this charges the maximum. To be called before the view returns, so not while a
        ``StreamingHttpResponse`` streams.

        A payment by the scheme ``exact`` is of precisely the price: nothing is changed, and the
        price is returned.

        Raises InvalidCharge if it is more than the maximum, negative, or no amount (a ``float``
        has no exact value).
        """
        units = self._atomic(amount)
        if units > self.maximum:
            raise InvalidCharge(
                f"{units} atomic units are more than the {self.maximum} that were authorized."
            )
        if self.scheme != SCHEME_UPTO:
            return self.maximum
        self._charged = units
        return units

    def charge_units(self, count: int) -> int:
        """``charge`` so many units at the unit price of the rule or view. Raises as ``charge``.

        Raises InvalidCharge also if there is no unit price.
        """
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise InvalidCharge(f"{count!r} is not a number of units.")
        return self.charge(self._unit_price * count)

    @property
    def maximum(self) -> int:
        """The most that can be charged, in atomic units: what the payer has authorized."""
        return int(self.requirements["amount"])

    @property
    def maximum_units(self) -> int:
        """How many units the maximum pays for. Raises InvalidCharge without a unit price."""
        dollars = Decimal(self.maximum).scaleb(-self.asset_decimals)
        return int((dollars / self._unit_price).to_integral_value(ROUND_FLOOR))

    @property
    def due(self) -> int:
        """What will be settled as it stands now, in atomic units."""
        return int(self.amount) if self._charged is None else self._charged

    @property
    def _unit_price(self) -> Decimal:
        if not self.unit_price_usd:
            raise InvalidCharge(
                "This payment has no unit price. Give one to the price rule, or to "
                "payment_required(…, unit_price='$0.000002')."
            )
        return Decimal(self.unit_price_usd)

    def _atomic(self, amount: str | Decimal | int) -> int:
        if isinstance(amount, int) and not isinstance(amount, bool):
            units = amount
        else:
            try:
                if isinstance(amount, str):
                    dollars = Decimal(amount.strip().removeprefix("$"))
                elif isinstance(amount, Decimal):
                    dollars = amount
                else:
                    raise TypeError
                exact = dollars.scaleb(self.asset_decimals)
                units = int(exact.to_integral_value(ROUND_CEILING))
            except (InvalidOperation, OverflowError, TypeError, ValueError):
                raise InvalidCharge(
                    f"{amount!r} is no amount: give dollars as a string or a Decimal, or atomic "
                    "units as an int."
                ) from None
        if units < 0:
            raise InvalidCharge("A charge cannot be negative.")
        return units
