"""Two paid views that count their runs for all processes, and a look into the ledger."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse

from x402_django.http.decorators import payment_required
from x402_django.models import ChainTransaction, Payment, Receipt

RUNS = Path(os.environ["SITE_RUNS_FILE"])


def count_run(request: HttpRequest) -> dict[str, object]:
    """Append a line, which is atomic, and say which number it has."""
    payer = request.payment.payer  # type: ignore[attr-defined]
    with RUNS.open("a") as runs:
        runs.write(f"{request.path} {payer}\n")
    return {"path": request.path, "payer": payer, "body": request.body.decode()}


@payment_required("$0.01", description="A counted answer", mime_type="application/json")
def counted(request: HttpRequest) -> HttpResponse:
    """Slow enough for copies of a payment to arrive while it runs."""
    answer = count_run(request)
    time.sleep(float(request.GET.get("seconds", "0")))
    return JsonResponse(answer)


@payment_required("$0.01", session_access=3600)
def kept(request: HttpRequest) -> HttpResponse:
    """Whoever has paid may come back for an hour."""
    return JsonResponse(count_run(request))


@transaction.non_atomic_requests  # Django runs no async view in a transaction
@payment_required("$0.02")
async def counted_async(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    return JsonResponse(count_run(request))


def _by_rule(key: str) -> Callable[[HttpRequest], HttpResponse]:
    """Charges ``units`` of the query at the rule's price of one, if it says so."""

    @payment_required(rule=key)
    def view(request: HttpRequest) -> HttpResponse:
        if "units" in request.GET:
            request.payment.charge_units(int(request.GET["units"]))  # type: ignore[attr-defined]
        return JsonResponse(count_run(request))

    return view


#: By the key of the rule, which is the path as well.
BY_RULE = {
    key: _by_rule(key) for key in ("permit2", "permit2-erc20", "upto", "upto-erc20", "channel")
}


def ledger(request: HttpRequest) -> HttpResponse:
    """What the site has written about one payer's payments, for the tests to compare."""
    payer = request.GET["payer"]
    payments = Payment.objects.filter(payer=payer).order_by("pk")
    sent = ChainTransaction.objects.filter(payments__payer=payer)
    return JsonResponse(
        {
            "payments": [
                {
                    "state": payment.state,
                    "amount": payment.amount,
                    "transaction": payment.transaction,
                    "version": payment.x402_version,
                    "delivered": payment.delivered_at is not None,
                }
                for payment in payments
            ],
            "receipts": list(
                Receipt.objects.filter(payer=payer).values("amount", "pay_to", "transaction")
            ),
            "sent": list(sent.values_list("hash", flat=True)),
        }
    )
