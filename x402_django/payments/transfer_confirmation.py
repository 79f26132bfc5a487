"""The periodic look at settled transfers: confirmations and reorganisations.

Those that are not settled yet are resolved with all other unknown outcomes (``resolution``).
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from django.db.models import Q

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import SCHEME_TRANSFER
from x402_django.exceptions import (
    ConfigurationError,
    InvalidTransition,
    PaymentRefused,
    ServiceUnavailable,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.models import Payment
from x402_django.payments.machine import Step, advance, annotate
from x402_django.payments.proofs import Evidence, unused
from x402_django.payments.transfers import NOWHERE, is_deep, place, resolve_transfer

if TYPE_CHECKING:
    from x402_django.chain.transfers import MinedTransfers, Transfer

logger = logging.getLogger("x402_django.payments")

State = Payment.State
ACTOR: Final = "confirmation"

#: How long a transfer that a reorganisation took away is looked for.
_MAY_RETURN: Final = timedelta(days=2)


def confirm_transfers(*, limit: int) -> Counter[str]:
    """Bring settled transfers to ``final`` and look for reversed ones, oldest first.

    Returns how many payments are ``final``, ``reversed``, ``settled`` (again) or ``out_of_reach``.
    """
    now = clock.now()
    looked_at = now - timedelta(seconds=x402.confirmation_interval / 2)
    rows = Payment.objects.filter(
        Q(state=State.SETTLED) | Q(state=State.REVERSED, created_at__gte=now - _MAY_RETURN),
        scheme=SCHEME_TRANSFER,
        state_changed_at__lt=looked_at,
    ).order_by("state_changed_at")
    done: Counter[str] = Counter()
    for payment in rows.defer("response_body")[:limit]:
        before = payment.state
        try:
            if before == State.REVERSED:
                resolve_transfer(payment, actor=ACTOR)
            else:
                confirm_transfer(payment, actor=ACTOR)
        except (InvalidTransition, SettlementUnknown, SettlementFailed):
            continue  # another worker has it; or nothing has changed, or for the last time
        except (ServiceUnavailable, ConfigurationError):
            done["out_of_reach"] += 1
        except Exception:
            logger.exception("Transfer %s could not be confirmed.", payment.public_id)
            done["out_of_reach"] += 1
        else:
            if payment.state != before:
                done[payment.state] += 1
    return done


def confirm_transfer(payment: Payment, *, actor: str) -> None:
    """Bring a settled transfer to ``final``, or mark it reversed if the chain has dropped it.

    Raises:
        InvalidTransition: another worker has the payment.
        ServiceUnavailable: the chain cannot be read now.
    """
    evidence = Evidence.of_row(payment)
    mined = evidence.read()
    if mined is None and not evidence.is_dropped(payment.block_number, payment.block_hash):
        annotate(payment, state_changed_at=clock.now())  # the node is not so far: look again
        return
    transfer = _same_transfer(payment, mined) if mined is not None else None
    if mined is None or transfer is None:
        _reverse(payment, actor)
    elif is_deep(payment, mined):
        advance(
            payment,
            Step(State.FINAL, f"{mined.confirmations} confirmations."),
            actor=actor,
            **place(transfer, mined),
        )
    else:
        annotate(payment, state_changed_at=clock.now(), **place(transfer, mined))


def _same_transfer(payment: Payment, mined: MinedTransfers) -> Transfer | None:
    """The transfer that settled ``payment``, which may have moved to another block."""
    same = [
        one for one in mined.transfers
        if one.sender == payment.payer and one.value == payment.amount
    ]  # fmt: skip
    if payment.block_hash == mined.block_hash:
        return next((one for one in same if one.log_index == payment.log_index), None)
    try:
        return unused(same, mined, payment.network, payment)[0]
    except PaymentRefused:
        return None


def _reverse(payment: Payment, actor: str) -> None:
    """The chain no longer knows the transfer: what was delivered is not paid for (threat 1)."""
    advance(
        payment,
        Step(State.REVERSED, "The transfer is no longer on chain.", "reorganised"),
        actor=actor,
        **NOWHERE,
    )
    logger.error(
        "Payment %s was reversed by a reorganisation of %s; it counts again when its transaction "
        "is mined again.",
        payment.public_id,
        payment.network,
    )
