"""Which blocks a reconciliation is about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from x402_django.chain import incoming
from x402_django.chain.evidence import chain_time
from x402_django.payments.booked import first_presented

#: How much block times may lag behind our clock.
_CLOCK_SLACK: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Period:
    """Blocks ``first`` to ``last``, both included; none if ``last`` is less than ``first``.

    Receipts for which the ledger knows no block count if they were issued from ``since`` on and
    before ``until`` (None: without that bound).
    """

    network: str
    first: int
    last: int
    since: datetime | None = None
    until: datetime | None = None

    @property
    def blocks(self) -> int:
        return max(self.last - self.first + 1, 0)


def period_by_time(network: str, since: datetime | None, until: datetime | None) -> Period:
    """The blocks from ``since`` on and before ``until``.

    By default from the ledger's first payment to the newest block. Raises RpcUnavailable.
    """
    newest = incoming.newest_block(network)
    begin = since
    if begin is None:
        presented = first_presented(network)
        begin = presented - _CLOCK_SLACK if presented is not None else None
    if begin is None:  # nothing was ever sold here
        return Period(network, newest + 1, newest, since, until)
    first = incoming.first_block_since(network, begin.timestamp(), newest)
    last = newest
    if until is not None:
        last = incoming.first_block_since(network, until.timestamp(), newest) - 1
    return Period(network, first, last, since, until)


def period_by_blocks(network: str, first: int | None, last: int | None) -> Period:
    """These blocks; by default from the first and to the newest. Raises RpcUnavailable."""
    newest = incoming.newest_block(network)
    first, wanted = first or 0, newest if last is None else last
    last = min(wanted, newest)
    since = until = None
    if 0 < first <= newest:
        since = datetime.fromtimestamp(chain_time(network, first), UTC)
    if last < newest:
        until = datetime.fromtimestamp(chain_time(network, last + 1), UTC)
    return Period(network, first, last, since, until)
