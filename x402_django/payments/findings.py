"""What a piece of chain that was read means for the payments in the ledger."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final

from django.db import DatabaseError, IntegrityError
from django.db.models import F, Q

from x402_django.chain.scan import Piece, Transfer
from x402_django.constants import SCHEME_EXACT, SCHEME_TRANSFER
from x402_django.exceptions import InvalidTransition, SettlementUnknown
from x402_django.models import Payment
from x402_django.models.querysets import PaymentQuerySet
from x402_django.payments.depth import Horizon
from x402_django.payments.machine import OPEN, Step, advance, annotate
from x402_django.payments.recording import mark_settled, place_fields
from x402_django.payments.report import Report
from x402_django.payments.stale import is_stale, looked_at_before
from x402_django.payments.transfer_findings import TransferFindings

logger = logging.getLogger("x402_django.payments")

State = Payment.State
ACTOR = "confirmation"

#: Payments per look into the ledger.
_ROWS: Final = 100


class Findings:
    """Applies pieces of one network; ``doubtful`` are the payments they should prove and do not.

    ``progress`` is called between payments.
    """

    def __init__(
        self, network: str, horizon: Horizon, report: Report, *, progress: Callable[[], None]
    ) -> None:
        self.doubtful: list[int] = []
        self._network = network
        self._horizon = horizon
        self._report = report
        self._progress = progress
        self._transfers = TransferFindings(network, horizon, report, progress=progress)

    def apply(self, piece: Piece) -> None:
        """Move the payments that ``piece`` proves; note those it should prove and does not."""
        found = self._transfers.apply(piece)
        self.doubtful += self._transfers.doubtful(piece, found)
        for payment, transfer in self._matches(piece):
            found.add(payment.pk)
            self._meet(payment, transfer)
            self._progress()
        settled = (
            self._open()
            .filter(
                state=State.SETTLED,
                block_number__range=(piece.first, piece.last.number),
                state_changed_at__lt=looked_at_before(),
            )
            .values_list("pk", flat=True)
        )
        self.doubtful += [pk for pk in settled.iterator() if pk not in found]

    def _matches(self, piece: Piece) -> Iterator[tuple[Payment, Transfer]]:
        """Authorizations with the transfers that prove them, read in bounded numbers."""
        keys = list(piece.authorized)
        for start in range(0, len(keys), _ROWS):
            condition = Q()
            for asset, payer, nonce in keys[start : start + _ROWS]:
                condition |= Q(
                    network=self._network, verifying_contract=asset, payer=payer, nonce=nonce
                )
            # By their unique key alone: with more conditions a database may read all open rows.
            for payment in Payment.objects.defer("response_body").filter(condition):
                if payment.state not in OPEN or payment.scheme != SCHEME_EXACT:
                    continue
                transfers = piece.authorized[payment.asset, payment.payer, payment.nonce]
                proof = next((one for one in transfers if _pays(one, payment)), None)
                if proof is not None:
                    yield payment, proof
        # Transfers by other means than the token's authorizations are known by their place.
        others = self._open().filter(
            state=State.SETTLED, block_number__range=(piece.first, piece.last.number)
        )
        by_permit = others.exclude(verifying_contract=F("asset")).exclude(scheme=SCHEME_TRANSFER)
        for payment in by_permit.defer("response_body").iterator(chunk_size=_ROWS):
            for transfer in piece.permitted.get(payment.transaction, ()):
                if transfer.place.log_index == payment.log_index and _pays(transfer, payment):
                    yield payment, transfer

    def _meet(self, payment: Payment, transfer: Transfer) -> None:
        """``payment`` is on chain: move it as far as that goes."""
        try:
            if payment.state == State.SETTLED:
                self._settled(payment, transfer)
            elif payment.state == State.REVERSED:
                advance(payment, Step(State.SETTLING, "Found on chain again."), actor=ACTOR)
                self._arrived(payment, transfer)
            elif payment.state == State.SETTLING:
                if is_stale(payment):
                    self._arrived(payment, transfer)
                else:  # its own worker settles it; should that die, this is where to look
                    self._note(payment, transfer)
        except InvalidTransition:
            return  # another worker has it
        except SettlementUnknown:
            self._report.still_unknown += 1
        except IntegrityError:
            # The logs of one transaction have moved in their block, and the payment that was at
            # this place has not followed yet. Without its index it is in nobody's way.
            annotate(payment, **{**place_fields(transfer.place), "log_index": None})
        except DatabaseError:
            raise  # nothing more can be written: the cursor must not move
        except Exception:
            logger.exception("Payment %s could not be confirmed.", payment.public_id)

    def _arrived(self, payment: Payment, transfer: Transfer) -> None:
        mark_settled(payment, transfer.place, {}, actor=ACTOR)
        self._report.settled += 1
        self._settled(payment, transfer)

    def _settled(self, payment: Payment, transfer: Transfer) -> None:
        number = int(transfer.place.block_number or 0)
        if not self._horizon.reached(number, payment.price_usd):
            self._note(payment, transfer)
            return
        reason = self._horizon.reason(number, payment.price_usd)
        where = place_fields(transfer.place)
        advance(payment, Step(State.FINAL, reason), actor=ACTOR, **where)
        self._report.final += 1

    def _note(self, payment: Payment, transfer: Transfer) -> None:
        """Write down where the payment is, if that is news."""
        where = place_fields(transfer.place)
        if any(getattr(payment, name) != value for name, value in where.items()):
            annotate(payment, **where)

    def _open(self) -> PaymentQuerySet:
        return Payment.objects.filter(network=self._network, state__in=OPEN)


def _pays(transfer: Transfer, payment: Payment) -> bool:
    """Whether a transfer is the payment's, to the unit."""
    return (transfer.asset, transfer.payer, transfer.to, transfer.amount) == (
        payment.asset,
        payment.payer,
        payment.pay_to,
        payment.amount,
    )
