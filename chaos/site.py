"""Paid views of every flow that write down each of their runs, and one view that is free."""

from __future__ import annotations

import secrets
from decimal import Decimal
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from chaos import faults
from chaos.goods import KINDS
from chaos.models import Run
from x402_django import clock
from x402_django.http.decorators import payment_required


def up(request: HttpRequest) -> HttpResponse:
    """Whether this process serves."""
    return HttpResponse("up")


def by_size(request: HttpRequest) -> Decimal:
    """What the address names, times its size."""
    kind, size, _ = request.path.strip("/").split("/")
    return KINDS[kind].price * int(size)


@payment_required(f"${KINDS['items'].price}", flow=KINDS["items"].flow)
def item(request: HttpRequest, size: int, name: str) -> HttpResponse:
    """Settled after it ran."""
    return _sell(request, name)


@payment_required(by_size, flow=KINDS["reports"].flow)
async def report(request: HttpRequest, size: int, name: str) -> HttpResponse:
    """The same, asynchronous: an ASGI server stops it when its buyer hangs up."""
    return await sync_to_async(_sell)(request, name)


@csrf_exempt
@payment_required(by_size, flow=KINDS["orders"].flow)
def order(request: HttpRequest, size: int, name: str) -> HttpResponse:
    """Settled before it runs."""
    return _sell(request, name)


@payment_required(by_size, flow=KINDS["ticks"].flow)
def tick(request: HttpRequest, size: int, name: str) -> HttpResponse:
    """Settled long after its answer has left, with others."""
    return _sell(request, name)


def _sell(request: Any, name: str) -> HttpResponse:
    payment = request.payment
    Run._default_manager.create(
        payment=payment.public_id,
        attempt=payment.attempt,
        flow=payment.flow,
        is_paid=payment.is_paid,
        at=clock.now(),
    )
    if faults.mishap():
        return HttpResponse("This did not work.", status=500)
    # Another copy every time: whoever gets two different ones has had two runs delivered.
    return JsonResponse({"name": name, "copy": secrets.token_hex(16)})
