"""Verify and settle one payment.

The order of writes is what makes this safe to kill anywhere:

* ``settling`` is committed before the facilitator is asked to move money. A process that dies
  after that leaves a row that says "may have been paid", which only the chain can change.
* ``settled``, the receipt and the stored response are committed in one transaction, before any
  byte of the answer leaves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from x402_django.conf import x402
from x402_django.constants import FLOW_AUTHORIZATION, FLOW_DEFERRED, SCHEME_BATCH, SCHEME_UPTO, Code
from x402_django.exceptions import (
    FacilitatorUnavailable,
    PaymentRefused,
    RpcUnavailable,
    ServiceUnavailable,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.facilitators.base import get_facilitator
from x402_django.models import Payment
from x402_django.observing import observed
from x402_django.payments import channels
from x402_django.payments.machine import Step, advance, annotate
from x402_django.payments.recording import let_go, mark_settled, note_unknown, release
from x402_django.payments.reservation import (
    charge_sentence,
    charged_fields,
    refuse_in_default,
    reserve,
    waive,
)
from x402_django.protocol.types import Settlement, SignedPayment

logger = logging.getLogger("x402_django.payments")

State = Payment.State

#: Called once the money has arrived and before that is written: the columns to store with it.
ResponseFields = Callable[[], dict[str, Any]]


def nothing_to_store() -> dict[str, Any]:
    """ResponseFields of a settlement with no response at hand."""
    return {}


def verify(payment: Payment, signed: SignedPayment) -> None:
    """Ask the facilitator whether ``payment`` would settle.

    On return the payment may be settled; its row stays ``claimed`` until then, since nothing
    could be lost if this process died (see ``settle``). Under the scheme ``upto`` it is
    ``verified``, and its maximum reserved. If the authorization turns out to be
    used already, by somebody who submitted it after it was claimed here, the payment is settled
    already and the row says so.

    Raises:
        PaymentRefused: and the payment is rejected.
        ServiceUnavailable: and the payment is released.
    """
    refuse_in_default(payment)
    try:
        with observed("verify", payment):
            holder = get_facilitator(payment.facilitator).verified_by(signed)
    except PaymentRefused as refusal:
        if refusal.code == Code.NONCE_USED and _honour_front_run(payment, signed):
            return
        advance(
            payment,
            Step(State.REJECTED, str(refusal), refusal.code),
            actor="facilitator",
            failure_code=refusal.code[:100],
        )
        raise
    except ServiceUnavailable as trouble:
        release(payment, "The facilitator could not verify.", code=trouble.code)
        raise
    except Exception:
        release(payment, "Verification broke off.", code=Code.UNEXPECTED_VERIFY_ERROR)
        raise
    if holder.alias != payment.facilitator:
        # One of several: the row names it from now on, so that it alone is asked to settle.
        annotate(payment, facilitator=holder.alias)
    if payment.scheme == SCHEME_UPTO:
        reserve(payment, signed)
    elif payment.scheme == SCHEME_BATCH:
        channels.hold(payment, signed)


def _honour_front_run(payment: Payment, signed: SignedPayment) -> bool:
    """Settle ``payment`` by a transfer that somebody else submitted after it was claimed here.

    EIP-3009 lets anyone submit an authorization. One that was used *before* it was presented
    here bought something elsewhere (or is copied from the chain) and buys nothing now.
    """
    from x402_django.chain import evidence  # loads web3: not before it is needed

    if not x402.network(payment.network).has_rpc:
        return False
    try:
        found = evidence.find_settlement(signed, since=payment.created_at)
        if found is None:
            return False
        used_at = evidence.chain_time(payment.network, found.block_number)
    except RpcUnavailable:
        release(payment, "The chain could not be read.", code=Code.UNAVAILABLE)
        raise
    if used_at <= payment.created_at.timestamp():
        return False
    advance(
        payment,
        Step(State.VERIFIED, "The authorization was submitted by somebody else.", Code.NONCE_USED),
        Step(State.SETTLING, "Already on chain."),
        actor="chain",
    )
    arrived(payment, signed, found.as_settlement(), {}, actor="chain")
    return True


def settle(
    payment: Payment, signed: SignedPayment, response_fields: ResponseFields = nothing_to_store
) -> None:
    """Move the money of a verified payment. On return it has arrived and the receipt exists.

    ``response_fields`` gives the columns that keep the response for replay. One that could have
    been deferred and was not is an ``authorization`` from here on. Under the scheme ``upto`` what
    the view has charged is moved; if that is nothing, the payment is ``waived`` instead.

    Raises:
        SettlementFailed: definite; the payment is ``failed``.
        SettlementUnknown: the payment stays ``settling`` until the chain tells.
        ServiceUnavailable: nothing was sent; the payment is ``released``.
        InvalidTransition: another worker has the payment.
    """
    if signed.channel is not None and signed.channel.deposit is None:
        channels.settle_voucher(payment, signed, response_fields)
        return
    if payment.scheme == SCHEME_UPTO:
        if payment.due == 0:
            waive(payment, response_fields())
            return
        signed = replace(signed, charged=payment.due)
        step = Step(State.SETTLING, charge_sentence(payment))
        advance(payment, step, actor="request", **charged_fields(payment))
    else:
        fields: dict[str, Any] = {}
        if payment.flow == FLOW_DEFERRED:
            fields["flow"] = FLOW_AUTHORIZATION
        advance(
            payment,
            Step(State.VERIFIED, "The facilitator found it valid."),
            Step(State.SETTLING, "Settlement begins."),
            actor="request",
            **fields,
        )
    settle_now(payment, signed, response_fields, actor="request")


def settle_now(
    payment: Payment, signed: SignedPayment, response_fields: ResponseFields, *, actor: str
) -> None:
    """Settle a payment that is ``settling`` and ours. Raises as ``settle``."""
    deadline = time.monotonic() + x402.settlement_timeout
    outcome: Settlement | Exception
    # The offer may name a facilitator that asks several others; the row names the one of them
    # that has the payment, and may name another after this call.
    with observed("settle", payment):
        try:
            outcome = get_facilitator(signed.offer.facilitator).settle(signed, payment)
        except Exception as error:  # noqa: BLE001 - it is judged, not swallowed
            outcome = error
        judge(payment, signed, outcome, response_fields, actor=actor, deadline=deadline)


def judge(
    payment: Payment,
    signed: SignedPayment,
    outcome: Settlement | Exception,
    response_fields: ResponseFields,
    *,
    actor: str,
    deadline: float,
) -> None:
    """Write down what a facilitator's ``settle`` came to. Returns and raises as ``settle``.

    ``deadline`` (``time.monotonic``) is until when to look for a transfer it claims to have made.
    """
    if isinstance(outcome, SettlementFailed):
        _judge_failure(payment, signed, outcome, response_fields, actor=actor)
    elif isinstance(outcome, SettlementUnknown):
        _judge_doubt(payment, signed, outcome, response_fields, actor=actor)
    elif isinstance(outcome, FacilitatorUnavailable):
        if payment.outcome_unknown_at is not None:  # an earlier attempt may have been sent
            raise SettlementUnknown() from outcome
        let_go(payment, outcome, actor=actor)
        raise outcome
    elif isinstance(outcome, Exception):
        # Whatever broke, it broke after we asked for money to be moved.
        logger.error("Settling payment %s broke off.", payment.public_id, exc_info=outcome)
        note_unknown(payment)
        raise SettlementUnknown() from outcome
    else:
        if not get_facilitator(payment.facilitator).trusted:
            outcome = _prove(payment, signed, outcome, deadline)
        arrived(payment, signed, outcome, response_fields(), actor=actor)


def arrived(
    payment: Payment,
    signed: SignedPayment,
    settlement: Settlement,
    fields: dict[str, Any],
    *,
    actor: str,
) -> None:
    """Write ``settled``, the receipt, and what else the scheme keeps books of, in one commit.

    What a deposit into a channel is for is not swept yet, so no place on chain is its own.
    """
    if signed.channel is None:
        mark_settled(payment, settlement, fields, actor=actor)
        return
    payment.transaction = settlement.transaction
    deposited = Settlement(transaction=settlement.transaction)
    beside = channels.charge(payment, signed)
    mark_settled(payment, deposited, fields, actor=actor, beside=beside)


def _prove(
    payment: Payment, signed: SignedPayment, settlement: Settlement, deadline: float
) -> Settlement:
    """Look for the transfer a facilitator claims to have made, until the request's time is up."""
    from x402_django.chain import evidence  # loads web3: not before it is needed

    network = x402.network(payment.network)
    while network.has_rpc:
        try:
            found = evidence.find_settlement(signed, transaction=settlement.transaction)
        except RpcUnavailable:
            found = None
        if found is not None:
            return found.as_settlement()
        if time.monotonic() + network.poll_interval >= deadline:
            break
        time.sleep(network.poll_interval)
    note_unknown(payment, transaction=settlement.transaction)
    raise SettlementUnknown(transaction=settlement.transaction)


