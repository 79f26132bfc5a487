"""One pass over a network's new blocks answers for all its payments.

Two ranges are read: the blocks above the cursor, and below it those whose payments are now deep
enough to be final. The cost is that of the blocks, not of the payments. Logs are read before the
ledger is, so a payment that begins to settle meanwhile is not overlooked.

A pass may be killed anywhere: the cursor moves after the payments of a piece have moved, and what
is read twice changes nothing the second time. Finding a transfer is proof; not finding one is
only a doubt, and the doubtful are looked at one by one (``confirmation``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from django.db.models import Min

from x402_django.chain.scan import View, read_pieces, read_view
from x402_django.conf import x402
from x402_django.constants import SCHEME_BATCH, SCHEME_EXACT, SCHEME_TRANSFER
from x402_django.models import Payment, ScannedBlock
from x402_django.models.querysets import PaymentQuerySet
from x402_django.observing import observed
from x402_django.payments.cursor import Lease, LeaseLost
from x402_django.payments.depth import Horizon
from x402_django.payments.findings import Findings
from x402_django.payments.machine import OPEN
from x402_django.payments.report import Report
from x402_django.payments.stale import stale_settling

logger = logging.getLogger("x402_django.payments")

State = Payment.State

#: Ranges of LOG_RANGE blocks per pass, of new blocks and of old ones each.
MAX_RANGES: Final = 10
#: Old blocks closer to each other than this are read in one range.
_GAP: Final = 50
#: Old blocks that are looked at in one pass.
_MAX_OLD_BLOCKS: Final = 1000
#: Hashes kept below the newest block, and asked for at a time when the cursor's has changed.
_KEPT_BLOCKS: Final = 256
_HASHES_AT_ONCE: Final = 10


def scan(network: str, report: Report) -> list[int] | None:
    """Read what is new on ``network`` and move its payments. None if another run is at it.

    Returns the keys of payments that it should have met and did not. Raises RpcUnavailable: what
    was read before it holds.
    """
    lease = Lease.acquire(network)
    if lease is None:
        return None
    try:
        with observed("scan", network=network):
            doubtful = _Pass(lease, report).run()
        lease.finish()
        return doubtful
    except LeaseLost:
        logger.warning("The scan of %s took so long that another has begun.", network)
        return None
    finally:
        lease.release()


class _Pass:
    """One pass over one network."""

    def __init__(self, lease: Lease, report: Report) -> None:
        self._lease = lease
        self._network = lease.network
        self._settings = x402.network(lease.network)
        self._report = report

    def run(self) -> list[int]:
        """The pass. Raises RpcUnavailable, LeaseLost."""
        # Read before the logs, but only to narrow them: who is missed is doubtful and no more.
        wanted = list(self._open().order_by().values_list("asset", "pay_to").distinct())
        if not wanted:
            return []
        assets = {asset for asset, _ in wanted}
        payees = {pay_to for _, pay_to in wanted}
        first, view = self._begin()
        horizon = Horizon(self._settings.confirmations, view.head.number, view.tagged)
        findings = Findings(self._network, horizon, self._report, progress=self._lease.keep)
        span = self._settings.log_range
        fresh = [
            (start, min(start + span - 1, view.head.number))
            for start in range(first, view.head.number + 1, span)
        ]
        for start, end in fresh:
            for piece in read_pieces(self._network, start, end, assets, payees):
                findings.apply(piece)
                self._lease.move(piece.last.number, piece.last.hash)
        for start, end in self._old_ranges(horizon, below=first):
            for piece in read_pieces(self._network, start, end, assets, payees):
                findings.apply(piece)
        if fresh:
            self._forget(view.head.number)
        return findings.doubtful

    # ------------------------------------------------------------ where to read

    def _begin(self) -> tuple[int, View]:
        """The first block to read, and the chain's present state."""
        cursor = self._lease.newest()
        tags = sorted({t.depth for t in self._settings.confirmations if isinstance(t.depth, str)})
        view = read_view(self._network, [cursor.number] if cursor else [], tags)
        head = view.head.number
        self._lease.saw(head)
        if cursor is not None:
            there = view.blocks.get(cursor.number)
            if head < cursor.number or there is None:
                return head + 1, view  # the node is behind, or the chain is; either will catch up
            if there.hash != cursor.hash:
                cursor = self._fork(cursor)
        span = self._settings.log_range
        first = head - span + 1 if cursor is None else cursor.number + 1
        return max(first, head + 1 - MAX_RANGES * span, 0), view

    def _fork(self, cursor: ScannedBlock) -> ScannedBlock | None:
        """Go back to the newest block that both chains have; None if it is not remembered."""
        common: ScannedBlock | None = None
        remembered = self._lease.remembered(below=cursor.number)
        for start in range(0, len(remembered), _HASHES_AT_ONCE):
            some = remembered[start : start + _HASHES_AT_ONCE]
            view = read_view(self._network, [block.number for block in some])
            same = [b for b in some if b.number in view.blocks]
            common = next((b for b in same if view.blocks[b.number].hash == b.hash), None)
            if common is not None:
                break
        back_to = -1 if common is None else common.number
        logger.warning(
            "%s was reorganised: block %s is another one now; reading again from block %s.",
            self._network,
            cursor.number,
            back_to + 1 if common else "further back than any that is remembered",
        )
        self._lease.rewind(back_to)
        return common

    def _old_ranges(self, horizon: Horizon, *, below: int) -> list[tuple[int, int]]:
        """Ranges below the cursor with payments that may move now, longest waiting first.

        Those that are deep enough, and authorizations of unknown outcome that an earlier pass met
        on chain.
        """
        unfinal = self._open().filter(horizon.due(), state=State.SETTLED)
        transfers = self._open().filter(
            horizon.due(), scheme=SCHEME_TRANSFER, state__in=(State.SETTLING, State.REVERSED)
        )
        met = self._open().filter(stale_settling(), scheme=SCHEME_EXACT, log_index__isnull=False)
        waits: dict[int, int] = {}
        for payments in (met, transfers, unfinal):
            blocks = (
                payments.filter(block_number__lt=below)
                .order_by()
                .values("block_number")
                .annotate(since=Min("state_changed_at"))
                .order_by("since")
                .values_list("block_number", flat=True)
            )
            for number in blocks[:_MAX_OLD_BLOCKS]:
                waits.setdefault(int(number or 0), len(waits))
        ranges = _coalesce(sorted(waits), self._settings.log_range)
        ranges.sort(key=lambda numbers: min(waits[number] for number in numbers))
        return [(numbers[0], numbers[-1]) for numbers in ranges[:MAX_RANGES]]

    def _forget(self, head: int) -> None:
        """Drop the hashes that are below all unfinal payments and any usual reorganisation."""
        oldest = self._open().filter(state=State.SETTLED).aggregate(n=Min("block_number"))["n"]
        keep = head - _KEPT_BLOCKS
        self._lease.forget(below=keep if oldest is None else min(keep, oldest))

    def _open(self) -> PaymentQuerySet:
        rows = Payment.objects.filter(network=self._network, state__in=OPEN)
        return rows.exclude(scheme=SCHEME_BATCH)  # no log is one such payment's own


def _coalesce(numbers: Iterable[int], longest: int) -> list[list[int]]:
    """Sorted block numbers as groups that are close together and span ``longest`` at most."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number - groups[-1][-1] <= _GAP and number - groups[-1][0] < longest:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups
