"""Group commit: payments that wait to be settled on one network ride in one transaction.

Whoever finds nobody leading leads, and takes all that wait; the others wait for what becomes of
theirs. A payment that finds nobody waiting is sent at once, by itself. A leader leads until its
transaction is mined, or for ``interval`` seconds where blocks are slow: so groups are as large
as the traffic, and nobody waits for a block that is not their own.

Within a process one thread speaks for all that wait there; between processes the queue and the
lease in the database decide (``chain.queue``). Nothing here is needed to find out what was sent:
a leader that dies leaves its stored transaction, and the others start over from that.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from x402_django.conf import x402
from x402_django.exceptions import (
    FacilitatorUnavailable,
    ServiceUnavailable,
    SettlementUnknown,
)
from x402_django.facilitators.journey import Dispatcher, Fate, Journey, Leadership, Party, Seat

if TYPE_CHECKING:
    from x402_django.chain.groups import Rider

logger = logging.getLogger("x402_django.facilitators")

#: Seconds after which the lease of a leader that died is free. Longer than a leader needs; one
#: that needs longer shares the lane with its successor, which makes smaller groups, no worse.
LEASE: Final = 10.0
#: Seconds between looks at the queue while another process leads.
QUEUE_POLL: Final = 0.03
#: How often a payment is put into another group, when something else uses the wallet's nonces.
_TRIES: Final = 3


class Lane:
    """The way to the outbox of one facilitator on one network; one per process.

    Args:
        network: CAIP-2.
        dispatcher: who sends.
        size: most payments in a group.
        interval: seconds that a leader leads while its transaction is not mined.
    """

    def __init__(self, network: str, dispatcher: Dispatcher, *, size: int, interval: float) -> None:
        self._network = network
        self._dispatcher = dispatcher
        self._size = size
        self._interval = interval
        self._lock = threading.Lock()
        self._waiting: list[Seat] = []
        self._leadership: Leadership | None = None

    def settle(self, party: Party) -> None:
        """See all seats of ``party`` to their results."""
        try:
            with self._lock:
                self._waiting += party.seats
                self._appoint()
            while (duty := party.next_duty()) is not None:
                duty()
        finally:
            self._leave(party)

    # ------------------------------------------------------------------ who leads here

    def _appoint(self) -> None:
        """Have somebody lead, if somebody waits and nobody does. Call under the lock."""
        if self._leadership is None and self._waiting:
            party = self._waiting[0].party
            self._leadership = Leadership(party, secrets.token_hex(16))
            party.ask(partial(self._lead, self._leadership))

    def _resign(self, leadership: Leadership) -> None:
        if leadership.leased:
            from x402_django.chain import queue

            leadership.leased = False
            queue.leave_lane(self._network, self._dispatcher.alias, leadership.name)
        with self._lock:
            if self._leadership is leadership:
                self._leadership = None
                self._appoint()

    def _leave(self, party: Party) -> None:
        """Answer for what is not decided, and pass on what this thread was to do for others."""
        with self._lock:
            party.gone = True
            unsent = [seat for seat in self._waiting if seat.party is party]
            self._waiting = [seat for seat in self._waiting if seat.party is not party]
            leadership = self._leadership
        for seat in unsent:  # whether it is in another process's hands, its caller finds out
            seat.finish(FacilitatorUnavailable())
        for seat in party.seats:
            seat.finish(SettlementUnknown(transaction=seat.transaction))
        if leadership is not None and leadership.party is party:
            self._resign(leadership)
        for journey in party.journeys:
            self._hand_on(journey)

    # -------------------------------------------------------------------------- leading

    def _lead(self, leadership: Leadership) -> None:
        """Send the next group, or wait in the queue of the process that leads."""
        from x402_django.chain import queue

        try:
            while not queue.take_lane(
                self._network, self._dispatcher.alias, leadership.name, seconds=LEASE
            ):
                if not self._wait_in_queue(leadership.party):
                    return
            leadership.leased = True
            journey = self._depart(leadership.party)
            if journey.row is not None:
                self._follow(journey, until=time.monotonic() + self._interval)
        finally:
            self._resign(leadership)
        self._hand_on(journey, first=leadership.party)

    def _depart(self, party: Party) -> Journey:
        from x402_django.chain import queue

        with self._lock:
            journey = Journey(self._next_seats())
            party.journeys.append(journey)
        seats = self._examine(journey)
        here = {seat.payment_id for seat in seats}
        found = queue.waiting(
            self._network, self._dispatcher.alias, limit=self._size - len(here), besides=here
        )
        if seats or found:
            self._send_group(journey, [*map(_rider, seats), *map(_queued_rider, found)])
        return journey

    def _next_seats(self) -> list[Seat]:
        """Take those who wait, each payment once. Call under the lock."""
        seats: dict[int, Seat] = {}
        for seat in self._waiting:
            if len(seats) < self._size:
                seats.setdefault(seat.payment_id, seat)
        taken = set(map(id, seats.values()))
        self._waiting = [seat for seat in self._waiting if id(seat) not in taken]
        return list(seats.values())

    def _examine(self, journey: Journey) -> list[Seat]:
        """Those to be sent. Those that have had a transaction start over from that.

        Asked once for all: that a payment is settled again is the exception.
        """
        from x402_django.chain import outbox

        fresh = [seat for seat in journey.seats if not seat.examined]
        earlier = outbox.having_transactions(seat.payment_id for seat in fresh)
        for seat in fresh:
            seat.examined = True
            if seat.payment_id in earlier:
                seat.finish(Fate.AGAIN)
        return [seat for seat in journey.seats if seat.result is None]

    def _send_group(self, journey: Journey, riders: Sequence[Rider]) -> None:
        from x402_django.chain import queue

        seats = {seat.payment_id: seat for seat in journey.seats if seat.result is None}
        try:
            departure = self._dispatcher.send_group(self._network, riders)
        except ServiceUnavailable as trouble:
            logger.warning(
                "Facilitator %s sent nothing: %s", self._dispatcher.alias, type(trouble).__name__
            )
            for seat in seats.values():
                seat.finish(FacilitatorUnavailable())
            return
        for rider in departure.alone:
            if rider.ours:
                seats[rider.payment_id].finish(Fate.ALONE)
        queue.excuse(rider.payment_id for rider in departure.alone if not rider.ours)
        for rider in departure.elsewhere:
            if rider.ours:
                seats[rider.payment_id].finish(Fate.AGAIN)
        self._put_back([seats[rider.payment_id] for rider in departure.left if rider.ours])
        journey.seats = [seats[one.payment_id] for one in departure.aboard if one.ours]
        if departure.row is not None:
            shared = len(departure.aboard) > 1
            journey.begin(departure.row, departure.receipt, shared=shared)

    def _put_back(self, seats: list[Seat]) -> None:
        for seat in seats:
            seat.tries += 1
            if seat.tries >= _TRIES:
                seat.finish(Fate.ALONE)
        with self._lock:
            self._waiting[:0] = [
                seat for seat in seats if seat.result is None and not seat.party.gone
            ]

    # ---------------------------------------------------------- while another process leads

    def _wait_in_queue(self, party: Party) -> bool:
        """Whether this thread should go on trying to lead."""
        from x402_django.chain import queue

        with self._lock:
            new = [seat for seat in self._waiting if not seat.queued]
            for seat in new:  # before it is: one that leaves meanwhile must not think it is not
                seat.queued = True
        if new:
            queue.enqueue(self._network, self._dispatcher.alias, [seat.payment_id for seat in new])
        time.sleep(max(min(QUEUE_POLL, party.remaining), 0))
        with self._lock:
            seats = [seat for seat in self._waiting if seat.queued]
        self._look_up(party, seats)
        with self._lock:
            return party.remaining > 0 and any(one.party is party for one in self._waiting)

    def _look_up(self, party: Party, seats: list[Seat]) -> None:
        """Find out who of those in the queue rides by now."""
        from x402_django.chain import queue
        from x402_django.models import ChainTransaction

        places = queue.places(seat.payment_id for seat in seats)
        rides: dict[int, list[Seat]] = {}
        for seat in seats:
            place = places.get(seat.payment_id)
            if place is None or place.status == queue.Status.ALONE:
                self._take_out(seat).finish(Fate.AGAIN if place is None else Fate.ALONE)
            elif place.chain_transaction_id is not None:
                rides.setdefault(place.chain_transaction_id, []).append(self._take_out(seat))
        for row in ChainTransaction.objects.filter(pk__in=rides):
            journey = Journey(rides[row.pk])
            journey.begin(row, None, shared=True)
            with self._lock:
                party.journeys.append(journey)
            self._hand_on(journey, first=party)

    def _take_out(self, seat: Seat) -> Seat:
        with self._lock:
            if seat in self._waiting:
                self._waiting.remove(seat)
        return seat

    # ------------------------------------------------------------------------- following

    def _hand_on(self, journey: Journey, first: Party | None = None) -> None:
        """Have somebody who rides look out for the receipt."""
        with self._lock:
            open_seats = [seat for seat in journey.seats if seat.result is None]
            parties = [seat.party for seat in open_seats if not seat.party.gone]
            if not parties:
                return
            if journey.row is None:
                for seat in open_seats:
                    seat.finish(Fate.AGAIN)
                return
            busy = first is not None and any(one.party is first for one in self._waiting)
            if first in parties and not (busy and len(set(parties)) > 1):
                party = first
            else:
                party = next((one for one in parties if one is not first), parties[0])
            if journey not in party.journeys:
                party.journeys.append(journey)
            party.ask(partial(self._follow, journey, until=party.deadline))

    def _follow(self, journey: Journey, *, until: float) -> None:
        """Look for the receipt until it is there, or until then (of ``time.monotonic``)."""
        interval = x402.network(self._network).poll_interval
        pause = interval / 16
        while True:
            if journey.receipt is not None:
                journey.conclude(self._dispatcher.not_settled)
            if not journey.open:
                return
            remaining = until - time.monotonic()
            if remaining <= 0:
                return
            time.sleep(min(pause, remaining))
            pause = min(2 * pause, interval)
            journey.look()


def _rider(seat: Seat) -> Rider:
    from x402_django.chain.groups import Rider

    return Rider(seat.payment_id, seat.signed, queued=seat.queued)


def _queued_rider(payment: Any) -> Rider:
    from x402_django.chain.groups import Rider
    from x402_django.protocol.types import SignedPayment

    return Rider(payment.pk, SignedPayment.from_row(payment), ours=False, queued=True)
