"""Handing several payments to their facilitator at once, for whoever settles in the background."""

from __future__ import annotations

import logging
from typing import Any, Final

from x402_django.exceptions import SettlementUnknown
from x402_django.facilitators.base import BaseFacilitator
from x402_django.models import Payment
from x402_django.protocol.types import Settlement, SignedPayment

logger = logging.getLogger("x402_django.payments")

#: Payments handed to a facilitator at once, if it settles several together: as many as the local
#: one puts into one transaction.
BATCH_SIZE: Final = 80

Batch = list[tuple[SignedPayment, Payment]]


def batch_size(facilitator: BaseFacilitator) -> int:
    """How many to hand over at once: one, where a batch is settled one by one.

    The last of a long batch would be ``settling`` for so long that it is taken for left by a dead
    process (``entitlements.dead_since``) before its turn comes.
    """
    one_by_one = type(facilitator).settle_many is BaseFacilitator.settle_many
    return 1 if one_by_one else BATCH_SIZE


def settle_batch(facilitator: BaseFacilitator, batch: Batch) -> list[Settlement | Exception]:
    """Settle payments that are ``settling`` and ours; what is to be judged of each. Raises not."""
    if not batch:
        return []
    try:
        outcomes: list[Any] = list(facilitator.settle_many(batch))
    except Exception as error:  # noqa: BLE001 - each payment is judged by it, and logs it
        return [error] * len(batch)
    if len(outcomes) != len(batch):
        logger.error("Facilitator %s answered for another number of payments.", facilitator.alias)
        return [SettlementUnknown()] * len(batch)
    return outcomes
