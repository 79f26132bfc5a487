"""How many payments may be on their way at once, before another one is not even claimed.

A payment is in flight from its claim until it is settled or let go, unless its content was
delivered before (the flow ``deferred`` has limits of its own, in ``exposure``). Those whose outcome
is unknown count against their payer, and not among all payers': nobody works on them, and a
facilitator that is down must not close the shop. Whoever floods a site with authorizations of
which only some can be paid makes no more views run for nothing than the bound says (threat 8).

The bound is part of the INSERT that claims, and takes no lock: claims that are inserted at the very
same moment do not see each other, so it may be passed by as many as the site has workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from x402_django.models.querysets import PaymentQuerySet

STATES: Final = ("claimed", "verified", "settling")

# The states are written out so that SQLite, too, sees that the partial index applies; the kind is
# wrapped so that no planner takes the index of kinds instead.
_COUNT: Final = """
    AND (SELECT COUNT(*) FROM (
        SELECT 1 FROM {payment} WHERE COALESCE({kind}, '') = 'sale'
        AND {state} IN ('claimed', 'verified', 'settling') AND {delivered_at} IS NULL
        {whose} LIMIT %s
    ) in_flight) < %s
"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Most payments in flight: of one payer, and of all. None: any number."""

    per_payer: int | None = None
    in_all: int | None = None

    @property
    def kinds(self) -> tuple[bool, bool]:
        """Which of the bounds there are; what the text of ``condition`` depends on."""
        return self.per_payer is not None, self.in_all is not None

    def parameters(self, payer: str) -> list[Any]:
        """What ``condition`` has placeholders for."""
        parameters: list[Any] = []
        if self.per_payer is not None:
            parameters += [payer, self.per_payer, self.per_payer]
        if self.in_all is not None:
            parameters += [self.in_all, self.in_all]
        return parameters

    def are_reached(self, payments: PaymentQuerySet, payer: str) -> bool:
        """Whether another payment of ``payer`` would be one too many."""
        flying = payments.in_flight()
        if self.per_payer is not None and _at_least(flying.filter(payer=payer), self.per_payer):
            return True
        known = flying.filter(outcome_unknown_at__isnull=True)
        return self.in_all is not None and _at_least(known, self.in_all)


def condition(kinds: tuple[bool, bool], **names: str) -> str:
    """What a claim's WHERE has for bounds of these ``kinds``; ``names`` are quoted columns."""
    ways = (f"AND {names['payer']} = %s", f"AND {names['outcome_unknown_at']} IS NULL")
    return "".join(
        _COUNT.format(whose=way, **names) for way, wanted in zip(ways, kinds, strict=True) if wanted
    )


def _at_least(payments: PaymentQuerySet, number: int) -> bool:
    return payments.values("pk")[:number].count() >= number
