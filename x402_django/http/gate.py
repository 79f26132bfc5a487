"""The life of a paid request: what happens before the view, and after it.

Both halves run outside the view's transaction, so what the view rolls back stays rolled back and
what the ledger wrote stays written. They are synchronous; the middleware runs them in a thread
for asynchronous sites.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.core.exceptions import RequestDataTooBig
from django.core.handlers.asgi import ASGIRequest
from django.db import Error as DatabaseTrouble
from django.http import RawPostDataException

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import FLOW_DEFERRED, FLOW_UPFRONT, Code
from x402_django.exceptions import (
    ConfigurationError,
    FacilitatorUnavailable,
    InvalidTransition,
    MalformedPayment,
    PaymentConflict,
    PaymentPending,
    PaymentRefused,
    PaymentsInFlight,
    ServiceUnavailable,
    SettlementFailed,
    SettlementUnknown,
    X402Error,
)
from x402_django.extensions import registry
from x402_django.http import access, holding, responses
from x402_django.http.extending import asked_for
from x402_django.http.matching import match_quote, refused_by_view
from x402_django.http.paywall import is_paywall_script
from x402_django.http.quotas import enter_free, enter_free_as, say_what_is_left
from x402_django.http.quoting import with_settlers
from x402_django.http.resource import payment_headers, request_facts
from x402_django.http.transfers import PROOF_NOT_JUDGED, presented_proof
from x402_django.models.entries import FreeEntry
from x402_django.payments.authenticity import refuse_forgery
from x402_django.payments.claims import claim
from x402_django.payments.deferred import defer
from x402_django.payments.delivery import (
    delivered_fields,
    discard,
    handed_over_fields,
    replay,
    return_debt,
    storable,
    stored_fields,
)
from x402_django.payments.discounts import discounted_for
from x402_django.payments.entitlements import (
    Claim,
    Entitlement,
    entitlement_of,
    has_session_access,
)
from x402_django.payments.holdings import Holder
from x402_django.payments.hooks import run_settled_callbacks
from x402_django.payments.known import claim_known
from x402_django.payments.machine import annotate
from x402_django.payments.quotas import TakenFree, give_back_free
from x402_django.payments.recording import release
from x402_django.payments.resolution import resolve
from x402_django.payments.settlement import settle, verify
from x402_django.payments.transfer_claims import claim_transfer
from x402_django.payments.uses import charge, give_back
from x402_django.payments.watching import watch_delivery
from x402_django.protocol.offers import check_validity
from x402_django.protocol.wire import read_payment_header

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from x402_django.http.state import GateState
    from x402_django.models import HoldingUse, Payment
    from x402_django.pricing import Quote
    from x402_django.protocol.proofs import TransferProof
    from x402_django.protocol.types import PresentedPayment, SignedPayment

logger = logging.getLogger("x402_django.http")


def open_gate(request: HttpRequest, state: GateState, quote: Quote) -> HttpResponseBase | None:
    """Answer instead of the view, or return None when the view may run as paid."""
    state.quote = quote
    if quote.is_free:
        let_in_free(request, state, quote)
        return None
    try:
        proof = presented_proof(request, quote)
        if proof is not None:
            return _admit_proof(request, state, quote, proof)
        presented = read_payment_header(payment_headers(request))
        if presented is None:
            return _admit_returning(request, state, quote)
        return _admit(request, state, quote, presented)
    except MalformedPayment as error:
        return responses.error_response(request, 400, error)
    except PaymentConflict as conflict:
        return responses.error_response(request, 409, conflict)
    except PaymentsInFlight as flood:
        return responses.error_response(request, 429, flood)
    except PaymentRefused as refusal:
        state.refusal = refusal
        return _ask(request, state, quote, refusal)
    except (RequestDataTooBig, RawPostDataException):
        # The latter: a form too large to be kept, which was read as a stream.
        too_large = X402Error("The body of a paid request is too large.", code=Code.BODY_TOO_LARGE)
        return responses.error_response(request, 413, too_large)
    except ServiceUnavailable as trouble:
        return responses.error_response(request, 503, trouble)
    except ConfigurationError as error:
        logger.error("Payments are set up wrongly: %s", error)  # for the operator, not the payer
        return responses.error_response(request, 503, ServiceUnavailable())
    except InvalidTransition:
        return responses.in_progress(request, None)
    except DatabaseTrouble:
        logger.exception("The ledger is out of reach; the payment was not accepted.")
        return responses.error_response(request, 503, ServiceUnavailable())


def let_in_free(request: HttpRequest, state: GateState, quote: Quote) -> None:
    """By a rule that says so; a payment that the request brings is not taken."""
    state.free = FreeEntry(reason=quote.rule_name, rule_id=quote.rule_id)
    request.payment = state.free  # type: ignore[attr-defined]
    logger.info("%s %s is free by the rule “%s”.", request.method, request.path, quote.rule_name)


def _ask(
    request: HttpRequest, state: GateState, quote: Quote, refusal: PaymentRefused | None = None
) -> HttpResponseBase:
    """402; at the price of who has shown who it is."""
    if state.payer and quote.discounts is not None:
        with suppress(FacilitatorUnavailable):
            quote = with_settlers(discounted_for(quote, state.payer))
    return responses.payment_required(request, quote, refusal)


def _admit_returning(
    request: HttpRequest, state: GateState, quote: Quote
) -> HttpResponseBase | None:
    """A request without a payment: asked for one, unless its sender has paid for it before.

    By a pass or by credits; else what was paid and not yet fetched comes first; then session
    access; without any, the cookie is worth what presenting the same payment again is.
    """
    entered = holding.enter(request, state, quote) or enter_free(request, state, quote)
    admitted = None if entered else registry.admit(asked_for(request, quote))
    if isinstance(admitted, Holder):
        entered = enter_free_as(request, state, quote, admitted) or holding.enter_as(
            request, state, quote, admitted
        )
        admitted = None
    if entered:
        return None if entered is True else entered
    payment = admitted or access.returning_payment(request)
    if payment is None:
        return _ask(request, state, quote)
    has_access = admitted is not None or has_session_access(payment)
    if not (has_access and payment.delivered_at is not None):
        try:
            claimed = entitlement_of(payment)
        except PaymentRefused:
            return _ask(request, state, quote)
        if not (has_access and claimed.entitlement is Entitlement.WAIT):
            return _admit_claim(request, state, quote, claimed, None)
    state.access = payment
    request.payment = payment  # type: ignore[attr-defined]
    return None


def _admit(
    request: HttpRequest, state: GateState, quote: Quote, presented: PresentedPayment
) -> HttpResponseBase | None:
    facts = registry.read(presented.extensions, asked_for(request, quote), request_facts(request))
    try:
        signed, terms = match_quote(presented, quote, facts.resource_url)
        check_validity(signed, now=clock.timestamp(), minimum=int(x402.settlement_timeout))
    except PaymentRefused:
        # Not payable any more, but perhaps paid already: the price may have changed since, or
        # the authorization's time may be over.
        known = claim_known(presented, facts)
        if known is None:
            raise
        return _admit_claim(request, state, quote, known, None)
    signed = replace(signed, extensions=facts.extensions)
    refuse_forgery(signed)
    refusal = refused_by_view(request, quote, presented)
    if refusal is not None:
        return refusal
    return _admit_claim(request, state, quote, claim(signed, terms, facts), signed)


def _admit_proof(
    request: HttpRequest, state: GateState, quote: Quote, proof: TransferProof
) -> HttpResponseBase | None:
    """A transfer that the payer made itself: paid before the view, like the flow ``upfront``."""
    facts = request_facts(request)
    try:
        return _admit_claim(request, state, quote, claim_transfer(proof, quote, facts), None)
    except PaymentPending as pending:
        return responses.error_response(request, 402, pending, payment=pending.payment)
    except (ServiceUnavailable, ConfigurationError, DatabaseTrouble) as trouble:
        # Their own words, "you were not charged", would be wrong: this money has moved already.
        is_database = isinstance(trouble, DatabaseTrouble)
        logger.warning("A transfer proof cannot be judged now: %s", trouble, exc_info=is_database)
        return responses.error_response(request, 503, PROOF_NOT_JUDGED)


def _admit_claim(
    request: HttpRequest,
    state: GateState,
    quote: Quote,
    claimed: Claim,
    signed: SignedPayment | None,
) -> HttpResponseBase | None:
    payment = claimed.payment
    try:
        if claimed.entitlement is Entitlement.RESOLVE:
            claimed = _resolved(payment)
        elif claimed.entitlement is Entitlement.VERIFY and signed is not None:
            _accept(claimed, signed)
    except SettlementFailed as failure:
        return responses.settlement_failed(request, quote, payment, failure)
    except SettlementUnknown as doubt:
        return responses.error_response(request, 503, doubt, payment=payment)
    # Whoever presents it again may have read it off the chain: tokens are not for them.
    state.is_new = claimed.entitlement is Entitlement.VERIFY
    if claimed.entitlement is Entitlement.WAIT:
        return responses.in_progress(request, payment)
    if claimed.entitlement is Entitlement.DELIVER and is_paywall_script(request):
        return_debt(payment)  # it is for the browser to fetch, not for its script
        return access.hand_over(request, payment)
    if claimed.entitlement is Entitlement.REPLAY:
        if is_paywall_script(request):
            return access.hand_over(request, payment)
        return responses.paid(request, replay(payment), payment)
    state.payment = payment
    state.signed = signed
    request.payment = payment  # type: ignore[attr-defined]
    return None


def _resolved(payment: Payment) -> Claim:
    """What a payment of unknown outcome entitles to, once its outcome is known."""
    try:
        resolve(payment, actor="request")
    except (ServiceUnavailable, ConfigurationError) as trouble:
        # Those say "you were not charged", which is just what is not known here.
        logger.warning("Payment %s cannot be resolved now: %s", payment.public_id, trouble)
        raise SettlementUnknown() from trouble
    return entitlement_of(payment)


def _accept(claimed: Claim, signed: SignedPayment) -> None:
    """Verify a new claim; settle it too if its flow wants the money first."""
    payment = claimed.payment
    verify(payment, signed)
    if payment.is_paid:  # somebody else submitted the authorization meanwhile
        claimed.entitlement = entitlement_of(payment).entitlement
    elif payment.flow == FLOW_UPFRONT:
        try:
            settle(payment, signed, lambda: {"delivery_started_at": clock.now()})
        except DatabaseTrouble as trouble:
            # Whether the money moved cannot be written down, so it must be taken to have moved.
            logger.exception("The ledger is out of reach while %s settles.", payment.public_id)
            raise SettlementUnknown() from trouble


def close_gate(
    request: HttpRequest, state: GateState, response: HttpResponseBase
) -> HttpResponseBase:
    """Settle what the view earned and make its response the payer's, or let the payer go."""
    payment = state.payment
    if payment is None:
        return _close_for_holder(request, state, response)
    try:
        if response.status_code >= 400 or responses.is_login_redirect(request, response):
            return _close_failed(request, state, response)
        if payment.is_paid:
            first = payment.deliveries == 0
            kept = annotate(payment, **_outcome_fields(request, payment, response))
            earned = kept and first
        elif _defer(payment, response):
            earned = False
        else:
            _settle_response(request, state, response)
            earned = True
    except (SettlementFailed, SettlementUnknown, ServiceUnavailable, InvalidTransition) as error:
        discard(response)
        return _unsettled(request, state, error)
    except DatabaseTrouble:
        # Whether the money moved cannot be written down, so it must be taken to have moved.
        logger.exception("The ledger is out of reach after the view of a paid request.")
        discard(response)
        return responses.error_response(request, 503, SettlementUnknown(), payment=payment)
    if earned:
        run_settled_callbacks(payment)
    if earned and state.is_new and payment.grant is not None:
        state.gives = payment
    if is_paywall_script(request):
        discard(response)
        handed = access.hand_over(request, payment, response)
        if state.gives is not None:
            holding.give_cookie(request, handed, payment)
        return handed
    if state.gives is not None:
        holding.give_token(response, payment)
    if not storable(response):
        is_async = isinstance(request, ASGIRequest)
        response = watch_delivery(payment, response, is_async=is_async)
    return responses.paid(request, response, payment)


