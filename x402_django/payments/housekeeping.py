"""Periodic work that needs no chain, all of it."""

from __future__ import annotations

from dataclasses import dataclass

from x402_django.payments import holdings, maintenance, noticed, quotas, uses
from x402_django.payments.periodic import recorded
from x402_django.payments.service import budget


@dataclass(frozen=True, slots=True)
class Tidied:
    """How many claims were released, and stored responses emptied."""

    released: int
    emptied: int

    def __str__(self) -> str:
        return f"released: {self.released}, stored responses emptied: {self.emptied}"


@recorded("release_stale_claims")
def tidy_up() -> Tidied:
    """Release the claims of dead processes, and forget what is past its time."""
    emptied = maintenance.purge_stored_responses() + uses.empty_stored_responses()
    maintenance.purge_spent_nonces()
    budget.forget_old_counters()
    noticed.forget_old_notices()
    quotas.forget_old_quotas()
    holdings.book_what_is_left()
    released = maintenance.release_stale_claims() + uses.give_back_stale()
    return Tidied(released, emptied)
