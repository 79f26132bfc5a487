"""Payments by a transfer that the payer made itself: from its proof to its confirmations.

The money has moved, or is about to, before anybody presents the proof. Nothing is sent from here:
the row goes through its states on what the chain shows. ``transfer_claims`` says who may have one.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

from django.db import IntegrityError

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import Code
from x402_django.exceptions import PaymentRefused, SettlementFailed, SettlementUnknown
from x402_django.models import Payment
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


def conclude(payment: Payment, evidence: Evidence, mined: MinedTransfers, *, actor: str) -> None:
    """Settle ``payment`` by a mined transaction, or hold its log until that is deep enough.

    Raises:
        SettlementUnknown: not deep enough, or another worker is at it.
        PaymentRefused: the transaction does not pay for it, and is deep enough to be sure.
        RpcUnavailable: a contract wallet could not be asked.
    """
    deep = is_deep(payment, mined)
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
        conclude(payment, evidence, mined, actor=actor)
    except PaymentRefused as refusal:
        _fail(payment, refusal, actor)


def is_deep(payment: Payment, mined: MinedTransfers) -> bool:
    """Whether there are as many blocks on the transaction as ``CONFIRMATIONS`` wants."""
    return mined.confirmations >= x402.network(payment.network).confirmations


def place(transfer: Transfer, mined: MinedTransfers) -> dict[str, Any]:
    """Where a transfer is, as the ledger's columns."""
    return {
        "block_number": mined.block_number,
        "block_hash": mined.block_hash,
        "log_index": transfer.log_index,
    }


def _choose(payment: Payment, evidence: Evidence, mined: MinedTransfers) -> Transfer:
    """The log that pays ``payment``: the one it holds, or the least that is enough and free."""
    own = [
        one for one in mined.transfers
        if one.sender == payment.payer and one.value >= evidence.least
    ]  # fmt: skip
    # The payer signed, or the row would not be; others are asked where an owner of a contract
    # wallet was taken for the sender, before the transaction was mined.
    own.sort(key=lambda one: (one.value, one.log_index))
    transfers = unused(own or signed_transfers(evidence, mined), mined, payment.network, payment)
    refuse_older(evidence, mined)
    if payment.block_hash == mined.block_hash:
        held = [one for one in transfers if one.log_index == payment.log_index]
        transfers = held or transfers
    return transfers[0]


def _keep_waiting(payment: Payment, evidence: Evidence, actor: str) -> NoReturn:
    """Not mined, or not any more. What the node has forgotten need not keep the row open."""
    since, code = payment.outcome_unknown_at, Code.TRANSFER_NOT_FOUND
    if since is not None and clock.now() - since > FORGOTTEN and not evidence.is_awaited():
        advance(
            payment,
            Step(State.RELEASED, "The network does not know the transaction.", code),
            actor=actor,
            failure_code=code,
            outcome_unknown_at=None,
            **NOWHERE,
        )
    raise SettlementUnknown()


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