def _close_for_holder(
    request: HttpRequest, state: GateState, response: HttpResponseBase
) -> HttpResponseBase:
    """After a view that was let in by what was bought before: charge the use, or give it back."""
    use = state.use
    if state.free is not None:
        return _close_free(request, state, response)
    if state.access is None and use is None:
        return response
    if response.status_code >= 400 or responses.is_login_redirect(request, response):
        abandon(state)
    elif use is not None:
        try:
            charge(use, response)
        except InvalidTransition:
            discard(response)
            return responses.in_progress(request, None)
        except DatabaseTrouble:
            logger.exception("The ledger is out of reach after the view of use %s.", use.public_id)
            discard(response)
            return responses.error_response(request, 503, ServiceUnavailable())
        run_settled_callbacks(use)
        holding.say_what_remains(response, use)
    if state.gives is not None:
        holding.give_token(response, state.gives)
    return responses.private(response, *holding.VARY, *registry.access_headers())


def _close_free(
    request: HttpRequest, state: GateState, response: HttpResponseBase
) -> HttpResponseBase:
    """After a view that ran free of charge; one that failed has used up nothing."""
    if state.quota is not None:
        if response.status_code >= 400 or responses.is_login_redirect(request, response):
            abandon(state)
        else:
            say_what_is_left(response, state.quota.left)
    return responses.private(response, *registry.access_headers())


