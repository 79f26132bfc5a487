"""Views that speak to extensions."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tests.shop.runs import runs
from x402_django.exceptions import PaymentRequired
from x402_django.http.decorators import payment_required
from x402_django.rest_framework.permissions import HasPaid


@payment_required("$0.01")
def plain(request: HttpRequest) -> HttpResponse:
    runs["plain"] += 1
    payment = request.payment  # type: ignore[attr-defined]
    return JsonResponse({"by": payment.public_id, "run": runs["plain"]})


@payment_required("$0.01", extensions={"loyalty": {"PROGRAMME": "silver"}})
def silver(request: HttpRequest) -> HttpResponse:
    return HttpResponse("silver")


@payment_required("$0.01", extensions={"loyalty": False})
def none(request: HttpRequest) -> HttpResponse:
    return HttpResponse("none")


@payment_required("$0.01", extensions={"payment-identifier": {"REQUIRED": True}})
def named(request: HttpRequest) -> HttpResponse:
    runs["named"] += 1
    return HttpResponse("named")


@payment_required("$0.01", flow="upfront")
def flaky(request: HttpRequest) -> HttpResponse:
    """Fails as long as it is told to."""
    runs["flaky"] += 1
    return HttpResponse("done", status=500 if "fail" in request.GET else 200)


@payment_required("$0.01", session_access=3600)
def vault(request: HttpRequest) -> HttpResponse:
    """What may be come back to for an hour."""
    runs["vault"] += 1
    return JsonResponse({"secret": 42, "by": request.payment.payer})  # type: ignore[attr-defined]


@payment_required("$0.01", session_access=3600)
def other_vault(request: HttpRequest) -> HttpResponse:
    runs["other vault"] += 1
    return HttpResponse("other secret")


def asking(request: HttpRequest) -> HttpResponse:
    """Decides inside that it must be paid."""
    if request.payment is None:  # type: ignore[attr-defined]
        raise PaymentRequired("$0.01", session_access=3600)
    runs["asking vault"] += 1
    return HttpResponse("asked secret")


class VaultAPI(APIView):
    permission_classes = [HasPaid]
    price = "$0.01"
    session_access = 3600

    def get(self, request: Request) -> Response:
        runs["api vault"] += 1
        return Response({"by": request.payment.payer})  # type: ignore[attr-defined]


urlpatterns = [
    path("api-vault/", VaultAPI.as_view()),
    path("vault/", vault),
    path("other-vault/", other_vault),
    path("asking-vault/", asking),
    path("plain/", plain, name="plain"),
    path("silver/", silver),
    path("none/", none),
    path("named/", named),
    path("flaky/", flaky),
    path("x402/", include("x402_django.urls")),
]