def _judge_failure(
    payment: Payment,
    signed: SignedPayment,
    failure: SettlementFailed,
    response_fields: ResponseFields,
    *,
    actor: str,
) -> None:
    """Believe "it failed" only as far as the chain agrees.

    After an earlier attempt with an unknown outcome, a facilitator's "no" says nothing about
    what that attempt may still do; then only time and the chain decide.
    """
    from x402_django.chain import evidence  # loads web3: not before it is needed

    facilitator = get_facilitator(payment.facilitator)
    if not facilitator.trusted and payment.outcome_unknown_at is not None:
        raise SettlementUnknown(transaction=failure.transaction)
    if not facilitator.trusted and x402.network(payment.network).has_rpc:
        try:
            used = evidence.authorization_used(signed)
        except RpcUnavailable:
            used = True  # cannot tell: not a failure yet
        if used:
            doubt = SettlementUnknown(transaction=failure.transaction)
            _judge_doubt(payment, signed, doubt, response_fields, actor=actor)
            return
    advance(
        payment,
        Step(State.FAILED, str(failure), failure.code),
        actor="facilitator",
        failure_code=failure.code[:100],
    )
    raise failure


def _judge_doubt(
    payment: Payment,
    signed: SignedPayment,
    doubt: SettlementUnknown,
    response_fields: ResponseFields,
    *,
    actor: str,
) -> None:
    """One look at the chain may settle the doubt at once; otherwise it is written down."""
    from x402_django.chain import evidence  # loads web3: not before it is needed

    if x402.network(payment.network).has_rpc:
        try:
            found = evidence.find_settlement(
                signed, transaction=doubt.transaction or None, since=payment.created_at
            )
        except RpcUnavailable:
            found = None
        if found is not None:
            arrived(payment, signed, found.as_settlement(), response_fields(), actor=actor)
            return
    note_unknown(payment, transaction=doubt.transaction)
    raise doubt