def _defer(payment: Payment, response: HttpResponseBase) -> bool:
    """Whether the response may leave before its payment is settled; it is then stored."""
    return (
        payment.flow == FLOW_DEFERRED
        and storable(response)
        and defer(payment, delivered_fields(payment, response))
    )


def _outcome_fields(
    request: HttpRequest, payment: Payment, response: HttpResponseBase
) -> dict[str, Any]:
    if is_paywall_script(request):
        return handed_over_fields(payment, response)
    return delivered_fields(payment, response)


def _settle_response(request: HttpRequest, state: GateState, response: HttpResponseBase) -> None:
    payment, signed = state.payment, state.signed
    if payment is None or signed is None:
        raise InvalidTransition("There is no verified payment to settle.")
    try:
        settle(payment, signed, lambda: _outcome_fields(request, payment, response))
    except SettlementUnknown:
        # Keep the answer: once the chain has told, the payer gets it without a second run.
        annotate(payment, **stored_fields(response))
        raise


def _close_failed(
    request: HttpRequest, state: GateState, response: HttpResponseBase
) -> HttpResponseBase:
    """The view said no or broke. Not yet paid: released. Paid already: owed, free on retry."""
    payment = state.payment
    if payment is None:
        return response
    abandon(state, f"The view answered {response.status_code}.")
    if payment.is_paid:
        return responses.paid(request, response, payment)
    return responses.private(response)


