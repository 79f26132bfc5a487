"""Views under the flow ``deferred``, and views with effects that wait for their money."""

from __future__ import annotations

from threading import Barrier

from django.db import transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import include, path

from tests.shop.runs import runs
from x402_django.exceptions import PaymentRequired
from x402_django.http.decorators import payment_required

#: When set, the view ``together`` waits for as many others.
gathering: list[Barrier] = []
#: What ``on_settled`` callbacks did.
effects: list[str] = []


@payment_required("$0.01", flow="deferred")
def tick(request: HttpRequest) -> HttpResponse:
    runs["tick"] += 1
    response = HttpResponse(f"tick {runs['tick']}")
    response["Link"] = '</next/>; rel="next"'
    return response


@transaction.non_atomic_requests  # all are in it at once, which SQLite's write lock forbids
@payment_required("$0.01", flow="deferred")
def together(request: HttpRequest) -> HttpResponse:
    for barrier in gathering:
        barrier.wait(30)
    return HttpResponse("together")


@payment_required("$0.01", flow="deferred")
def large(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"x" * 100_000)


@payment_required("$0.01", flow="deferred")
def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter([b"one ", b"two"]))


@payment_required("$0.01", flow="deferred")
def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("the view fails")


def _register(request: HttpRequest, name: str) -> None:
    payment = request.payment  # type: ignore[attr-defined]
    payment.on_settled(lambda: effects.append(f"{name} {payment.state}"))


@payment_required("$0.01", flow="deferred")
def deferred_effect(request: HttpRequest) -> HttpResponse:
    _register(request, "deferred")
    return HttpResponse("effect")


@payment_required("$0.01")
def effect(request: HttpRequest) -> HttpResponse:
    _register(request, "first")
    _register(request, "second")
    return HttpResponse("effect", status=int(request.GET.get("status", "200")))


@payment_required("$0.01", flow="upfront")
def upfront_effect(request: HttpRequest) -> HttpResponse:
    runs["upfront_effect"] += 1
    _register(request, f"run {runs['upfront_effect']}")
    if runs["upfront_effect"] == 1:
        raise RuntimeError("the first run fails")
    return HttpResponse("effect")


@payment_required("$0.01")
def large_effect(request: HttpRequest) -> HttpResponse:
    _register(request, "large")
    return HttpResponse(b"x" * 100_000)


@payment_required("$0.01")
def broken_effect(request: HttpRequest) -> HttpResponse:
    def fail() -> None:
        raise RuntimeError("the effect fails")

    request.payment.on_settled(fail)  # type: ignore[attr-defined]
    _register(request, "after")
    return HttpResponse("effect")


def asking_effect(request: HttpRequest) -> HttpResponse:
    if request.payment is None:  # type: ignore[attr-defined]
        raise PaymentRequired("$0.01")
    _register(request, "asked")
    return HttpResponse("effect")


urlpatterns = [
    path("tick/", tick, name="tick"),
    path("together/", together, name="together"),
    path("deferred-large/", large, name="deferred-large"),
    path("deferred-stream/", stream, name="deferred-stream"),
    path("deferred-broken/", broken, name="deferred-broken"),
    path("deferred-effect/", deferred_effect, name="deferred-effect"),
    path("effect/", effect, name="effect"),
    path("upfront-effect/", upfront_effect, name="upfront-effect"),
    path("large-effect/", large_effect, name="large-effect"),
    path("broken-effect/", broken_effect, name="broken-effect"),
    path("asking-effect/", asking_effect, name="asking-effect"),
    path("", include("tests.urls")),
]
