"""Which payments are deep enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from django.db.models import Q

from x402_django.conf import x402
from x402_django.finality import ConfirmationTier, required_depth
from x402_django.models import ChannelClaim, Payment, Refund

#: Blocks after which a nonce is lost for good where depth is a tag of the chain.
DEEP: Final = 100
#: Of no block number: nothing is as deep as this.
_NOWHERE: Final = -1


def is_deep(
    payment: Payment | Refund | ChannelClaim, *, block_number: int, confirmations: int
) -> bool:
    """Whether ``payment`` (or a refund), in a block with so many ``confirmations``, is final.

    Asks the chain where its depth is a tag. Raises RpcUnavailable.
    """
    depth = required_depth(x402.network(payment.network).confirmations, payment.price_usd)
    if isinstance(depth, int):
        return confirmations >= depth
    from x402_django.chain.scan import read_view  # loads web3: not before it is needed

    return block_number <= read_view(payment.network, tags=[depth]).tagged[depth]


class Horizon:
    """The newest block whose payments are final, by what they are worth, in one view of the chain.

    ``head`` is the newest block's number; ``tagged`` says where the tags stand.
    """

    def __init__(
        self, tiers: Sequence[ConfirmationTier], head: int, tagged: Mapping[str, int]
    ) -> None:
        self._tiers = tiers
        self._head = head
        self._tagged = tagged

    def confirmations(self, block_number: int) -> int:
        """Blocks from that one to the newest, both counted."""
        return self._head - block_number + 1

    def reached(self, block_number: int, usd: Decimal | None) -> bool:
        """Whether a payment of ``usd`` dollars in that block is final."""
        return block_number <= self._newest(required_depth(self._tiers, usd))

    def reason(self, block_number: int, usd: Decimal | None) -> str:
        """Why it is, for the ledger."""
        depth = required_depth(self._tiers, usd)
        if isinstance(depth, str):
            return f"Its block is {depth}."
        return f"{self.confirmations(block_number)} confirmations."

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
