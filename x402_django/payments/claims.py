"""Who owns an authorization that a client presents.

``claim`` is the first thing that happens to a well-formed payment, before anything is verified
or run: it inserts the ledger row, and the database's unique constraint on (network, verifying
contract, payer, nonce) decides between any number of copies, on any number of machines. What it
returns says what the request is entitled to.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, router, transaction

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import (
    FLOW_AUTHORIZATION,
    FLOW_DEFERRED,
    FLOW_UPFRONT,
    SCHEME_BATCH,
    SCHEME_UPTO,
    Code,
)
from x402_django.exceptions import (
    ConfigurationError,
    InvalidTransition,
    PaymentRefused,
    PaymentsInFlight,
)
from x402_django.facilitators.base import get_facilitator
from x402_django.models import Payment, PaymentEvent
from x402_django.models.in_flight import Bounds
from x402_django.models.querysets import identity
from x402_django.models.statements import durable_statement
from x402_django.payments.authenticity import authenticate
from x402_django.payments.channels import mismatch_of
from x402_django.payments.entitlements import Claim, Entitlement, dead_since, entitlement_of
from x402_django.payments.facts import RequestFacts
from x402_django.payments.identifiers import (
    entitlement_by_identifier,
    holder_of,
    let_go,
    may_serve,
)
from x402_django.payments.machine import Step, advance
from x402_django.pricing import Quote
from x402_django.protocol.types import SignedPayment

logger = logging.getLogger("x402_django.payments")

State = Payment.State


def claim(signed: SignedPayment, quote: Quote, facts: RequestFacts) -> Claim:
    """Claim ``signed`` for the request, durably.

    A new claim is verified afterwards, by the caller. Whatever an *earlier* claim entitles to is
    handed out only to somebody who could sign for the payer: authorizations can be made up, and
    used ones can be read off the chain.

    Raises:
        PaymentConflict: its identifier is another purchase's.
        PaymentsInFlight: too many payments are on their way; this one was not claimed.
        PaymentRefused: the authorization was spent on something else (Code.ALREADY_USED), can no
            longer pay (the code of its failure), or is not the payer's (Code.INVALID_SIGNATURE).
        ServiceUnavailable: whose signature it is could not be found out.
    """
    payment = _new_row(signed, quote, facts)
    if _insert(payment):
        return Claim(Entitlement.VERIFY, payment)
    existing = Payment.objects.defer("response_body").filter(**identity(payment)).first()
    if existing is None:
        authenticate(signed)
        return _claim_beside_others(payment)
    if existing.state in (State.RELEASED, State.REJECTED):
        return _claim_again(existing, payment, signed)
    authenticate(signed, existing)
    if _is_unproven_twin(existing, payment):
        return Claim(Entitlement.WAIT, existing)
    if existing.request_fingerprint != payment.request_fingerprint:
        if signed.channel is not None:  # the client has lost count, or asks twice at once
            raise mismatch_of(payment.network, signed.channel)
        raise PaymentRefused(
            "This payment was used for another request. Pay this one separately.",
            code=Code.ALREADY_USED,
        )
    try:
        return entitlement_of(existing)
    except PaymentRefused as refusal:
        if signed.channel is not None and refusal.code == Code.ALREADY_USED:
            raise mismatch_of(payment.network, signed.channel) from refusal
        raise


def _insert(payment: Payment) -> bool:
    """False: there is such a row, or another payment of the payer's is in the way."""
    try:
        with durable_statement(router.db_for_write(Payment)):
            return Payment.objects.claim(
                payment,
                settling_before=dead_since(),
                failed_since=_failed_since(),
                bounds=_bounds(),
                trailing=_stays_here(payment),
            )
    except IntegrityError:
        if holder_of(payment) is None:
            raise
        return False


def _claim_beside_others(payment: Payment) -> Claim:
    """Another payment of the payer's is in the way: it has the identifier, or is owed."""
    holder = holder_of(payment)
    if holder is None:
        return _serve_from_earlier(payment)
    if let_go(holder):
        if _insert(payment):
            return Claim(Entitlement.VERIFY, payment)
        return _serve_from_earlier(payment)
    if may_serve(holder, payment):
        _record_as_served(payment, holder)
    return entitlement_by_identifier(holder, payment)


def _stays_here(payment: Payment) -> bool:
    """Whether nobody but us sees the authorization before the next write of the payment.

    Then its claim need not wait for the disk. What follows from it is a later commit, and on disk
    only together with it: ``settling`` before money is asked for, a response before it leaves. A
    facilitator that is not ours is shown the authorization in between, and might settle it unasked;
    that the payer is owed then is to be remembered whatever becomes of the database server.
    """
    try:
        return get_facilitator(payment.facilitator).trusted
    except ConfigurationError:  # what is wrong is said where it is asked to verify
        return False


