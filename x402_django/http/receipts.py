"""Receipts for whoever holds their unguessable reference (page, PDF, JSON); and the payer's list.

The page is also where a copy is verified: it says what was issued, how the payment stands today,
and whether the digest on a copy (``?digest=…``) is that of what was issued.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.http import Http404, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import SIGN_IN_HEADER, SIGN_IN_WITH_X, Code
from x402_django.exceptions import (
    ConfigurationError,
    MalformedPayment,
    PaymentRefused,
    ServiceUnavailable,
)
from x402_django.extensions.sign_in_with_x import prove_wallet
from x402_django.http.pages import page_response, prefers_page
from x402_django.http.resource import resource_url
from x402_django.http.responses import json_response
from x402_django.http.state import never_for_sale
from x402_django.models import Receipt
from x402_django.pricing.money import format_amount
from x402_django.protocol.networks import is_evm
from x402_django.protocol.sign_in import SignInChallenge
from x402_django.receipts.document import document_of, find_receipt, receipt_url, state_of
from x402_django.receipts.pdf import as_pdf, rows
from x402_django.receipts.signing import digest_of, signature_or_none

if TYPE_CHECKING:
    from django.http import HttpRequest

TEMPLATE = "x402_django/receipt.html"
_STATEMENT: Final = "Sign in to see your receipts. This costs nothing."
_LIFETIME: Final = 300
#: Receipts on a page of the payer's list.
_PAGE: Final = 50


@never_for_sale
@never_cache
@require_safe
def receipt(request: HttpRequest, reference: str) -> HttpResponse:
    """What was issued, and how it stands today."""
    row = find_receipt(reference)
    if row is None:
        raise Http404("No such receipt.")
    document, state = document_of(row), state_of(row)
    digest, claimed = digest_of(document), request.GET.get("digest", "")
    matches = constant_time_compare(digest, claimed.strip().lower()) if claimed else None
    signature = signature_or_none(document)
    facts: dict[str, Any] = {
        "receipt": document.facts(),
        "state": state,
        "digest": digest,
        "matches": matches,
        "signature": signature,
        "keys": _address("x402:keys"),
    }
    if not prefers_page(request):
        return json_response(facts, status=200)
    context = {
        **facts,
        "document": document,
        "rows": rows(document),
        "pdf_url": reverse("x402:receipt-pdf", kwargs={"reference": reference}),
        "verify_url": _verification(receipt_url(row), digest),
        "note_lines": document.seller_note.splitlines(),
        "address_lines": document.seller_address.splitlines(),
    }
    return page_response(request, TEMPLATE, context)


@never_for_sale
@never_cache
@require_safe
def receipt_pdf(request: HttpRequest, reference: str) -> HttpResponse:
    """The same, to be filed."""
    row = find_receipt(reference)
    if row is None:
        raise Http404("No such receipt.")
    document = document_of(row)
    try:
        content = as_pdf(document, _verification(receipt_url(row), digest_of(document)))
    except ConfigurationError as error:
        facts = {"error": "pdf_unavailable", "message": str(error)}
        return json_response(facts, status=501)
    response = HttpResponse(content, content_type="application/pdf")
    name = f"receipt-{document.number}.pdf"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


@never_for_sale
@never_cache
@require_safe
def my_receipts(request: HttpRequest) -> HttpResponse:
    """The receipts of the wallet that signs in: 401 with a challenge, then the list, as JSON.

    ``?before=<reference>`` asks for those before that one.
    """
    url = resource_url(request)
    networks = tuple(name for name in x402.networks if is_evm(name))
    header = request.headers.get(SIGN_IN_HEADER)
    if header is None:
        return _challenge(url, networks)
    try:
        holder = prove_wallet(header, url, networks, is_known=_has_receipts)
    except MalformedPayment as error:
        return json_response({"error": error.code, "message": str(error)}, status=400)
    except PaymentRefused as error:
        return _challenge(url, networks, error)
    except ServiceUnavailable as error:
        return json_response({"error": error.code, "message": str(error)}, status=503)
    mine = Receipt.objects.filter(payer=holder.payer).order_by("-pk")
    if holder.network is not None:
        mine = mine.filter(network=holder.network)
    before = request.GET.get("before")
    if before:
        last = mine.filter(reference=before).values_list("pk", flat=True).first()
        mine = mine.filter(pk__lt=last or 0)
    found = list(mine[: _PAGE + 1])
    more = found[_PAGE - 1].reference if len(found) > _PAGE else None
    return json_response(
        {"receipts": [_line(one) for one in found[:_PAGE]], "before": more}, status=200
    )


def _line(row: Receipt) -> dict[str, Any]:
    return {
        "reference": row.reference,
        "issued_at": row.issued_at.isoformat(),
        "amount": str(row.amount),
        "text": format_amount(row.amount, row.asset_decimals, row.asset_symbol),
        "network": row.network,
        "asset": row.asset,
        "transaction": row.transaction,
        "description": row.description,
        "resource": row.resource_url,
        "url": receipt_url(row),
    }


def _challenge(
    url: str, networks: tuple[str, ...], error: PaymentRefused | None = None
) -> HttpResponse:
    challenge = SignInChallenge.issue(
        url, statement=_STATEMENT, now=clock.timestamp(), lifetime=_LIFETIME
    )
    facts = {
        "error": Code.SIGN_IN_REQUIRED if error is None else error.code,
        "message": "Sign in with the wallet that paid." if error is None else str(error),
        "extensions": {SIGN_IN_WITH_X: challenge.declaration(networks)},
    }
    return json_response(facts, status=401)


def _has_receipts(payer: str, network: str) -> bool:
    return Receipt.objects.filter(payer=payer, network=network).exists()


def _verification(url: str, digest: str) -> str:
    return f"{url}?digest={digest}" if url else ""


def _address(name: str) -> str | None:
    try:
        return f"{x402.base_url or ''}{reverse(name)}"
    except NoReverseMatch:
        return None
