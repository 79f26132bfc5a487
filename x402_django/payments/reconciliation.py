"""Ledger against chain: every unit that reached us has a receipt, every receipt a transfer.

The chain is read in windows of blocks, and the receipts are streamed beside them, so that memory
does not grow with the period. Transfers and receipts are compared transaction by transaction:
one transaction may settle many payments, and no log may explain two receipts.

On every token, to the unit::

    on chain = explained + differing (as transferred) + on the way + unexplained
    receipts = explained + differing (as booked) + without a transfer
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum

from x402_django.chain import incoming
from x402_django.chain.incoming import IncomingTransfer
from x402_django.exceptions import RpcUnavailable
from x402_django.payments.booked import (
    CHUNK,
    Booked,
    Token,
    Unbooked,
    booked_by_transaction,
    booked_in_blocks,
    booked_nowhere,
    payees_of,
    tokens_of,
    unbooked_by_nonce,
    unbooked_by_permit,
    unbooked_by_transaction,
)
from x402_django.payments.pairing import paired, same, same_log, same_parties, taken_for
from x402_django.payments.period import Period


class Kind(Enum):
    """What can be said of a transfer or a receipt that has no counterpart."""

    UNEXPLAINED = "unexplained"  # a transfer without a receipt
    ON_THE_WAY = "on_the_way"  # the same, of a payment that is being settled at this moment
    WITHOUT_TRANSFER = "without_transfer"  # a receipt without a transfer
    DIFFERS = "differs"  # a transfer of another amount than its receipt says


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to be said, with the transfer or receipt it is about, or both."""

    kind: Kind
    token: Token
    transfer: IncomingTransfer | None = None
    receipt: Booked | None = None
    payment: Unbooked | None = None


@dataclass(slots=True)
class Count:
    """So many, of so many atomic units in all."""

    number: int = 0
    units: int = 0

    def add(self, units: int) -> None:
        self.number += 1
        self.units += units


@dataclass(slots=True)
class Tally:
    """The totals of one token; ``usd`` is of the receipts that have a price in dollars."""

    token: Token
    on_chain: Count = field(default_factory=Count)
    explained: Count = field(default_factory=Count)
    on_the_way: Count = field(default_factory=Count)
    unexplained: Count = field(default_factory=Count)
    receipts: Count = field(default_factory=Count)
    without_transfer: Count = field(default_factory=Count)
    differing_on_chain: Count = field(default_factory=Count)
    differing_receipts: Count = field(default_factory=Count)
    usd: Decimal = Decimal(0)
    without_usd: int = 0

    @property
    def in_order(self) -> bool:
        wrong = (self.unexplained, self.without_transfer, self.differing_receipts)
        return not any(count.number for count in wrong)


@dataclass(frozen=True, slots=True)
class Report:
    """What came out: totals by token address, and who was watched."""

    period: Period
    payees: tuple[str, ...]
    tallies: dict[str, Tally]

    @property
    def in_order(self) -> bool:
        return all(tally.in_order for tally in self.tallies.values())


def reconcile(
    period: Period,
    *,
    found: Callable[[Finding], None] = lambda finding: None,
    progress: Callable[[int], None] = lambda blocks: None,
) -> Report:
    """Compare, and report. ``found`` gets each finding at once, ``progress`` the blocks read.

    Raises RpcUnavailable if the chain could not be read, or changed while it was read.
    """
    books = _Books(period, found)
    if period.blocks and books.tokens and books.payees:
        seal = incoming.block_hash(period.network, period.last)
        booked = _ByBlock(booked_in_blocks(period.network, period.first, period.last))
        for window in incoming.incoming_windows(
            period.network, books.tokens, books.payees, period.first, period.last
        ):
            books.compare(window.transfers, booked.up_to(window.last))
            progress(window.last - period.first + 1)
        if incoming.block_hash(period.network, period.last) != seal:
            raise RpcUnavailable(
                f"{period.network} was reorganised while it was read. Run this again."
            )
    books.look_for_each(booked_nowhere(period.network, period.since, period.until))
    return Report(period, tuple(sorted(books.payees)), books.tallies)


class _ByBlock:
    """A stream of receipts, ordered by block, that is taken window by window."""

    def __init__(self, receipts: Iterator[Booked]) -> None:
        self._receipts = receipts
        self._next = next(receipts, None)

    def up_to(self, block: int) -> list[Booked]:
        taken = []
        while self._next is not None and (self._next.block_number or 0) <= block:
            taken.append(self._next)
            self._next = next(self._receipts, None)
        return taken


