"""What a payer's own name for a purchase decides.

An identifier belongs to one payment of its payer at a time; the database's unique constraint
decides who has it. A payer that lost an answer may sign a new authorization and send it under the
same identifier: it is served from the payment that has it, and what it signed anew is let go.

A payment that came to nothing lets go of its identifier as soon as another one asks for it.
"""

from __future__ import annotations

from typing import Final

from x402_django.exceptions import InvalidTransition, PaymentConflict, PaymentRefused
from x402_django.models import Payment
from x402_django.models.querysets import OWING_STATES
from x402_django.payments.entitlements import Claim, entitlement_of, is_response_kept
from x402_django.payments.machine import annotate

State = Payment.State

#: Nothing was charged, and nothing is under way. What failed may still turn out to be settled: it
#: is owed then as any other, but has no identifier any more if another one has asked for it.
_CAME_TO_NOTHING: Final = (State.RELEASED, State.REJECTED, State.FAILED, State.EXPIRED)


def holder_of(payment: Payment) -> Payment | None:
    """The other payment of the same payer that has the identifier of ``payment``, if one has."""
    if payment.payment_identifier is None:
        return None
    return (
        Payment.objects.sales()
        .defer("response_body")
        .filter(payer=payment.payer, payment_identifier=payment.payment_identifier)
        .exclude(pk=payment.pk)
        .first()
    )


def let_go(holder: Payment) -> bool:
    """Take the identifier from a payment that came to nothing. False: it did not.

    Raises InvalidTransition if it is taken up again at this very moment.
    """
    if holder.state not in _CAME_TO_NOTHING:
        return False
    if not annotate(holder, payment_identifier=None):
        raise InvalidTransition(f"Payment {holder.public_id} is no longer {holder.state}.")
    return True


def may_serve(holder: Payment, presented: Payment) -> bool:
    """Whether ``holder`` is an accepted payment, so that ``presented`` is surely not needed."""
    return (
        holder.request_fingerprint == presented.request_fingerprint
        and holder.state in (*OWING_STATES, State.WAIVED)
        and (holder.delivered_at is None or is_response_kept(holder))
    )


def entitlement_by_identifier(holder: Payment, presented: Payment) -> Claim:
    """What ``presented`` gets from the payment that has its identifier.

    The caller has made sure that both are the payer's. Raises PaymentConflict: the identifier was
    used for another request, or what it bought was delivered and is not kept any more.
    """
    if holder.request_fingerprint != presented.request_fingerprint:
        raise PaymentConflict()
    try:
        return entitlement_of(holder)
    except PaymentRefused as refusal:
        raise PaymentConflict(
            "What this payment identifier bought was delivered. To buy another copy, choose a new "
            "identifier."
        ) from refusal
