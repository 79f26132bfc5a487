"""Paid views of every kind, as sites write them."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal

from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views import View

from tests.shop.runs import runs
from x402_django.exceptions import PaymentRequired
from x402_django.http.decorators import payment_required
from x402_django.http.views import PaymentRequiredMixin


def free(request: HttpRequest) -> HttpResponse:
    runs["free"] += 1
    return HttpResponse("free")


@payment_required("$0.01", description="Today's weather", mime_type="application/json")
def weather(request: HttpRequest) -> HttpResponse:
    runs["weather"] += 1
    payment = request.payment  # type: ignore[attr-defined]
    return JsonResponse({"weather": "sunny", "payer": payment.payer, "run": runs["weather"]})


@transaction.non_atomic_requests  # Django runs no async view in a transaction
@payment_required("$0.01")
async def async_weather(request: HttpRequest) -> HttpResponse:
    runs["async_weather"] += 1
    await asyncio.sleep(0)
    return JsonResponse({"weather": "windy", "payer": request.payment.payer})  # type: ignore[attr-defined]


@payment_required("$0.10", unit_price="$0.0001")
def metered(request: HttpRequest) -> HttpResponse:
    """Charges what the query says: ``charge`` (dollars), ``atomic`` or ``units``."""
    runs["metered"] += 1
    payment = request.payment  # type: ignore[attr-defined]
    for name, amount in request.GET.items():
        if name == "charge":
            payment.charge(amount)
        elif name == "atomic":
            payment.charge(int(amount))
        elif name == "units":
            payment.charge_units(int(amount))
    return JsonResponse({"due": payment.due, "most": payment.maximum_units})


@payment_required("$0.01")
def broken(request: HttpRequest) -> HttpResponse:
    runs["broken"] += 1
    raise RuntimeError("secret detail of the site")


@payment_required("$0.01")
def missing(request: HttpRequest) -> HttpResponse:
    runs["missing"] += 1
    raise Http404("no such thing")


@payment_required("$0.01", flow="upfront")
def upfront_flaky(request: HttpRequest) -> HttpResponse:
    """Fails on its first run."""
    runs["upfront_flaky"] += 1
    if runs["upfront_flaky"] == 1:
        raise RuntimeError("first run fails")
    return JsonResponse({"run": runs["upfront_flaky"]})


@payment_required("$0.05")
def order(request: HttpRequest) -> HttpResponse:
    runs["order"] += 1
    return JsonResponse({"ordered": request.body.decode(), "run": runs["order"]}, status=201)


@payment_required("$0.01")
def slow(request: HttpRequest) -> HttpResponse:
    runs["slow"] += 1
    time.sleep(0.4)
    return HttpResponse(f"slow run {runs['slow']}")


@payment_required("$0.01")
def large(request: HttpRequest) -> HttpResponse:
    runs["large"] += 1
    return HttpResponse(b"x" * 100_000)


@payment_required("$0.01")
def stream(request: HttpRequest) -> StreamingHttpResponse:
    runs["stream"] += 1
    return StreamingHttpResponse(iter([b"one ", b"two ", b"three"]))


@payment_required(lambda request: Decimal(request.GET.get("cents", "1")) / 100)
def by_size(request: HttpRequest) -> HttpResponse:
    runs["by_size"] += 1
    return HttpResponse("sized")


@payment_required(rule="report")
def report(request: HttpRequest) -> HttpResponse:
    runs["report"] += 1
    return HttpResponse("the report")


def article(request: HttpRequest, slug: str) -> HttpResponse:
    """Knows nothing of payments; a rule on its URL name may sell it."""
    runs["article"] += 1
    return HttpResponse(f"<h1>{slug}</h1>")


def asking(request: HttpRequest) -> HttpResponse:
    runs["asking"] += 1
    if request.payment is None:  # type: ignore[attr-defined]
        raise PaymentRequired("$0.03", description="Asked from inside")
    return HttpResponse("answered")


def careless(request: HttpRequest) -> HttpResponse:
    """Asks again although it was paid."""
    runs["careless"] += 1
    raise PaymentRequired("$0.03")


class Photo(PaymentRequiredMixin, View):
    price = "$0.02"
    price_description = "A photo"

    def get(self, request: HttpRequest) -> HttpResponse:
        runs["photo"] += 1
        return HttpResponse("photo")


class Plan(PaymentRequiredMixin, View):
    def get_price(self, request: HttpRequest) -> str:
        return f"$0.{self.kwargs['cents']:02d}"  # type: ignore[attr-defined]

    def get(self, request: HttpRequest, cents: int) -> HttpResponse:
        runs["plan"] += 1
        return HttpResponse(f"plan {cents}")


def forgetful(view):  # type: ignore[no-untyped-def]
    """A decorator that hides what it decorates (no functools.wraps)."""

    def wrapper(request, *args, **kwargs):  # type: ignore[no-untyped-def]
        return view(request, *args, **kwargs)

    return wrapper


@forgetful
@payment_required("$0.01")
def hidden(request: HttpRequest) -> HttpResponse:
    runs["hidden"] += 1
    return HttpResponse("hidden")


@payment_required("$0.01")
def public_cache(request: HttpRequest) -> HttpResponse:
    response = HttpResponse("cached")
    response["Cache-Control"] = "public, max-age=3600"
    return response
