"""Payments by a transfer that the payer made itself: from its proof to its confirmations.

The money has moved, or is about to, before anybody presents the proof. Nothing is sent from here:
the row goes through its states on what the chain shows. ``transfer_claims`` says who may have one.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

from django.db import IntegrityError

from x402_django import clock
from x402_django.constants import Code
from x402_django.exceptions import PaymentRefused, SettlementFailed, SettlementUnknown
from x402_django.models import Payment
from x402_django.payments.depth import is_deep
from x402_django.payments.machine import Step, advance, annotate
from x402_django.payments.proofs import Evidence, refuse_older, signed_transfers, unused
from x402_django.payments.recording import mark_settled
from x402_django.protocol.types import Settlement

if TYPE_CHECKING:
    from x402_django.chain.transfers import MinedTransfers, Transfer

State = Payment.State

#: After so long, a transaction that the node does not know is no longer waited for. Its proof may
#: be presented again.
FORGOTTEN: Final = timedelta(seconds=120)
#: The columns of a transfer that is on no chain.
NOWHERE: Final[dict[str, Any]] = {"block_number": None, "block_hash": "", "log_index": None}


def begin(payment: Payment) -> None:
    """From a claim to "may have been paid": from here on only the chain decides."""
    advance(
        payment,
        Step(State.VERIFIED, "The sender of the transfer signed the proof."),
        Step(State.SETTLING, "The transfer is to be confirmed."),
        actor="request",
        outcome_unknown_at=clock.now(),
    )


def hold(payment: Payment, transfer: Transfer, mined: MinedTransfers) -> dict[str, Any]:
    """Put ``transfer`` on ``payment`` (unsaved); the fields to write.

    The ledger, the receipt and the answer name what was transferred, which may be more than was
    asked for (``requirements`` keeps that): receipts add up to what is on chain.
    """
    fields = {"payer": transfer.sender, "amount": transfer.value, **place(transfer, mined)}
    for name, value in fields.items():
        setattr(payment, name, value)
    return fields


def conclude(
    payment: Payment, evidence: Evidence, mined: MinedTransfers, *, deep: bool, actor: str
) -> None:
    """Settle ``payment`` by a mined transaction, or hold its log until that is ``deep`` enough.

    Raises:
        SettlementUnknown: not deep enough, or another worker is at it.
        PaymentRefused: the transaction does not pay for it, and is deep enough to be sure.
        RpcUnavailable: a contract wallet could not be asked.
    """
    try:
        transfer = _choose(payment, evidence, mined)
    except PaymentRefused as refusal:
        if deep:
            raise
        raise SettlementUnknown() from refusal  # a reorganisation may still change it
    fields = hold(payment, transfer, mined)
    if not deep:
        try:
            annotate(payment, **fields)
        except IntegrityError as error:
            raise SettlementUnknown() from error  # another payment took the log at this moment
        raise SettlementUnknown()
    if payment.state == State.REVERSED:
        advance(payment, Step(State.SETTLING, "The transfer is back on chain."), actor=actor)
    settlement = Settlement(
        mined.transaction, mined.block_number, mined.block_hash, transfer.log_index
    )
    paid = {"payer": transfer.sender, "amount": transfer.value}
    mark_settled(payment, settlement, paid, actor=actor)


def resolve_transfer(payment: Payment, *, actor: str) -> None:
    """Find out whether a transfer has become deep enough, and act on it.

    On return the payment is settled. Safe to call from several places at once: the attempt
    number is a lease that one caller wins.

    Raises:
        SettlementUnknown: not yet (or another worker is at it).
        SettlementFailed: it reverted, or has paid for something else.
        ServiceUnavailable: the chain cannot be read now.
    """
    if not annotate(payment, state_changed_at=clock.now(), attempt=payment.attempt + 1):
        raise SettlementUnknown()
    evidence = Evidence.of_row(payment)
    mined = evidence.read()
    if mined is None:
        _keep_waiting(payment, evidence, actor)
    try:
        conclude(payment, evidence, mined, deep=is_deep_enough(payment, mined), actor=actor)
    except PaymentRefused as refusal:
        _fail(payment, refusal, actor)


def is_deep_enough(payment: Payment, mined: MinedTransfers) -> bool:
    """Whether the transaction is as deep as ``CONFIRMATIONS`` wants. Raises RpcUnavailable."""
    return is_deep(payment, block_number=mined.block_number, confirmations=mined.confirmations)


def place(transfer: Transfer, mined: MinedTransfers) -> dict[str, Any]:
    """Where a transfer is, as the ledger's columns."""
    return {
        "block_number": mined.block_number,
        "block_hash": mined.block_hash,
        "log_index": transfer.log_index,
    }


