"""What a piece of chain that was read means for payments by the payer's own transfer.

They are known by their transaction. One whose log was written down needs no more than its log;
one that was presented before it was mined also needs its block's time, which is asked for all of
a piece together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from django.db import DatabaseError

from x402_django.chain.scan import Block, Piece, read_view
from x402_django.chain.transfers import MinedTransfers, Transfer
from x402_django.constants import SCHEME_TRANSFER
from x402_django.exceptions import InvalidTransition, PaymentRefused, SettlementUnknown
from x402_django.models import Payment
from x402_django.models.querysets import PaymentQuerySet
from x402_django.payments.depth import Horizon
from x402_django.payments.machine import OPEN, Step, advance
from x402_django.payments.proofs import Evidence
from x402_django.payments.report import Report
from x402_django.payments.stale import looked_at_before
from x402_django.payments.transfer_confirmation import follow
from x402_django.payments.transfers import conclude, held_transfer, own_transfers

logger = logging.getLogger("x402_django.payments")

State = Payment.State
ACTOR: Final = "confirmation"

#: Transactions per look into the ledger, and block times per request.
_ROWS: Final = 100
_BLOCKS: Final = 100


class TransferFindings:
    """Applies pieces of one network. ``progress`` is called between payments."""

    def __init__(
        self, network: str, horizon: Horizon, report: Report, *, progress: Callable[[], None]
    ) -> None:
        self._network = network
        self._horizon = horizon
        self._report = report
        self._progress = progress

    def apply(self, piece: Piece) -> set[int]:
        """Move the payments that ``piece`` proves; their keys. Raises RpcUnavailable."""
        met: set[int] = set()
        times = self._times(piece)
        for chunk in self._chunks(piece):
            rows = list(chunk.defer("response_body").order_by("pk"))
            for payment in rows:
                if self._meet(payment, piece, times):
                    met.add(payment.pk)
                self._progress()
            for payment in rows:
                if payment.state == State.SETTLED and payment.log_index is None:
                    # Another payment was in its place, and has followed to its own by now.
                    self._meet(payment, piece, times)
        return met

    def doubtful(self, piece: Piece, met: set[int]) -> Iterator[int]:
        """Keys of unsettled payments that ``piece`` should prove and did not.

        Those that are settled are asked after with all others (``findings``).
        """
        placed = Payment.objects.filter(
            network=self._network,
            scheme=SCHEME_TRANSFER,
            state__in=(State.SETTLING, State.REVERSED),
            block_number__range=(piece.first, piece.last.number),
            state_changed_at__lt=looked_at_before(),
        )
        return (pk for pk in placed.values_list("pk", flat=True).iterator() if pk not in met)

    def _chunks(self, piece: Piece) -> Iterator[PaymentQuerySet]:
        """The payments whose transactions are in ``piece``, in queries of bounded length."""
        hashes = list(piece.plain)
        for start in range(0, len(hashes), _ROWS):
            yield Payment.objects.filter(
                network=self._network,
                transaction__in=hashes[start : start + _ROWS],
                scheme=SCHEME_TRANSFER,
                state__in=OPEN,
            )

    def _times(self, piece: Piece) -> Mapping[int, Block]:
        """The blocks of ``piece`` whose time matters for a payment, by number."""
        numbers = set()
        for chunk in self._chunks(piece):
            columns = chunk.order_by().values_list("transaction", "block_hash", "log_index")
            for transaction, block_hash, log_index in columns:
                home = piece.plain[transaction][0].place
                if log_index is None or block_hash != home.block_hash:
                    numbers.add(int(home.block_number or 0))
        wanted = sorted(numbers)
        found: dict[int, Block] = {}
        for start in range(0, len(wanted), _BLOCKS):
            found.update(read_view(self._network, wanted[start : start + _BLOCKS]).blocks)
        return found

    def _meet(self, payment: Payment, piece: Piece, times: Mapping[int, Block]) -> bool:
        """Move ``payment`` as far as the chain has come; False if ``piece`` does not prove it.

        What the piece refuses, the receipt must refuse: it knows all of the transaction.
        """
        mined = self._mined(payment, piece, times)
        try:
            if payment.state == State.SETTLED:
                return self._follow(payment, mined)
            evidence = Evidence.of_row(payment)
            if held_transfer(payment, mined) is None and not own_transfers(
                payment, evidence, mined
            ):
                return False
            deep = self._horizon.reached(mined.block_number, payment.price_usd)
            conclude(payment, evidence, mined, deep=deep, actor=ACTOR)
            self._report.settled += 1
            reason = self._horizon.reason(mined.block_number, payment.price_usd)
            advance(payment, Step(State.FINAL, reason), actor=ACTOR)
            self._report.final += 1
        except InvalidTransition:
            pass  # another worker has it
        except SettlementUnknown:
            self._report.still_unknown += 1
        except PaymentRefused:
            return False
        except DatabaseError:
            raise  # nothing more can be written: the cursor must not move
        except Exception:
            logger.exception("Payment %s could not be confirmed.", payment.public_id)
        return True

    def _follow(self, payment: Payment, mined: MinedTransfers) -> bool:
        deep = self._horizon.reached(mined.block_number, payment.price_usd)
        reason = self._horizon.reason(mined.block_number, payment.price_usd)
        found = follow(payment, mined, reason=reason if deep else None, actor=ACTOR)
        self._report.final += payment.state == State.FINAL
        return found

    def _mined(self, payment: Payment, piece: Piece, times: Mapping[int, Block]) -> MinedTransfers:
        """The transaction of ``payment``, as far as ``piece`` knows it."""
        there = piece.plain[payment.transaction]
        place = there[0].place
        number, block_hash = int(place.block_number or 0), place.block_hash or ""
        block = times.get(number)
        return MinedTransfers(
            transaction=payment.transaction,
            succeeded=True,  # or it would have no logs
            block_number=number,
            block_hash=block_hash,
            timestamp=block.timestamp if block is not None and block.hash == block_hash else None,
            confirmations=self._horizon.confirmations(number),
            transfers=tuple(
                Transfer(
                    sender=one.payer, value=one.amount, log_index=int(one.place.log_index or 0)
                )
                for one in there
                if (one.asset, one.to) == (payment.asset, payment.pay_to)
            ),
        )
