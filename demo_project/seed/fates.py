"""What becomes of payments: the ways through the state machine, and how often each is gone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from random import Random
from typing import Final

from x402_django.constants import FLOW_DEFERRED, Code
from x402_django.models import Payment

State = Payment.State


@dataclass(frozen=True, slots=True)
class Move:
    """A transition, as a ``PaymentEvent`` tells it."""

    to: str
    reason: str
    actor: str
    code: str = ""


@dataclass(frozen=True)
class Fate:
    """A way through the machine, from ``claimed``.

    ``ages`` are the seconds, at least and at most, since a payment that is still under way was
    presented. ``delivered`` says whether its response has left, ``earlier`` whether another
    payment was served instead.
    """

    moves: tuple[Move, ...]
    share: float
    delivered: bool = False
    unknown: bool = False
    earlier: bool = False
    failure: str = ""
    flow: str | None = None
    ages: tuple[float, float] = (0, 0)

    @cached_property
    def state(self) -> str:
        """Where it ends."""
        return self.moves[-1].to if self.moves else str(State.CLAIMED)

    @cached_property
    def states(self) -> frozenset[str]:
        """Where the payment is or was, after ``claimed``."""
        return frozenset(move.to for move in self.moves)

    @cached_property
    def deferred(self) -> Fate:
        """The same under the flow ``deferred``: what is verified is delivered, whatever follows."""
        moves = tuple(_DEFERRED.get(move, move) for move in self.moves)
        return replace(self, moves=moves, delivered=State.VERIFIED in self.states)


_VERIFIED: Final = Move(State.VERIFIED, "The facilitator found it valid.", "request")
_SETTLING: Final = Move(State.SETTLING, "Settlement begins.", "request")
_SETTLED: Final = Move(State.SETTLED, "The transfer is on chain.", "request")
_FINAL: Final = Move(State.FINAL, "12 confirmations.", "confirmation")
_ARRIVED: Final = (_VERIFIED, _SETTLING, _SETTLED)
_REFUNDED: Final = Move(State.REFUNDED, "Returned to the payer.", "merchant")
_REVERSED: Final = Move(
    State.REVERSED, "The transfer is no longer on chain.", "confirmation", "reorganised"
)
_REJECTED: Final = Move(
    State.REJECTED,
    "The payer does not have that much.",
    "facilitator",
    Code.INSUFFICIENT_FUNDS,
)
_RELEASED: Final = Move(State.RELEASED, "The view answered 404.", "request", "view_failed")
_LEFT: Final = Move(
    State.RELEASED,
    "The claim timed out: its process is taken for dead.",
    "maintenance",
    "claim_timed_out",
)
_SERVED: Final = Move(
    State.RELEASED, "An earlier payment covers this request.", "request", "served_from_earlier"
)
_FAILED: Final = Move(
    State.FAILED, "The transfer reverted.", "facilitator", Code.INVALID_TRANSACTION_STATE
)
_EXPIRED: Final = Move(
    State.EXPIRED,
    "The authorization expired without being used; you were not charged.",
    "confirmation",
    Code.INVALID_VALID_BEFORE,
)

#: The same moves under the flow ``deferred``.
_DEFERRED: Final = {
    _VERIFIED: Move(
        State.VERIFIED, "Delivered; settlement follows in a batch.", "request", FLOW_DEFERRED
    ),
    _SETTLING: replace(_SETTLING, actor="settlement"),
    _SETTLED: replace(_SETTLED, actor="settlement"),
}

#: Its process died.
TIMED_OUT: Final = Fate((_LEFT,), 0.004, failure="claim_timed_out")
#: Of payments whose story is over.
PAST: Final = (
    Fate((*_ARRIVED, _FINAL), 0.8939, delivered=True),
    Fate((*_ARRIVED, _FINAL), 0.0005),
    Fate((*_ARRIVED, _FINAL, _REFUNDED), 0.012, delivered=True),
    Fate((*_ARRIVED, _REVERSED), 0.0001, delivered=True),
    Fate((_REJECTED,), 0.035, failure=Code.INSUFFICIENT_FUNDS),
    Fate((_RELEASED,), 0.033, failure="view_failed"),
    TIMED_OUT,
    Fate((_SERVED,), 0.0015, earlier=True),
    Fate((_VERIFIED, _SETTLING, _FAILED), 0.012, failure=Code.INVALID_TRANSACTION_STATE),
    Fate((_VERIFIED, _SETTLING, _EXPIRED), 0.008, unknown=True),
)
#: Of the latest ones.
PRESENT: Final = (
    Fate(_ARRIVED, 0.42, delivered=True, ages=(20, 90)),
    Fate(_ARRIVED, 0.02, ages=(60, 600)),
    Fate((), 0.08, ages=(0, 3)),
    Fate((), 0.04, ages=(1000, 3000)),
    Fate((_VERIFIED,), 0.25, delivered=True, flow=FLOW_DEFERRED, ages=(1, 30)),
    Fate((_VERIFIED, _SETTLING), 0.05, ages=(11, 20)),
    Fate((_VERIFIED, _SETTLING), 0.03, unknown=True, ages=(40, 250)),
    Fate((*_ARRIVED, _REVERSED), 0.01, delivered=True, ages=(60, 200)),
    Fate((_REJECTED,), 0.04, failure=Code.INSUFFICIENT_FUNDS, ages=(1, 600)),
    Fate((_RELEASED,), 0.04, failure="view_failed", ages=(1, 600)),
    Fate((_VERIFIED, _SETTLING, _FAILED), 0.02, failure=Code.INVALID_TRANSACTION_STATE,
         ages=(30, 600)),
)  # fmt: skip
_PAST_SHARES: Final = list(accumulate(fate.share for fate in PAST))
_PRESENT_SHARES: Final = list(accumulate(fate.share for fate in PRESENT))


def past(rng: Random, count: int) -> list[Fate]:
    """What became of ``count`` payments."""
    return rng.choices(PAST, cum_weights=_PAST_SHARES, k=count)


def present(rng: Random, count: int) -> list[Fate]:
    """Where ``count`` payments stand; each of the fates at least once, if there are so many."""
    chosen = rng.choices(PRESENT, cum_weights=_PRESENT_SHARES, k=count)
    chosen[: len(PRESENT)] = PRESENT[:count]
    return chosen
