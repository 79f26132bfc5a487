"""Who owns an authorization that a client presents.

``claim`` is the first thing that happens to a well-formed payment, before anything is verified
or run: it inserts the ledger row, and the database's unique constraint on (network, asset,
payer, nonce) decides between any number of copies, on any number of machines. What it returns
says what the request is entitled to.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from django.db import IntegrityError, router, transaction

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import Code
from x402_django.exceptions import InvalidTransition, PaymentRefused
from x402_django.models import Payment, PaymentEvent
from x402_django.models.querysets import identity
from x402_django.models.statements import durable_statement
from x402_django.payments.authenticity import authenticate
from x402_django.payments.machine import Step, advance, take_over
from x402_django.pricing import Quote
from x402_django.protocol.types import PresentedPayment, SignedPayment

logger = logging.getLogger("x402_django.payments")

State = Payment.State


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What a payment is bound to when it is first used.

    ``fingerprint`` is the hex SHA-256 over method, canonical URL with query, and body digest;
    ``resource_url`` is the canonical URL without its query, which may name people.
    """

    method: str
    resource_url: str
    fingerprint: str


class Entitlement(Enum):
    """What presenting a payment entitles this request to."""

    VERIFY = "verify"  # ours, newly: verify it and go on
    DELIVER = "deliver"  # paid and owed: run the view, free
    REPLAY = "replay"  # done: the stored response
    RESOLVE = "resolve"  # its outcome is unknown: look at the chain
    WAIT = "wait"  # another worker has it: 409


@dataclass(slots=True)
class Claim:
    """The outcome of ``claim``. ``payment`` may be an earlier one than was presented."""

    entitlement: Entitlement
    payment: Payment


def claim(signed: SignedPayment, quote: Quote, facts: RequestFacts) -> Claim:
    """Claim ``signed`` for the request, durably.

    A new claim is verified afterwards, by the caller. Whatever an *earlier* claim entitles to is
    handed out only to somebody who could sign for the payer: authorizations can be made up, and
    used ones can be read off the chain.

    Raises:
        PaymentRefused: the authorization was spent on something else (Code.ALREADY_USED), can no
            longer pay (the code of its failure), or is not the payer's (Code.INVALID_SIGNATURE).
        ServiceUnavailable: whose signature it is could not be found out.
    """
    payment = _new_row(signed, quote, facts)
    with durable_statement(router.db_for_write(Payment)):
        if Payment.objects.claim(payment, settling_before=_dead_since()):
            return Claim(Entitlement.VERIFY, payment)
    existing = Payment.objects.defer("response_body").filter(**identity(payment)).first()
    if existing is None:
        authenticate(signed)
        return _serve_from_earlier(payment)
    if existing.state in (State.RELEASED, State.REJECTED):
        return _claim_again(existing, payment, signed)
    authenticate(signed, existing)
    if _is_unproven_twin(existing, payment):
        return Claim(Entitlement.WAIT, existing)
    if existing.request_fingerprint != payment.request_fingerprint:
        raise PaymentRefused(
            "This payment was used for another request. Pay this one separately.",
            code=Code.ALREADY_USED,
        )
    return entitlement_of(existing)


def _is_unproven_twin(existing: Payment, presented: Payment) -> bool:
    """Whether ``existing`` has another payload and was not verified: perhaps made up by a stranger.

    It says nothing about the authorization's owner, who is asked to wait until it is gone.
    """
    return existing.state == State.CLAIMED and existing.payload != presented.payload


def claim_known(presented: PresentedPayment, facts: RequestFacts) -> Claim | None:
    """The claim of a payment that was accepted earlier but is not payable now; None if unknown.

    For an authorization that has since expired, or whose price has since changed: what it bought
    is still its payer's. Only the very same payload counts. Raises PaymentRefused as ``claim``.
    """
    rows = (
        Payment.objects.defer("response_body")
        .filter(network=presented.network, payer=presented.payer, nonce=presented.nonce)
        .exclude(state__in=(State.CLAIMED, State.RELEASED, State.REJECTED))
    )
    for row in rows:
        if _is_same(presented, row):
            if row.request_fingerprint != facts.fingerprint:
                raise PaymentRefused(
                    "This payment was used for another request. Pay this one separately.",
                    code=Code.ALREADY_USED,
                )
            return entitlement_of(row)
    return None


def _is_same(presented: PresentedPayment, row: Payment) -> bool:
    signed = SignedPayment.from_row(row)
    return (
        presented.to == signed.offer.pay_to
        and presented.value == signed.offer.amount
        and presented.valid_after == signed.valid_after
        and presented.valid_before == signed.valid_before
        and presented.signature == signed.signature
    )


def _dead_since() -> datetime:
    """A settling row untouched since before this belongs to a process that has died."""
    return clock.now() - timedelta(seconds=2 * x402.settlement_timeout + 30)


