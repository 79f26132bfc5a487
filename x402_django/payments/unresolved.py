"""The periodic look at outcomes that are unknown: one by one on the chain, settled together.

A process that died may have left a whole batch. Settled one after another each would wait for a
block of its own, and authorizations do not live for ever.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db.models import Q

from x402_django import clock
from x402_django.constants import SCHEME_TRANSFER, SIGNED_SCHEMES
from x402_django.exceptions import (
    InvalidTransition,
    RpcUnavailable,
    ServiceUnavailable,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.facilitators.base import BaseFacilitator, get_facilitator
from x402_django.models import Payment
from x402_django.payments.batches import Batch, batch_size, settle_batch
from x402_django.payments.report import Report
from x402_django.payments.resolution import look_up
from x402_django.payments.settlement import judge, nothing_to_store
from x402_django.payments.stale import stale_settling
from x402_django.payments.transfer_confirmation import may_return

logger = logging.getLogger("x402_django.payments")

State = Payment.State
ACTOR: Final = "confirmation"

#: A network whose node failed so many payments in a row is left in peace until the next run.
_PATIENCE: Final = 3


class Reach:
    """Which networks answer, so that a dead node is not asked about every payment."""

    def __init__(self) -> None:
        self._failures: Counter[str] = Counter()

    def answered(self, network: str) -> None:
        """It is there."""
        self._failures[network] = 0

    def failed(self, network: str) -> None:
        """It did not answer."""
        self._failures[network] += 1

    def is_lost(self, network: str) -> bool:
        """Whether its last few questions all went unanswered."""
        return self._failures[network] >= _PATIENCE


def resolve_unknown(report: Report, limit: int, reach: Reach, doubts: Q) -> None:
    """Resolve at most ``limit`` payments whose outcome is unknown, oldest first.

    Transfers that the payer makes itself are looked at only if they are among ``doubts``.
    """
    alive = Q(state=State.REVERSED, valid_before__gt=clock.timestamp())
    unknown = Payment.objects.filter(
        Q(scheme__in=SIGNED_SCHEMES) & (stale_settling() | alive)
        | Q(scheme=SCHEME_TRANSFER) & (stale_settling() | may_return()) & doubts
    ).order_by("state_changed_at")
    unused: dict[tuple[BaseFacilitator, str], Batch] = {}
    for payment in unknown.defer("response_body")[:limit]:
        if reach.is_lost(payment.network):
            report.out_of_reach += 1
            continue
        with _resolving(payment, report, reach):
            signed = look_up(payment, actor=ACTOR)
            if signed is None:
                report.settled += 1
                continue
            facilitator = get_facilitator(signed.offer.facilitator)
            batch = unused.setdefault((facilitator, payment.network), [])
            batch.append((signed, payment))
            if len(batch) == batch_size(facilitator):
                _settle(facilitator, batch, report, reach)
                batch.clear()
    for (facilitator, _), batch in unused.items():
        _settle(facilitator, batch, report, reach)


def _settle(facilitator: BaseFacilitator, batch: Batch, report: Report, reach: Reach) -> None:
    for (signed, payment), outcome in zip(batch, settle_batch(facilitator, batch), strict=True):
        with _resolving(payment, report, reach):
            now = time.monotonic()  # nobody waits: what is not seen at once is looked for later
            judge(payment, signed, outcome, nothing_to_store, actor=ACTOR, deadline=now)
            report.settled += 1


@contextmanager
def _resolving(payment: Payment, report: Report, reach: Reach) -> Iterator[None]:
    """Count what comes of one payment, if it does not settle, and go on with the next."""
    try:
        yield
    except SettlementFailed:
        report.failed += 1
    except (SettlementUnknown, InvalidTransition):
        report.still_unknown += 1
    except RpcUnavailable:
        reach.failed(payment.network)
        report.out_of_reach += 1
        return
    except ServiceUnavailable:
        report.out_of_reach += 1
    except Exception:
        # One payment that cannot be judged must not keep the others from being judged.
        logger.exception("Payment %s could not be resolved.", payment.public_id)
        report.still_unknown += 1
    reach.answered(payment.network)
