"""How deep a payment must be until nothing is expected to undo it: ``CONFIRMATIONS``.

Depth counts blocks, the transfer's own included: 1 is a transfer in the newest block. Instead of
a number a depth may be a tag of the chain, ``"safe"`` or ``"finalized"`` (Engine API): the block
that the chain itself vouches for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Any, Final

#: Tags that may stand for a depth, from the weaker to the stronger.
TAGS: Final = ("safe", "finalized")


@dataclass(frozen=True, slots=True)
class ConfirmationTier:
    """Payments of ``usd`` US dollars and more are final at ``depth``: blocks, or a tag."""

    usd: Decimal
    depth: int | str

    @property
    def strength(self) -> tuple[int, int]:
        """Orders depths: numbers by size, then the tags."""
        if isinstance(self.depth, str):
            return (1, TAGS.index(self.depth))
        return (0, self.depth)


def parse_confirmations(raw: object) -> tuple[ConfirmationTier, ...]:
    """Tiers from the setting: a depth, or pairs of US dollars and depth.

    The first tier begins at 0; dollars rise from tier to tier and depths never fall. Raises
    ValueError, with a sentence for the merchant, for anything else.
    """
    if isinstance(raw, int | str):
        return (ConfirmationTier(Decimal(0), _depth(raw)),)
    if not isinstance(raw, Sequence) or not raw:
        raise ValueError("Write a whole number of at least 1, 'safe', 'finalized', or tiers.")
    tiers = tuple(_tier(pair) for pair in raw)
    if tiers[0].usd != 0:
        raise ValueError("The first tier must begin at 0 dollars.")
    for lower, upper in pairwise(tiers):
        if upper.usd <= lower.usd:
            raise ValueError("The dollars must rise from tier to tier.")
        if upper.strength < lower.strength:
            raise ValueError("A larger payment cannot need less depth than a smaller one.")
    return tiers


def required_depth(tiers: Sequence[ConfirmationTier], usd: Decimal | None) -> int | str:
    """The depth for a payment of ``usd`` dollars; the greatest for one whose worth is unknown."""
    if usd is None:
        return tiers[-1].depth
    return next(tier.depth for tier in reversed(tiers) if tier.usd <= usd)


def _tier(pair: Any) -> ConfirmationTier:
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        raise ValueError("Write tiers as pairs of dollars and depth: [(0, 1), (1000, 12)].")
    dollars, depth = pair
    try:
        usd = Decimal(str(dollars))
    except InvalidOperation:
        raise ValueError(f"{dollars!r} is no number of dollars.") from None
    if isinstance(dollars, bool) or not usd.is_finite() or usd < 0:
        raise ValueError(f"{dollars!r} is no number of dollars.")
    return ConfirmationTier(usd, _depth(depth))


def _depth(raw: Any) -> int | str:
    if isinstance(raw, str) and raw in TAGS:
        return raw
    if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 1:
        return raw
    raise ValueError(
        f"{raw!r} is no depth: write a whole number of at least 1, 'safe' or 'finalized'."
    )
