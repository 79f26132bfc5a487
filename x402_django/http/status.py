"""The status of one payment, for whoever holds its unguessable id: JSON, or a page.

Once paid, the page is the payer's receipt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import Http404, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from x402_django.extensions.registry import acknowledgements
from x402_django.http.pages import page_response, prefers_page
from x402_django.http.responses import json_response
from x402_django.models import Payment
from x402_django.pricing.money import format_amount
from x402_django.protocol.networks import display_name, explorer_transaction_url

if TYPE_CHECKING:
    from django.http import HttpRequest

TEMPLATE = "x402_django/payment_status.html"


@never_cache
@require_safe
def payment_status(request: HttpRequest, public_id: str) -> HttpResponse:
    """What is known of a payment. Shows no payload, no signature and no other payment."""
    payment = (
        Payment.objects.sales()
        .filter(public_id=public_id)
        .only(
            "public_id", "state", "network", "asset", "amount", "asset_symbol", "transaction",
            "delivered_at", "failure_code", "outcome_unknown_at", "created_at", "settled_at",
            "asset_decimals", "pay_to", "price_usd", "description", "resource_url", "payer",
        )
        .first()
    )  # fmt: skip
    if payment is None:
        raise Http404("No such payment.")
    facts = _facts(payment)
    if not prefers_page(request):
        return json_response(facts | _extensions(request, payment), status=200)
    context = {
        "payment": payment,
        "facts": facts,
        "amount": format_amount(payment.amount, payment.asset_decimals, payment.asset_symbol),
        "network": display_name(payment.network),
        "transaction_url": explorer_transaction_url(payment.network, payment.transaction),
    }
    return page_response(request, TEMPLATE, context)


def _extensions(request: HttpRequest, payment: Payment) -> dict[str, Any]:
    """What ``PAYMENT-RESPONSE`` carried, for whom it did not reach: such as a signed receipt."""
    extensions = acknowledgements(payment, request) if payment.is_paid else {}
    return {"extensions": extensions} if extensions else {}


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
        return "done" if payment.delivered_at else "same_payment"
    if payment.state in (state.CLAIMED, state.VERIFIED, state.SETTLING, state.REVERSED):
        return "wait"
    if payment.state == state.RELEASED:
        return "same_payment"
    return "new_payment"
