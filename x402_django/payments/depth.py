"""Which payments are deep enough, for one view of the chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from django.db.models import Q

from x402_django.finality import ConfirmationTier, required_depth

#: Of no block number: nothing is as deep as this.
_NOWHERE: Final = -1


class Horizon:
    """The newest block whose payments are final, by what they are worth.

    ``head`` is the newest block's number; ``tagged`` says where the tags stand.
    """

    def __init__(
        self, tiers: Sequence[ConfirmationTier], head: int, tagged: Mapping[str, int]
    ) -> None:
        self._tiers = tiers
        self._head = head
        self._tagged = tagged

    def reached(self, block_number: int, usd: Decimal | None) -> bool:
        """Whether a payment of ``usd`` dollars in that block is final."""
        return block_number <= self._newest(required_depth(self._tiers, usd))

    def reason(self, block_number: int, usd: Decimal | None) -> str:
        """Why it is, for the ledger."""
        depth = required_depth(self._tiers, usd)
        if isinstance(depth, str):
            return f"Its block is {depth}."
        return f"{self._head - block_number + 1} confirmations."

    def due(self) -> Q:
        """``reached`` as a condition on payments."""
        condition = Q(price_usd__isnull=True, block_number__lte=self._newest(self._tiers[-1].depth))
        uppers = [*(tier.usd for tier in self._tiers[1:]), None]
        for tier, upper in zip(self._tiers, uppers, strict=True):
            within = Q(price_usd__gte=tier.usd, block_number__lte=self._newest(tier.depth))
            condition |= within if upper is None else within & Q(price_usd__lt=upper)
        return condition

    def _newest(self, depth: int | str) -> int:
        if isinstance(depth, str):
            return self._tagged.get(depth, _NOWHERE)
        return max(self._head - depth + 1, _NOWHERE)
