"""The periodic look at payments by the payer's own transfer, beside the scan.

The scan answers for all whose transactions it reads (``transfer_findings``). Here are those that
it has nothing to say about: not mined as far as is known, or not where they were.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from django.db import IntegrityError
from django.db.models import Q

from x402_django import clock
from x402_django.constants import SCHEME_TRANSFER
from x402_django.exceptions import InvalidTransition, PaymentRefused, RpcUnavailable
from x402_django.models import Payment, ScannedBlock
from x402_django.payments.machine import Step, advance, annotate
from x402_django.payments.proofs import Evidence, unused
from x402_django.payments.report import Report
from x402_django.payments.stale import looked_at_before
from x402_django.payments.transfers import (
    NOWHERE,
    forget,
    held_transfer,
    is_deep_enough,
    is_overdue,
    place,
)

if TYPE_CHECKING:
    from x402_django.chain.transfers import MinedTransfers, Transfer

logger = logging.getLogger("x402_django.payments")

State = Payment.State
ACTOR: Final = "confirmation"

#: How long a transfer that a reorganisation took away is looked for.
_MAY_RETURN: Final = timedelta(days=2)


def may_return() -> Q:
    """Reversed payments that are still looked for, as a condition."""
    return Q(state=State.REVERSED, created_at__gte=clock.now() - _MAY_RETURN)


def seek_transfers(network: str, report: Report, *, limit: int) -> list[int]:
    """Look for transfers that were not mined yet, many in one request, oldest first.

    Releases those that the node has forgotten. Returns the keys of those in blocks that the scan
    has passed, perhaps before they were presented: they are to be looked at one by one.
    """
    unplaced = Payment.objects.filter(
        Q(state=State.SETTLING) | may_return(),
        network=network,
        scheme=SCHEME_TRANSFER,
        log_index__isnull=True,
        state_changed_at__lt=looked_at_before(),
    ).order_by("state_changed_at")
    payments = list(unplaced.defer("response_body")[:limit])
    if not payments:
        return []
    from x402_django.chain.transfers import known_transactions  # loads web3

    try:
        known = known_transactions(network, [payment.transaction for payment in payments])
    except RpcUnavailable as error:
        logger.warning("Pending transfers on %s could not be looked for: %s", network, error)
        report.out_of_reach += len(payments)
        return []
    newest = ScannedBlock.objects.filter(network=network).order_by("-number").first()
    passed: list[Payment] = []
    waiting: list[Payment] = []
    for payment in payments:
        number = known.get(payment.transaction)
        if number is not None:
            (passed if newest is not None and number <= newest.number else waiting).append(payment)
        elif payment.transaction in known or not is_overdue(payment):
            waiting.append(payment)
        else:
            _forget(payment)
    report.still_unknown += len(waiting)
    # Others have their turn first the next time.
    keys = [payment.pk for payment in waiting]
    Payment.objects.filter(pk__in=keys, state__in=(State.SETTLING, State.REVERSED)).update(
        state_changed_at=clock.now()
    )
    return [payment.pk for payment in passed]


def _forget(payment: Payment) -> None:
    try:
        forget(payment, actor=ACTOR)
    except InvalidTransition:
        logger.info("Transfer %s was presented again meanwhile.", payment.public_id)


def confirm_transfer(payment: Payment, report: Report) -> None:
    """Bring a settled transfer to ``final``, or mark it reversed if the chain has dropped it.

    For one that the scan did not find where it should be.

    Raises:
        InvalidTransition: another worker has the payment.
        ServiceUnavailable: the chain cannot be read now.
    """
    evidence = Evidence.of_row(payment)
    mined = evidence.read()
    if mined is None:
        if evidence.is_dropped(payment.block_number, payment.block_hash):
            _reverse(payment, report)
        else:
            report.out_of_reach += 1  # the node is not so far
        return
    reason = None
    if is_deep_enough(payment, mined):
        reason = f"{mined.confirmations} confirmations."
    if not follow(payment, mined, reason=reason, actor=ACTOR):
        _reverse(payment, report)
    elif payment.state == State.FINAL:
        report.final += 1
    else:
        annotate(payment, state_changed_at=clock.now())


def follow(payment: Payment, mined: MinedTransfers, *, reason: str | None, actor: str) -> bool:
    """Write down where a settled transfer is; ``reason``, if any, is why it is final there.

    False if ``mined`` does not hold it. Raises InvalidTransition: another worker has the payment.
    """
    transfer = _same_transfer(payment, mined)
    if transfer is None:
        return False
    where = place(transfer, mined)
    try:
        if reason is not None:
            advance(payment, Step(State.FINAL, reason), actor=actor, **where)
        elif any(getattr(payment, name) != value for name, value in where.items()):
            annotate(payment, **where)
    except IntegrityError:
        # The logs of its transaction have other numbers now, and the payment that had this one
        # has not followed yet. Without a number it is in nobody's way.
        annotate(payment, **{**where, "log_index": None})
    return True


def _same_transfer(payment: Payment, mined: MinedTransfers) -> Transfer | None:
    """The transfer that settled ``payment``, which may have moved to another block."""
    held = held_transfer(payment, mined)
    if held is not None or (
        payment.block_hash == mined.block_hash and payment.log_index is not None
    ):
        return held
    same = [
        one for one in mined.transfers
        if one.sender == payment.payer and one.value == payment.amount
    ]  # fmt: skip
    try:
        return unused(same, mined, payment.network, payment)[0]
    except PaymentRefused:
        return None


def _reverse(payment: Payment, report: Report) -> None:
    """The chain no longer knows the transfer: what was delivered is not paid for (threat 1)."""
    advance(
        payment,
        Step(State.REVERSED, "The transfer is no longer on chain.", "reorganised"),
        actor=ACTOR,
        **NOWHERE,
    )
    logger.error(
        "Payment %s was reversed by a reorganisation of %s; it counts again when its transaction "
        "is mined again.",
        payment.public_id,
        payment.network,
    )
    report.reversed += 1
