"""Payments that were accepted earlier, and would not be taken today."""

from __future__ import annotations

from x402_django.constants import Code
from x402_django.exceptions import PaymentRefused
from x402_django.models import Payment
from x402_django.payments.entitlements import Claim, entitlement_of
from x402_django.payments.facts import RequestFacts
from x402_django.payments.pruning import is_pruned
from x402_django.protocol.transfer_methods import method_of
from x402_django.protocol.types import PresentedPayment

State = Payment.State


def claim_known(presented: PresentedPayment, facts: RequestFacts) -> Claim | None:
    """The claim of a payment that was accepted earlier but is not payable now; None if unknown.

    For an authorization that has since expired, or whose price has since changed: what it bought
    is still its payer's. Only the very same payload counts. Raises PaymentRefused as
    ``claims.claim``.
    """
    row = known_payment(presented)
    if row is None:
        return None
    if row.request_fingerprint != facts.fingerprint:
        raise PaymentRefused(
            "This payment was used for another request. Pay this one separately.",
            code=Code.ALREADY_USED,
        )
    return entitlement_of(row)


def known_payment(presented: PresentedPayment) -> Payment | None:
    """The row of a payment that was accepted earlier, whatever for; nothing is taken of it."""
    terms = presented.terms
    rows = (
        Payment.objects.sales()
        .defer("response_body")
        .filter(
            network=presented.network,
            payer=terms.payer,
            nonce=terms.nonce,
            scheme=presented.scheme,
        )
        .exclude(state__in=(State.CLAIMED, State.RELEASED, State.REJECTED))
    )
    return next((row for row in rows if _is_same(presented, row)), None)


def _is_same(presented: PresentedPayment, row: Payment) -> bool:
    return (
        row.scheme == presented.scheme
        and not is_pruned(row.payload)
        and method_of(row.payload) is presented.method
        and presented.method.read(row.payload, row.scheme) == presented.terms
    )
