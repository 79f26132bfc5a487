"""Two paid views that write down each of their runs, and one that is free."""

from __future__ import annotations

import secrets
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from chaos import faults
from chaos.models import Run
from x402_django import clock
from x402_django.http.decorators import payment_required


def up(request: HttpRequest) -> HttpResponse:
    """Whether this process serves."""
    return HttpResponse("up")


@payment_required("$0.01")
def item(request: HttpRequest, name: str) -> JsonResponse:
    """Settled after it ran."""
    return _sell(request, name)


@csrf_exempt
@payment_required("$0.02")
def order(request: HttpRequest, name: str) -> JsonResponse:
    """POST: settled before it runs."""
    return _sell(request, name)


def _sell(request: Any, name: str) -> JsonResponse:
    faults.point("view, before it ran")
    Run._default_manager.create(payment=request.payment.public_id, at=clock.now())
    faults.point("view, after it ran")
    # Another copy every time: whoever gets two different ones has had two runs delivered.
    return JsonResponse({"name": name, "copy": secrets.token_hex(16)})
