"""US dollars and atomic token units; exact, never through a float."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from x402_django.conf import x402
from x402_django.exceptions import ConfigurationError


def parse_usd(price: object) -> Decimal:
    """A price in US dollars from ``"$0.01"``, ``"0.01"``, ``Decimal`` or a whole ``int``.

    Raises ConfigurationError for anything else (a ``float`` has no exact value), for a price
    that is not positive, and for dust below ``X402["MINIMUM_PRICE"]``.
    """
    value = read_usd(price)
    if value <= 0:
        raise ConfigurationError(f"The price {price!r} is not positive.")
    if value < x402.minimum_price:
        raise ConfigurationError(
            f"The price {price!r} is below X402['MINIMUM_PRICE'] ({x402.minimum_price} USD): "
            "settling it would cost more than it brings."
        )
    return value


def read_usd(price: object) -> Decimal:
    """The number of US dollars that ``price`` says, of any sign and size.

    Raises ConfigurationError for what ``parse_usd`` would not read.
    """
    try:
        if isinstance(price, str):
            value = Decimal(price.strip().removeprefix("$"))
        elif isinstance(price, Decimal):
            value = price
        elif isinstance(price, int) and not isinstance(price, bool):
            value = Decimal(price)
        else:
            raise TypeError
    except (InvalidOperation, TypeError):
        raise ConfigurationError(
            f"{price!r} is not a price. Write a string such as '$0.01' or a Decimal."
        ) from None
    if not value.is_finite():
        raise ConfigurationError(f"The price {price!r} is not positive.")
    return value


def to_atomic(usd: Decimal, decimals: int) -> int:
    """``usd`` dollars in the smallest unit of a dollar token with ``decimals`` decimals.

    Raises ConfigurationError if the price is finer than the token can express.
    """
    numerator, denominator = usd.as_integer_ratio()
    amount, remainder = divmod(numerator * int(10**decimals), denominator)
    if remainder:
        raise ConfigurationError(
            f"{usd} USD cannot be paid exactly in a token with {decimals} decimals."
        )
    return amount


def format_amount(amount: int, decimals: int, symbol: str = "") -> str:
    """An atomic amount as people write it: ``format_amount(10000, 6, "USDC") == "0.01 USDC"``.

    Exact for the whole uint256 range; at least two decimals where the token has them.
    """
    whole, fraction = divmod(amount, 10**decimals)
    digits = str(fraction).zfill(decimals).rstrip("0") if decimals else ""
    text = f"{whole}.{digits.ljust(min(2, decimals), '0')}" if decimals else str(whole)
    return f"{text} {symbol}".rstrip()


def format_usd(dollars: Decimal) -> str:
    """``$0.01``: at least two decimals, and no more zeros than that."""
    whole, _point, fraction = f"{dollars:f}".partition(".")
    return f"${whole}.{fraction.rstrip('0').ljust(2, '0')}"
