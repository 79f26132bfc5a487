"""Verify and settle for others, on the ledger.

A payment of the service is a row like any other, of the kind ``service``: it is claimed before
anything is sent, settled through the same outbox, resolved and confirmed by the same tasks. So a
request that is repeated, on any machine, at any time, finds what became of the first. What is
unlike a sale: there is no view. ``delivered_at`` says when success was first reported.

The payer's money may have moved although nobody has heard of it: the caller went away, or was
told that the outcome is pending. Until success was reported once, such a payment is still valid to
``verify``: a seller without a ledger then sells for it, instead of asking its buyer to pay again.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import Any, Final

from django.db import router

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import FLOW_AUTHORIZATION, FLOW_UPFRONT, SCHEME_UPTO, Code
from x402_django.exceptions import (
    BudgetExceeded,
    ConfigurationError,
    DuplicateSettlement,
    InvalidTransition,
    PaymentRefused,
    ServiceUnavailable,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.facilitators.base import BaseFacilitator, get_facilitator
from x402_django.models import ChainTransaction, FacilitatorKey, Payment
from x402_django.models.origins import canonical
from x402_django.models.statements import durable_statement
from x402_django.payments import settlement
from x402_django.payments.authenticity import authenticate, refuse_forgery
from x402_django.payments.entitlements import dead_since
from x402_django.payments.machine import PAID, Step, advance
from x402_django.payments.recording import release
from x402_django.payments.resolution import resolve
from x402_django.payments.service import budget
from x402_django.protocol.facilitation import FacilitationRequest
from x402_django.protocol.offers import check_validity
from x402_django.protocol.types import SignedPayment

logger = logging.getLogger("x402_django.payments")

State = Payment.State
ACTOR: Final = "service"

#: Seconds between looks at a payment that another request has: at first, and at the most.
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.3

#: Columns that a new claim of a released row takes from the new request.
_TERMS: Final = (
    "scheme",
    "asset",
    "pay_to",
    "amount",
    "asset_symbol",
    "asset_decimals",
    "valid_before",
    "x402_version",
    "facilitator",
    "requirements",
    "payload",
    "service_key_id",
    "resource_url",
)


#: Parts of a payload that are not among the terms.
_UNSIGNED: Final = {"signature": "", "extensions": None}


def service_facilitator() -> BaseFacilitator:
    """The facilitator that settles for others. Raises ConfigurationError if there is none."""
    alias = x402.service_facilitator
    if alias is None:
        raise ConfigurationError(
            "This site offers no facilitator service: X402['SERVICE_FACILITATOR'] is not set."
        )
    return get_facilitator(alias)


def verify(request: FacilitationRequest, key: FacilitatorKey) -> None:
    """Return if ``settle`` would succeed now. Moves no money and writes nothing.

    Raises:
        PaymentRefused: it would not; the code says why.
        ServiceUnavailable: no answer could be had; BudgetExceeded if ``key`` has no gas left.
    """
    signed = request.signed
    refuse_forgery(signed)
    known = _known(signed)
    decided = (State.SETTLING, State.REVERSED, State.WAIVED, *PAID)
    if known is not None and known.state in decided:
        if known.delivered_at is not None or not _is_same(known, signed):
            raise PaymentRefused(code=Code.NONCE_USED)
        authenticate(signed, known)
        return
    check_validity(signed, now=clock.timestamp(), minimum=0)
    facilitator = service_facilitator()
    budget.refuse_without_gas(key, facilitator.gas_per_payment)
    facilitator.verify(signed)


def settle(request: FacilitationRequest, key: FacilitatorKey) -> Payment:
    """Settle, or find out what became of it. On return the payment is settled.

    Under the scheme ``upto`` nothing may be due: then it is ``waived``.

    May be called any number of times for one payment, at once and by many processes: one settles,
    the others wait for what comes of it.

    Raises:
        PaymentRefused: and nothing was sent for it.
        SettlementFailed: definite; nothing was and nothing will be charged.
        SettlementUnknown: not known yet; ``transaction`` is its hash, if there is one.
        ServiceUnavailable: nothing was sent; BudgetExceeded if ``key`` has used up its gas.
    """
    refuse_forgery(request.signed)
    deadline = time.monotonic() + x402.settlement_timeout
    payment = _new_row(request, key)
    with durable_statement(router.db_for_write(Payment)):
        is_new = Payment.objects.claim(payment, settling_before=dead_since())
    pause = _FIRST_PAUSE
    while True:
        try:
            if is_new:
                _settle_claimed(payment, request.signed, key)
                return payment
            known = _known(request.signed)
            if known is not None and _follow(known, request, key):
                return known
        except InvalidTransition:
            logger.info("A payment moved on while it was looked at; looking again.")
        except SettlementUnknown as doubt:
            raise SettlementUnknown(
                transaction=doubt.transaction or _sent_for(request.signed)
            ) from doubt
        is_new = False
        if time.monotonic() + pause > deadline:
            raise SettlementUnknown(transaction=_sent_for(request.signed))
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def report_success(payment: Payment, key: FacilitatorKey) -> bool:
    """Write down that success is reported, before it is; whether this is the first time.

    Raises DuplicateSettlement if it was reported before and ``key`` hears of it once.
    """
    with durable_statement(router.db_for_write(Payment)):
        first = Payment.objects.filter(pk=payment.pk, delivered_at__isnull=True).update(
            delivered_at=clock.now()
        )
    if not first and key.succeeds_once:
        raise DuplicateSettlement(transaction=payment.transaction)
    return bool(first)


def _settle_claimed(payment: Payment, signed: SignedPayment, key: FacilitatorKey) -> None:
    """Settle a payment whose claim is ours. Raises as ``settle``, and InvalidTransition."""
    try:
        reservation = budget.reserve_gas(key, service_facilitator().gas_per_payment)
    except BudgetExceeded as excess:
        release(payment, "The API key has no gas left.", code=excess.code, actor=ACTOR)
        raise
    try:
        settlement.verify(payment, signed)
        if not payment.is_done:
            settlement.settle(payment, signed)
    except (PaymentRefused, ServiceUnavailable):
        reservation.settle_up(0)
        raise
    except SettlementFailed:
        reservation.settle_up(budget.gas_used(payment))
        raise
    reservation.settle_up(budget.gas_used(payment))


def _follow(known: Payment, request: FacilitationRequest, key: FacilitatorKey) -> bool:
    """What became of a payment that was presented before: whether it is settled.

    False: another request has it. Raises as ``settle``, and InvalidTransition if it moved on.
    """
    signed = request.signed
    if known.state in (State.RELEASED, State.REJECTED) or _is_abandoned(known):
        _claim_again(known, request, key)
        _settle_claimed(known, signed, key)
        return True
    if not _is_same(known, signed):
        if known.state == State.CLAIMED:  # perhaps made up; it is verified at this moment
            return False
        raise PaymentRefused(code=Code.NONCE_USED)
    authenticate(signed, known)
    if known.is_done:
        return True
    if known.state in (State.FAILED, State.EXPIRED):
        raise SettlementFailed(code=known.failure_code or Code.INVALID_TRANSACTION_STATE)
    if known.state == State.REVERSED or _is_left(known):
        _resolve(known)
        return True
    return False


def _resolve(known: Payment) -> None:
    try:
        resolve(known, actor=ACTOR)
    except (ServiceUnavailable, ConfigurationError) as trouble:
        # Those say "you were not charged", which is just what is not known here.
        logger.warning("Payment %s cannot be resolved now: %s", known.public_id, trouble)
        raise SettlementUnknown() from trouble


def _is_left(known: Payment) -> bool:
    """Whether nobody settles it at this moment, though it is ``settling``."""
    return known.state == State.SETTLING and (
        known.outcome_unknown_at is not None or known.state_changed_at < dead_since()
    )


def _is_abandoned(known: Payment) -> bool:
    """Whether its process died before anything was sent for it."""
    return known.state == State.CLAIMED and known.state_changed_at < dead_since()


def _claim_again(known: Payment, request: FacilitationRequest, key: FacilitatorKey) -> None:
    """Take a row for which nothing was sent. Raises InvalidTransition if another request did."""
    steps = [Step(State.CLAIMED, "Presented again.")]
    if known.state == State.CLAIMED:
        steps.insert(0, Step(State.RELEASED, "Its process is taken for dead.", "claim_timed_out"))
    terms = _new_row(request, key)
    fields: dict[str, Any] = {name: getattr(terms, name) for name in _TERMS}
    if known.state == State.REJECTED or not _is_same(known, request.signed):
        # What happens on chain counts as paid only from when it was first asked for.
        fields["created_at"] = terms.created_at
    advance(known, *steps, actor=ACTOR, new_attempt=True, failure_code="", **fields)


def _known(signed: SignedPayment) -> Payment | None:
    """The service's row of this authorization."""
    network, contract, payer, nonce = signed.key
    rows = Payment.objects.for_others().defer("response_body")
    return rows.filter(
        network=network, verifying_contract=contract, payer=payer, nonce=nonce
    ).first()


