"""What settlement writes down: arrived, unknown, let go."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from django.db import IntegrityError

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import FLOW_DEFERRED
from x402_django.exceptions import SettlementUnknown, X402Error
from x402_django.models import Payment, Receipt
from x402_django.payments.machine import Step, advance, annotate
from x402_django.protocol.types import Settlement

logger = logging.getLogger("x402_django.payments")

State = Payment.State


_ON_CHAIN: Final = "The transfer is on chain."
_ON_ITS_WORD: Final = "The facilitator says that the transfer is on chain; this site cannot look."


def _is_readable(payment: Payment) -> bool:
    network = x402.networks.get(payment.network)
    return network is not None and network.has_rpc


def note_unknown(payment: Payment, *, transaction: str = "", **fields: Any) -> None:
    """Write down that the outcome is unknown, with the hash that was named, if any."""
    if transaction:
        fields["transaction"] = transaction
    annotate(payment, outcome_unknown_at=payment.outcome_unknown_at or clock.now(), **fields)


def place_fields(settlement: Settlement) -> dict[str, Any]:
    """Where on chain a payment is, as its columns."""
    return {
        "transaction": settlement.transaction,
        "block_number": settlement.block_number,
        "block_hash": settlement.block_hash or "",
        "log_index": settlement.log_index,
    }


def mark_settled(
    payment: Payment,
    settlement: Settlement,
    fields: dict[str, Any],
    *,
    actor: str,
    beside: Callable[[], bool] | None = None,
) -> None:
    """Write ``settled`` and the receipt in one transaction; ``beside`` as ``machine.advance``."""
    now = clock.now()
    # Settled a second time, after a reorganisation: the receipt it has stands. What was settled
    # for others is no income of ours.
    ours = payment.kind == Payment.Kind.SALE
    receipt = (
        receipt_of(payment, settlement.transaction) if ours and not payment.settled_at else None
    )
    try:
        advance(
            payment,
            Step(State.SETTLED, _ON_CHAIN if _is_readable(payment) else _ON_ITS_WORD),
            actor=actor,
            receipt=receipt,
            beside=beside,
            settled_at=payment.settled_at or now,
            outcome_unknown_at=None,
            **place_fields(settlement),
            **fields,
        )
    except IntegrityError as error:
        # The very transfer already backs another payment: one log never pays twice.
        logger.error(
            "Transfer %s in %s is claimed by two payments; %s stays unsettled.",
            settlement.log_index,
            settlement.transaction,
            payment.public_id,
        )
        note_unknown(payment)
        raise SettlementUnknown() from error
    logger.info(
        "Payment %s settled: %s of %s on %s in %s.",
        payment.public_id,
        payment.amount,
        payment.asset_symbol,
        payment.network,
        payment.transaction,
    )


def receipt_of(payment: Payment, transaction: str) -> Receipt:
    """A receipt of ``payment``, not yet saved."""
    return Receipt(
        payment=payment,
        merchant_id=payment.merchant_id,
        issued_at=clock.now(),
        network=payment.network,
        asset=payment.asset,
        asset_symbol=payment.asset_symbol,
        asset_decimals=payment.asset_decimals,
        amount=payment.amount,
        price_usd=payment.price_usd,
        payer=payment.payer,
        pay_to=payment.pay_to,
        transaction=transaction,
        resource_url=payment.resource_url,
        description=payment.description,
    )


def let_go(payment: Payment, trouble: X402Error, *, actor: str) -> None:
    """Provably nothing was sent: release a payment that was ``settling``.

    What was delivered already (the flow ``deferred``) waits for the next batch instead.
    """
    reason = "Nothing was sent: the facilitator is out of reach."
    if payment.flow == FLOW_DEFERRED and payment.delivered_at is not None:
        advance(payment, Step(State.VERIFIED, reason, trouble.code), actor=actor)
    else:
        release(payment, reason, code=trouble.code, actor=actor)


def release(payment: Payment, reason: str, *, code: str = "", actor: str = "request") -> None:
    """Let a payment go uncharged. Only for payments for which nothing was sent."""
    advance(payment, Step(State.RELEASED, reason, code), actor=actor, failure_code=code[:100])
