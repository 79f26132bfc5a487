"""A view per flow, and what happens while it runs: between verification and settlement."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from tests.shop.runs import runs
from x402_django.http.decorators import payment_required

#: Called once each by the next view that runs.
meanwhile: list[Callable[[], object]] = []
#: What ``on_settled`` callbacks did: payers, and the states of their payments.
effects: list[tuple[str, str]] = []


def _answer(request: HttpRequest) -> HttpResponse:
    payer = request.payment.payer  # type: ignore[attr-defined]
    runs[payer] += 1
    while meanwhile:
        meanwhile.pop()()
    return HttpResponse(f"for {payer}")


@transaction.non_atomic_requests  # several are in it at once, which SQLite's write lock forbids
@payment_required("$0.01")
def now(request: HttpRequest) -> HttpResponse:
    return _answer(request)


@transaction.non_atomic_requests
@payment_required("$0.01")
def shipped(request: HttpRequest) -> HttpResponse:
    payment = request.payment  # type: ignore[attr-defined]
    payment.on_settled(lambda: effects.append((payment.payer, payment.state)))
    return _answer(request)


@payment_required("$0.01", flow="deferred")
def later(request: HttpRequest) -> HttpResponse:
    return _answer(request)


urlpatterns = [
    path("now/", now, name="now"),
    path("shipped/", shipped, name="shipped"),
    path("later/", later, name="later"),
    path("", include("tests.urls")),
]