def _is_same(known: Payment, signed: SignedPayment) -> bool:
    """Whether the row is of these very terms: a payer may sign two payments with one nonce.

    And, under the scheme ``upto``, of the very amount: that is the server's to say, once.
    """
    terms = {**known.payload, **_UNSIGNED} == {**signed.payload_dict(), **_UNSIGNED}
    return terms and known.scheme == signed.offer.scheme and known.amount == signed.amount


def _sent_for(signed: SignedPayment) -> str:
    """The hash of what was last sent for a payment; empty if nothing was stored."""
    known = _known(signed)
    if known is None:
        return ""
    sent = ChainTransaction.objects.filter(items__payment=known).order_by("-pk")
    return known.transaction or sent.values_list("hash", flat=True).first() or ""


def _new_row(request: FacilitationRequest, key: FacilitatorKey) -> Payment:
    signed = request.signed
    offer, now = signed.offer, clock.now()
    address = canonical(request.resource_url)
    return Payment(
        kind=Payment.Kind.SERVICE,
        service_key=key,
        state=State.CLAIMED,
        state_changed_at=now,
        created_at=now,
        scheme=offer.scheme,
        network=offer.network,
        asset=offer.asset,
        verifying_contract=offer.verifying_contract,
        payer=signed.payer,
        nonce=signed.nonce,
        pay_to=offer.pay_to,
        amount=signed.amount,
        asset_symbol=offer.symbol,
        asset_decimals=offer.decimals,
        valid_before=signed.valid_before,
        x402_version=request.version,
        flow=FLOW_AUTHORIZATION if offer.scheme == SCHEME_UPTO else FLOW_UPFRONT,
        facilitator=offer.facilitator,
        requirements=offer.as_v2(),
        payload=signed.snapshot(),
        # Nothing is sold here, so nothing is the same request twice but the same authorization.
        request_fingerprint=hashlib.sha256("\n".join(signed.key).encode()).hexdigest(),
        request_method="",
        resource_url="" if address is None else "".join(address),
    )