def _new_row(signed: SignedPayment, quote: Quote, facts: RequestFacts) -> Payment:
    offer = signed.offer
    now = clock.now()
    return Payment(
        state=State.CLAIMED,
        state_changed_at=now,
        created_at=now,
        scheme=offer.scheme,
        network=offer.network,
        asset=offer.asset,
        payer=signed.payer,
        nonce=signed.nonce,
        pay_to=offer.pay_to,
        amount=offer.amount,
        asset_symbol=offer.symbol,
        asset_decimals=offer.decimals,
        valid_before=signed.valid_before,
        price_usd=quote.price_usd,
        x402_version=signed.version,
        flow=quote.flow,
        facilitator=offer.facilitator,
        requirements=offer.as_v2(),
        payload=signed.payload_dict(),
        method_id=offer.method_id,
        rule_id=quote.rule_id,
        rule_name=quote.rule_name,
        request_fingerprint=facts.fingerprint,
        request_method=facts.method[:16],
        resource_url=facts.resource_url,
        description=str(quote.description)[:500],
    )


def _serve_from_earlier(payment: Payment) -> Claim:
    """The payer is owed this very request: honour the earlier payment, let the new one go.

    The new authorization is recorded as released, with a pointer to the payment that served it;
    it was not charged and may be presented again for something else.
    """
    earlier = (
        Payment.objects.owed_for(
            payment.payer, payment.request_fingerprint, settling_before=_dead_since()
        )
        .order_by("pk")
        .first()
    )
    if earlier is None:  # paid or delivered since we looked: the new payment may go ahead
        raise InvalidTransition("The earlier payment for this request has just been completed.")
    _record_as_served(payment, earlier)
    return entitlement_of(earlier)


def _record_as_served(payment: Payment, earlier: Payment) -> None:
    payment.superseded_by = earlier
    payment.state = State.RELEASED
    event = PaymentEvent(
        payment=payment,
        at=payment.created_at,
        from_state=State.CLAIMED,
        to_state=State.RELEASED,
        code="served_from_earlier",
        reason=f"An earlier payment {earlier.public_id} covers this request.",
        actor="request",
    )
    try:
        with transaction.atomic(using=router.db_for_write(Payment), durable=True):
            payment.save(force_insert=True)
            PaymentEvent.objects.bulk_create([event])
    except IntegrityError:
        # A copy of this very payment came at the same time; it has recorded the same.
        logger.info("Payment by %s was presented twice at once.", payment.payer)


def _claim_again(existing: Payment, presented: Payment, signed: SignedPayment) -> Claim:
    """Take a released or rejected row for this request, under the terms of this request."""
    earlier = Payment.objects.owed_for(
        presented.payer, presented.request_fingerprint, settling_before=_dead_since()
    ).first()
    if earlier is not None:
        authenticate(signed)
        return entitlement_of(earlier)
    fields: dict[str, Any] = {name: getattr(presented, name) for name in _TERMS}
    if existing.state == State.REJECTED or not _is_repeated(existing, presented):
        # What happens on chain counts as paid here only from now on: otherwise a payment could be
        # announced here, spent elsewhere, and then be honoured here as well.
        fields["created_at"] = presented.created_at
    try:
        advance(
            existing,
            Step(State.CLAIMED, "Presented again."),
            actor="request",
            new_attempt=True,
            failure_code="",
            superseded_by=None,
            **fields,
        )
    except InvalidTransition:
        return Claim(Entitlement.WAIT, existing)
    return Claim(Entitlement.VERIFY, existing)


def _is_repeated(existing: Payment, presented: Payment) -> bool:
    """Whether the very same payload comes again for the very same request."""
    return (
        existing.payload == presented.payload
        and existing.request_fingerprint == presented.request_fingerprint
    )


#: Columns that a new claim of a released row takes from the new request and its offer.
_TERMS = (
    "pay_to",
    "amount",
    "asset_symbol",
    "asset_decimals",
    "valid_before",
    "price_usd",
    "x402_version",
    "flow",
    "facilitator",
    "requirements",
    "payload",
    "method_id",
    "rule_id",
    "rule_name",
    "request_fingerprint",
    "request_method",
    "resource_url",
    "description",
)


def entitlement_of(payment: Payment) -> Claim:
    """What the owner of ``payment`` may have, presenting it once more on the same request."""
    if payment.state in (State.CLAIMED, State.VERIFIED):
        return Claim(Entitlement.WAIT, payment)
    if payment.state == State.SETTLING:
        unknown = payment.outcome_unknown_at is not None
        dead = payment.state_changed_at < _dead_since()
        return Claim(Entitlement.RESOLVE if unknown or dead else Entitlement.WAIT, payment)
    if payment.state == State.REVERSED:
        return Claim(Entitlement.RESOLVE, payment)
    if payment.is_paid:
        return _entitlement_of_paid(payment)
    raise PaymentRefused(
        "This payment can no longer be used. Sign a new one.",
        code=payment.failure_code or Code.ALREADY_USED,
    )


def _entitlement_of_paid(payment: Payment) -> Claim:
    kept_until = payment.response_expires_at
    if kept_until is not None and kept_until >= clock.now():
        return Claim(Entitlement.REPLAY, payment)
    if payment.delivered_at is not None:
        raise PaymentRefused(
            "What this payment bought was delivered. Pay again for another copy.",
            code=Code.ALREADY_USED,
        )
    return take_delivery(payment)


def take_delivery(payment: Payment) -> Claim:
    """Become the one worker that runs the view for a paid, undelivered payment."""
    started = payment.delivery_started_at
    if started is not None and started > clock.now() - timedelta(seconds=x402.claim_timeout):
        return Claim(Entitlement.WAIT, payment)
    if take_over(payment, delivery_started_at=clock.now()):
        return Claim(Entitlement.DELIVER, payment)
    return Claim(Entitlement.WAIT, payment)
