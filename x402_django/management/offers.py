"""What a buyer is offered, what it may cost, and both as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from x402_django.pricing.money import format_amount
from x402_django.protocol.assets import is_address
from x402_django.protocol.buying import SellersChallenge, SellersOffer
from x402_django.protocol.networks import network_of_v1

_COLUMNS: Final = ("price", "network", "token", "payTo", "note")


@dataclass(frozen=True, slots=True)
class Wish:
    """What may be paid. ``most`` is in whole units of tokens that are known here, ``most_atomic``
    in the smallest unit of ``asset``, should that be an address that is not.
    """

    most: Decimal
    most_atomic: int | None = None
    network: str | None = None
    asset: str | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Wish:
        """From the options of ``x402_pay``."""
        network = options["network"]
        return cls(
            most=options["max"],
            most_atomic=options["max_atomic"],
            network=None if network is None else network_of_v1(network) or network,
            asset=options["asset"],
        )

    def choose(self, challenge: SellersChallenge) -> SellersOffer | None:
        """The first offer, in the seller's order, that is wanted and within the limit."""
        return next((one for one in challenge.offers if not self.objection(one)), None)

    def objection(self, offer: SellersOffer) -> str:
        """Why ``offer`` is not to be paid; empty if it may be."""
        if not offer.payable:
            return "cannot be signed here"
        if self.network not in (None, offer.network):
            return "another network"
        symbol = "" if offer.token is None else offer.token.symbol
        if self.asset is not None and self.asset.lower() not in (
            offer.asset.lower(),
            symbol.lower(),
        ):
            return "another token"
        if offer.token is not None:
            limit = int(self.most * 10**offer.token.decimals)
        elif self.most_atomic is not None and is_address(self.asset):
            limit = self.most_atomic
        else:
            return "unknown token"
        return "" if offer.amount <= limit else "above the limit"


def price_of(offer: SellersOffer) -> str:
    """The price for a person."""
    if offer.token is None:
        return f"{offer.amount} units"
    return format_amount(offer.amount, offer.token.decimals, offer.token.symbol)


def as_json(challenge: SellersChallenge, wish: Wish) -> str:
    """The offers as one JSON object."""
    return json.dumps({"description": challenge.description, "offers": _rows(challenge, wish)})


def as_table(challenge: SellersChallenge, wish: Wish) -> str:
    """The offers as lines of aligned columns."""
    lines = [_COLUMNS, *(tuple(row[name] for name in _COLUMNS) for row in _rows(challenge, wish))]
    widths = [max(len(line[place]) for line in lines) for place in range(len(_COLUMNS))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    described = [_printable(challenge.description)] if challenge.description else []
    return "\n".join([*described, *table])


def _rows(challenge: SellersChallenge, wish: Wish) -> list[dict[str, str]]:
    chosen = wish.choose(challenge)
    return [
        {
            "price": price_of(offer),
            "amount": str(offer.amount),
            "scheme": offer.scheme,
            "network": _printable(offer.network),
            "token": _printable(offer.asset),
            "payTo": _printable(offer.pay_to),
            "note": "would be paid" if offer is chosen else wish.objection(offer) or "not needed",
        }
        for offer in challenge.offers
    ]


def _printable(text: str) -> str:
    """A seller's text without what would steer a terminal."""
    return "".join(character if character.isprintable() else "�" for character in text)
