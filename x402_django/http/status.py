"""The status of one payment, for whoever holds its unguessable id: JSON, or a page.

Once paid, the page is the payer's receipt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.http import Http404, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from x402_django.constants import Code
from x402_django.extensions.offer_receipt import KEY as OFFER_RECEIPT
from x402_django.extensions.registry import acknowledgements
from x402_django.http.pages import page_response, prefers_page
from x402_django.http.responses import json_response
from x402_django.models import Payment, Refund
from x402_django.pricing.money import format_amount
from x402_django.protocol.assets import is_address, to_checksum_address
from x402_django.protocol.networks import display_name, explorer_transaction_url

if TYPE_CHECKING:
    from django.http import HttpRequest

TEMPLATE = "x402_django/payment_status.html"
#: The columns that ``_facts`` reads.
_FACTS: Final = (
    "public_id", "state", "network", "asset", "amount", "transaction", "delivered_at",
    "failure_code", "refunding_at",
)  # fmt: skip


@never_cache
@require_safe
def payment_status(request: HttpRequest, public_id: str) -> HttpResponse:
    """What is known of a payment. Shows no payload, no signature and no other payment."""
    payment = (
        Payment.objects.sales()
        .filter(public_id=public_id)
        .only(
            *_FACTS,
            *("asset_symbol", "outcome_unknown_at", "created_at", "settled_at"),
            *("asset_decimals", "pay_to", "price_usd", "description", "resource_url", "payer"),
        )
        .first()
    )
    if payment is None:
        raise Http404("No such payment.")
    facts = _facts(payment)
    refunds = [_refund(one) for one in payment.refunds.order_by("pk") if one.is_live]
    if refunds:
        facts["refunds"] = refunds
    if not prefers_page(request):
        return json_response(facts | _signed_receipt(request, payment), status=200)
    context = {
        "payment": payment,
        "facts": facts,
        "refunds": refunds,
        "amount": format_amount(payment.amount, payment.asset_decimals, payment.asset_symbol),
        "network": display_name(payment.network),
        "transaction_url": explorer_transaction_url(payment.network, payment.transaction),
    }
    return page_response(request, TEMPLATE, context)


def _signed_receipt(request: HttpRequest, payment: Payment) -> dict[str, Any]:
    """The signed receipt as ``PAYMENT-RESPONSE`` carried it, for whom that did not reach."""
    receipt = acknowledgements(payment, request).get(OFFER_RECEIPT) if payment.is_paid else None
    return {"extensions": {OFFER_RECEIPT: receipt}} if receipt else {}


@never_cache
@require_safe
def identified_payment(request: HttpRequest, payer: str, identifier: str) -> HttpResponse:
    """What became of a purchase, for the payer who named it and got no answer. JSON alone.

    A payer who chooses identifiers that nobody guesses is the only one who can ask. Whoever does
    guess one learns what the chain shows, and not what was bought: the payment's id, with which
    its receipt is to be had, is left out.
    """
    payment = None
    if is_address(payer):
        rows = Payment.objects.sales().filter(
            payer=to_checksum_address(payer), payment_identifier=identifier
        )
        payment = rows.only(*_FACTS).first()
    if payment is None:
        unknown = {
            "error": Code.PAYMENT_UNKNOWN,
            "message": "No payment with this identifier has been accepted here, or it came to "
            "nothing. The same payment may be sent (again).",
        }
        return json_response(unknown, status=404)
    facts = _facts(payment)
    del facts["payment"]
    return json_response(facts, status=200)


def _refund(refund: Refund) -> dict[str, Any]:
    """What the payer is told: how much comes back, how far it is, and where to look."""
    return {
        "refund": refund.public_id,
        "state": refund.state,
        "amount": str(refund.amount),
        "text": format_amount(refund.amount, refund.asset_decimals, refund.asset_symbol),
        "arrived": refund.state == Refund.State.FINAL,
        "reason": refund.reason,
        "transaction": refund.transaction or None,
    }


def _facts(payment: Payment) -> dict[str, Any]:
    return {
        "payment": payment.public_id,
        "state": payment.state,
        "paid": payment.is_paid,
        "delivered": payment.delivered_at is not None,
        "retry": _advice(payment),
        "network": payment.network,
        "asset": payment.asset,
        "amount": str(payment.amount),
        "transaction": payment.transaction or None,
        "error": payment.failure_code or None,
    }


def _advice(payment: Payment) -> str:
    """What the payer should do next, as one word."""
    state = Payment.State
    if payment.state == state.WAIVED:
        return "done"
    if payment.is_paid:
        if payment.delivered_at or payment.refunding_at:
            return "done"
        return "same_payment"
    if payment.state == state.REFUNDED:
        return "done"
    if payment.state in (state.CLAIMED, state.VERIFIED, state.SETTLING, state.REVERSED):
        return "wait"
    if payment.state == state.RELEASED:
        return "same_payment"
    return "new_payment"
