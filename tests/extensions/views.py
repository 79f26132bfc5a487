"""Views that speak to the extension of ``test_registry``."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from x402_django.http.decorators import payment_required


@payment_required("$0.01")
def plain(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"by": request.payment.public_id})  # type: ignore[attr-defined]


@payment_required("$0.01", extensions={"loyalty": {"PROGRAMME": "silver"}})
def silver(request: HttpRequest) -> HttpResponse:
    return HttpResponse("silver")


@payment_required("$0.01", extensions={"loyalty": False})
def none(request: HttpRequest) -> HttpResponse:
    return HttpResponse("none")


urlpatterns = [path("plain/", plain), path("silver/", silver), path("none/", none)]