class _Books:
    """The comparison under way."""

    def __init__(self, period: Period, found: Callable[[Finding], None]) -> None:
        self.period = period
        self.network = period.network
        self.tokens = tokens_of(period.network)
        self.payees = payees_of(period.network)
        self.tallies = {address: Tally(token) for address, token in self.tokens.items()}
        self._found = found

    def compare(self, transfers: list[IncomingTransfer], booked: list[Booked]) -> None:
        """A window's transfers, and the receipts that the ledger has in its blocks."""
        by_hash: dict[str, list[IncomingTransfer]] = {}
        for transfer in transfers:
            by_hash.setdefault(transfer.transaction, []).append(transfer)
        left: list[IncomingTransfer] = []
        hashes = list(by_hash)
        for start in range(0, len(hashes), CHUNK):
            some = hashes[start : start + CHUNK]
            receipts = booked_by_transaction(self.network, some)
            for transaction in some:
                left += self._pair(by_hash[transaction], receipts.get(transaction, []))
        self._name(left)
        self.look_for_each(one for one in booked if one.transaction not in by_hash)

    def look_for_each(self, receipts: Iterable[Booked]) -> None:
        """Receipts that no transfer in their blocks has explained: is it anywhere else?"""
        for receipt in receipts:
            if receipt.asset not in self.tallies:  # a token that is new since we began
                continue
            there = incoming.transfers_in(
                self.network, receipt.transaction, self.tokens, self.payees
            )
            elsewhere = [one for one in there if not self._covers(one)]
            # What is in the period has been compared with its receipts, or will be, this among
            # them; what is not belongs to another period.
            if len(there) == len(elsewhere) and not any(same(one, receipt) for one in elsewhere):
                self._without_transfer(receipt)

    def _covers(self, transfer: IncomingTransfer) -> bool:
        return self.period.first <= transfer.block_number <= self.period.last

    def _pair(
        self, transfers: list[IncomingTransfer], receipts: list[Booked]
    ) -> list[IncomingTransfer]:
        """Pair what one transaction moved with what was booked for it; the transfers left over."""
        for transfer in transfers:
            self.tallies[transfer.asset].on_chain.add(transfer.value)
        receipts = [one for one in receipts if one.asset in self.tallies]
        for fits in (same_log, same, same_parties):
            transfers, pairs, receipts = paired(transfers, receipts, fits)
            for transfer, receipt in pairs:
                self._explain(transfer, receipt)
        for receipt in receipts:
            self._without_transfer(receipt)
        return transfers

    def _explain(self, transfer: IncomingTransfer, receipt: Booked) -> None:
        tally = self._book(receipt)
        if transfer.value == receipt.amount:
            tally.explained.add(transfer.value)
            return
        tally.differing_on_chain.add(transfer.value)
        tally.differing_receipts.add(receipt.amount)
        self._found(Finding(Kind.DIFFERS, tally.token, transfer, receipt))

    def _without_transfer(self, receipt: Booked) -> None:
        tally = self._book(receipt)
        tally.without_transfer.add(receipt.amount)
        self._found(Finding(Kind.WITHOUT_TRANSFER, tally.token, receipt=receipt))

    def _book(self, receipt: Booked) -> Tally:
        tally = self.tallies[receipt.asset]
        tally.receipts.add(receipt.amount)
        if receipt.price_usd is None:
            tally.without_usd += 1
        else:
            tally.usd += receipt.price_usd
        return tally

    def _name(self, transfers: list[IncomingTransfer]) -> None:
        """Report transfers without a receipt, with the payment each belongs to, if it has one.

        Raises RpcUnavailable.
        """
        if not transfers:
            return
        nonces = incoming.authorizations_of(self.network, transfers)
        keys = {(one.asset, one.sender, nonce): one for one, nonce in nonces.items()}
        payments = unbooked_by_nonce(self.network, keys)
        others = [one for one in transfers if one not in nonces]
        permitted = unbooked_by_permit(self.network, others)
        hashes = dict.fromkeys(one.transaction for one in others if one not in permitted)
        proven = unbooked_by_transaction(self.network, list(hashes))
        for transfer in transfers:
            key = (transfer.asset, transfer.sender, nonces.get(transfer, ""))
            payment = payments.get(key) if keys.get(key) == transfer else None
            if payment is None:
                payment = permitted.get(transfer) or taken_for(
                    transfer, proven.get(transfer.transaction, [])
                )
            tally = self.tallies[transfer.asset]
            under_way = payment is not None and payment.is_under_way
            (tally.on_the_way if under_way else tally.unexplained).add(transfer.value)
            kind = Kind.ON_THE_WAY if under_way else Kind.UNEXPLAINED
            self._found(Finding(kind, tally.token, transfer, payment=payment))