def abandon(state: GateState, reason: str = "The view asked for another payment.") -> None:
    """The view did not earn the payment: release it, or leave it owed if it has settled."""
    payment = state.payment
    if payment is None:
        if state.use is not None:
            _give_back(state.use)
        if state.quota is not None:
            _give_back_free(state.quota)
        return
    try:
        if payment.is_paid:
            return_debt(payment)
        else:
            release(payment, reason, code="view_failed")
    except InvalidTransition:
        logger.warning("Payment %s was taken over while its view ran.", payment.public_id)
    except DatabaseTrouble:
        # The claim stays and is released by the maintenance task; the payer is not charged.
        logger.exception("Payment %s could not be released.", payment.public_id)


def _give_back_free(taken: TakenFree) -> None:
    try:
        give_back_free(taken)
    except DatabaseTrouble:  # one free request less, in this period
        logger.exception("A free request could not be given back.")


def _give_back(use: HoldingUse) -> None:
    try:
        give_back(use)
    except DatabaseTrouble:
        # The maintenance task gives it back.
        logger.exception("Use %s could not be given back.", use.public_id)


def _unsettled(request: HttpRequest, state: GateState, error: X402Error) -> HttpResponseBase:
    payment, quote = state.payment, state.quote
    if isinstance(error, SettlementFailed) and payment is not None and quote is not None:
        return responses.settlement_failed(request, quote, payment, error)
    if isinstance(error, InvalidTransition):
        return responses.in_progress(request, payment)
    return responses.error_response(request, 503, error, payment=payment)