def _is_unproven_twin(existing: Payment, presented: Payment) -> bool:
    """Whether ``existing`` has another payload and was not verified: perhaps made up by a stranger.

    It says nothing about the authorization's owner, who is asked to wait until it is gone.
    """
    return existing.state == State.CLAIMED and existing.payload != presented.payload


def _bounds() -> Bounds:
    return Bounds(per_payer=x402.max_in_flight_per_payer, in_all=x402.max_in_flight)


def _refuse_too_many(payment: Payment) -> None:
    """Raise PaymentsInFlight if another payment would be one too many (threat 8)."""
    if _bounds().are_reached(Payment.objects.all(), payment.payer):
        raise PaymentsInFlight()


def _failed_since() -> datetime:
    """Whose settlement failed after this pays before the view runs (threat 9)."""
    return clock.now() - timedelta(seconds=x402.failed_payer_memory)


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
        verifying_contract=offer.verifying_contract,
        payer=signed.payer,
        nonce=signed.nonce,
        pay_to=offer.pay_to,
        amount=offer.amount,
        asset_symbol=offer.symbol,
        asset_decimals=offer.decimals,
        valid_before=signed.valid_before,
        unit_price_usd=quote.unit_price_usd,
        price_usd=quote.price_of(offer),
        x402_version=signed.version,
        flow=_flow(offer.scheme, quote),
        facilitator=offer.facilitator,
        requirements=offer.as_v2(),
        payload=signed.snapshot(),
        merchant_id=quote.merchant_id,
        method_id=offer.method_id,
        rule_id=quote.rule_id,
        rule_name=quote.rule_name,
        request_fingerprint=facts.fingerprint,
        request_method=facts.method[:16],
        resource_url=facts.resource_url,
        description=str(quote.description)[:500],
        session_access=quote.session_access,
        grant=None if quote.grant is None else quote.grant.as_json(),
        extensions=dict(signed.extensions),
        payment_identifier=facts.identifier,
    )


def _flow(scheme: str, quote: Quote) -> str:
    """When the money moves. What is charged under ``upto`` is known after the view; a voucher is
    good at once, and has nothing to wait for.
    """
    if scheme == SCHEME_UPTO or (scheme == SCHEME_BATCH and quote.flow == FLOW_DEFERRED):
        return FLOW_AUTHORIZATION
    return quote.flow


def _serve_from_earlier(payment: Payment) -> Claim:
    """The payer is owed this very request: honour the earlier payment, let the new one go.

    The new authorization is recorded as released, with a pointer to the payment that served it;
    it was not charged and may be presented again for something else.
    """
    earlier = (
        Payment.objects.owed_for(
            payment.payer, payment.request_fingerprint, settling_before=dead_since()
        )
        .order_by("pk")
        .first()
    )
    if earlier is None:  # paid or delivered since we looked: the new payment may go ahead
        _refuse_too_many(payment)
        raise InvalidTransition("The earlier payment for this request has just been completed.")
    _record_as_served(payment, earlier)
    return entitlement_of(earlier)


def _record_as_served(payment: Payment, earlier: Payment) -> None:
    payment.superseded_by = earlier
    payment.state = State.RELEASED
    payment.payment_identifier = None
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
    presented.pk = existing.pk
    holder = holder_of(presented)
    if holder is not None and not let_go(holder):
        authenticate(signed)
        return entitlement_by_identifier(holder, presented)
    earlier = Payment.objects.owed_for(
        presented.payer, presented.request_fingerprint, settling_before=dead_since()
    ).first()
    if earlier is not None:
        authenticate(signed)
        return entitlement_of(earlier)
    _refuse_too_many(presented)
    fields: dict[str, Any] = {name: getattr(presented, name) for name in _TERMS}
    if Payment.objects.failed_by(presented.payer, since=_failed_since()).exists():
        fields["flow"] = FLOW_UPFRONT
    if presented.payment_identifier is not None:
        fields["payment_identifier"] = presented.payment_identifier
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
    except (InvalidTransition, IntegrityError):  # the latter: its identifier was taken meanwhile
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
    "scheme",
    "asset",
    "pay_to",
    "amount",
    "asset_symbol",
    "asset_decimals",
    "valid_before",
    "price_usd",
    "unit_price_usd",
    "x402_version",
    "flow",
    "facilitator",
    "requirements",
    "payload",
    "merchant_id",
    "method_id",
    "rule_id",
    "rule_name",
    "request_fingerprint",
    "request_method",
    "resource_url",
    "description",
    "session_access",
    "grant",
    "extensions",
)
