"""Who waits for what on the way of payments to the chain; see ``facilitators.lane``."""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from x402_django.exceptions import RpcUnavailable, X402Error
from x402_django.protocol.types import Settlement, SignedPayment

if TYPE_CHECKING:
    from x402_django.chain.groups import Departure, Rider
    from x402_django.models import ChainTransaction

logger = logging.getLogger("x402_django.facilitators")


class Dispatcher(Protocol):
    """What a lane needs of its facilitator."""

    alias: str

    def send_group(self, network: str, riders: Sequence[Rider]) -> Departure:
        """Send payments in one transaction. Raises RpcUnavailable if nothing was sent."""

    def not_settled(
        self, row: ChainTransaction, signed: SignedPayment, payment_id: int
    ) -> X402Error:
        """What it means that a payment's mined transaction has not settled it."""


class Fate(enum.Enum):
    """What becomes of a payment that a group has neither settled nor lost."""

    #: To be settled by itself, and judged by itself.
    ALONE = "alone"
    #: Look into the outbox and start over.
    AGAIN = "again"


@dataclass(eq=False, slots=True)
class Seat:
    """A payment of this process on its way through the lane.

    ``examined``: an earlier transaction of the payment, if it had one, is dealt with.
    ``queued``: other processes may have found it in the queue. ``transaction``: the hash of
    what was sent for it, if that is known.
    """

    payment_id: int
    signed: SignedPayment
    party: Party
    examined: bool = False
    queued: bool = False
    tries: int = 0
    transaction: str = ""
    result: Settlement | X402Error | Fate | None = None

    def finish(self, result: Settlement | X402Error | Fate) -> None:
        """Once; what comes later is void."""
        if self.result is None:
            self.result = result
            self.party.wake()


class Party:
    """The payments that one thread waits for, and what it is asked to do meanwhile.

    Args:
        batch: payments by primary key.
        seconds: how long the thread may wait.
        examined: see ``Seat``.
    """

    def __init__(
        self, batch: Mapping[int, SignedPayment], *, seconds: float, examined: bool = False
    ) -> None:
        self.seats = [
            Seat(payment_id, signed, self, examined) for payment_id, signed in batch.items()
        ]
        self.deadline = time.monotonic() + seconds
        #: Whether the thread has gone; then it can be asked for nothing.
        self.gone = False
        #: What this thread is responsible for: when it goes, somebody else must take over.
        self.journeys: list[Journey] = []
        self._duties: deque[Callable[[], None]] = deque()
        self._woken = threading.Event()

    @property
    def remaining(self) -> float:
        """Seconds until this thread must answer."""
        return self.deadline - time.monotonic()

    def ask(self, duty: Callable[[], None]) -> None:
        """Have this party's thread do something."""
        self._duties.append(duty)
        self._woken.set()

    def wake(self) -> None:
        """A seat has got its result."""
        self._woken.set()

    def next_duty(self) -> Callable[[], None] | None:
        """Wait for something to do. None when every seat has its result or the time is up."""
        while True:
            self._woken.clear()
            if all(seat.result is not None for seat in self.seats) or self.remaining <= 0:
                return None
            if self._duties:
                return self._duties.popleft()
            self._woken.wait(self.remaining)


@dataclass(eq=False, slots=True)
class Leadership:
    """One turn of leading. ``leased``: the lane is held in the database, in this ``name``."""

    party: Party
    name: str
    leased: bool = False


class Journey:
    """A transaction on its way, and the payments of this process that ride in it."""

    def __init__(self, seats: list[Seat]) -> None:
        self.seats = seats
        self.row: ChainTransaction | None = None
        self.receipt: Mapping[str, Any] | None = None
        self._shared = False

    def begin(
        self,
        row: ChainTransaction,
        receipt: Mapping[str, Any] | None,
        *,
        shared: bool = False,
    ) -> None:
        """The transaction is stored. ``shared``: it settles a group, and not one payment."""
        self.row, self.receipt, self._shared = row, receipt, shared
        for seat in self.seats:
            seat.transaction = row.hash

    @property
    def open(self) -> bool:
        """Whether somebody waits for it still."""
        return any(seat.result is None for seat in self.seats)

    def look(self) -> None:
        """See whether it is mined, or is to be sent again, or will never be mined."""
        from x402_django.chain import outbox

        row = self.row
        if row is None:
            return
        try:
            self.receipt = outbox.follow(row)
        except RpcUnavailable as error:
            logger.warning("Transaction %s cannot be followed: %s", row.hash, error)
        if self.receipt is None and row.status == row.Status.DROPPED:
            for seat in self.seats:
                seat.finish(Fate.AGAIN)

    def conclude(
        self, not_settled: Callable[[ChainTransaction, SignedPayment, int], X402Error]
    ) -> None:
        """Judge every payment by the receipt."""
        from x402_django.chain import groups, queue

        if self.row is None or self.receipt is None:
            return
        waiting = [seat for seat in self.seats if seat.result is None]
        block_hash = "0x" + bytes(self.receipt["blockHash"]).hex()
        verdicts = groups.judge(self.receipt, block_hash, [seat.signed for seat in waiting])
        missed = [seat for seat, verdict in zip(waiting, verdicts, strict=True) if verdict is None]
        if missed and self._shared:
            queue.mark_missed(self.row.pk, [seat.payment_id for seat in missed])
        for seat, verdict in zip(waiting, verdicts, strict=True):
            if verdict is not None:
                seat.finish(verdict)
            elif self._shared:
                seat.finish(Fate.ALONE)
            else:
                seat.finish(not_settled(self.row, seat.signed, seat.payment_id))