def _choose(payment: Payment, evidence: Evidence, mined: MinedTransfers) -> Transfer:
    """The log that pays ``payment``: the one it holds, or the least that is enough and free."""
    held = held_transfer(payment, mined)
    if held is not None:
        return held
    # Others than the payer are asked where an owner of a contract wallet was taken for the
    # sender, before the transaction was mined.
    candidates = own_transfers(payment, evidence, mined) or signed_transfers(evidence, mined)
    transfers = unused(candidates, mined, payment.network, payment)
    refuse_older(evidence, mined)
    return transfers[0]


def held_transfer(payment: Payment, mined: MinedTransfers) -> Transfer | None:
    """The log that ``payment`` holds, if it is in ``mined``: in the very block, by its number.

    It was judged when it was written down, and no other payment can hold it.
    """
    if payment.log_index is None or payment.block_hash != mined.block_hash:
        return None
    there = (one for one in mined.transfers if one.log_index == payment.log_index)
    return next(there, None)


def own_transfers(payment: Payment, evidence: Evidence, mined: MinedTransfers) -> list[Transfer]:
    """The payer's transfers that are enough, the least first. The payer signed the proof.

    If there is a receipt already, that of its amount is the one.
    """
    own = [
        one for one in mined.transfers
        if one.sender == payment.payer and one.value >= evidence.least
    ]  # fmt: skip
    if payment.settled_at is not None:
        own = [one for one in own if one.value == payment.amount] or own
    return sorted(own, key=lambda one: (one.value, one.log_index))


def _keep_waiting(payment: Payment, evidence: Evidence, actor: str) -> NoReturn:
    """Not mined, or not any more. What the node has forgotten need not keep the row open."""
    if payment.block_number is not None:
        if evidence.is_dropped(payment.block_number, payment.block_hash):
            annotate(payment, outcome_unknown_at=clock.now(), **NOWHERE)
    elif is_overdue(payment) and not evidence.is_awaited():
        forget(payment, actor=actor)
    raise SettlementUnknown()


def is_overdue(payment: Payment) -> bool:
    """Whether a transaction that no node knows has been waited for long enough."""
    since = payment.outcome_unknown_at
    # A reversed one was paid for, and what it bought is delivered: there is nothing to release.
    return payment.state == State.SETTLING and since is not None and clock.now() - since > FORGOTTEN


def forget(payment: Payment, *, actor: str) -> None:
    """Release a payment whose transaction no node knows. Raises InvalidTransition."""
    code = Code.TRANSFER_NOT_FOUND
    advance(
        payment,
        Step(State.RELEASED, "The network does not know the transaction.", code),
        actor=actor,
        failure_code=code,
        outcome_unknown_at=None,
        **NOWHERE,
    )


def _fail(payment: Payment, refusal: PaymentRefused, actor: str) -> NoReturn:
    steps = [Step(State.FAILED, str(refusal), refusal.code)]
    if payment.state == State.REVERSED:
        steps.insert(0, Step(State.SETTLING, "The transaction is back on chain."))
    advance(
        payment,
        *steps,
        actor=actor,
        failure_code=refusal.code,
        outcome_unknown_at=None,
        **NOWHERE,
    )
    raise SettlementFailed(str(refusal), code=refusal.code) from refusal
