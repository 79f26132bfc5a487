"""Views that are awkward to sell."""

from __future__ import annotations

import asyncio
from tempfile import TemporaryFile
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.generic import RedirectView

from tests.shop.runs import runs
from tests.shop.views import forgetful
from x402_django.exceptions import PaymentRequired
from x402_django.http.decorators import payment_required
from x402_django.http.views import PaymentRequiredMixin


class Careless(View):
    """Serves its content to whatever verb comes."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        runs["careless"] += 1
        return HttpResponse("any verb")


class OwnOptions(PaymentRequiredMixin, View):
    price = "$0.01"

    def get(self, request: HttpRequest) -> HttpResponse:
        runs["own_options"] += 1
        return HttpResponse("any verb")

    options = get


@method_decorator(payment_required("$0.01"), name="dispatch")
class Inside(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        runs["inside"] += 1
        return HttpResponse("any verb")

    options = get


@payment_required("$0.01", description='<script>alert("x")</script> & co')
def scripted(request: HttpRequest) -> HttpResponse:
    return HttpResponse("scripted")


@payment_required("$0.01")
def interrupted(request: HttpRequest) -> StreamingHttpResponse:
    runs["interrupted"] += 1

    def chunks():  # type: ignore[no-untyped-def]
        yield b"one "
        if runs["interrupted"] == 1:
            raise OSError("the disk is gone")
        yield b"two"

    return StreamingHttpResponse(chunks())


@payment_required("$0.01")
def file(request: HttpRequest) -> FileResponse:
    runs["file"] += 1
    handle = TemporaryFile()  # noqa: SIM115 - the response closes it
    handle.write(b"y" * 100_000)
    handle.seek(0)
    return FileResponse(handle, filename="y.bin")


@transaction.non_atomic_requests
@payment_required("$0.01")
async def stream_async(request: HttpRequest) -> StreamingHttpResponse:
    runs["stream_async"] += 1

    async def chunks():  # type: ignore[no-untyped-def]
        for chunk in (b"one ", b"two ", b"three"):
            await asyncio.sleep(0)
            yield chunk

    return StreamingHttpResponse(chunks())


@payment_required("$0.01")
def write_then_fail(request: HttpRequest) -> HttpResponse:
    runs["write_then_fail"] += 1
    Group.objects.create(name=f"run {runs['write_then_fail']}")
    raise RuntimeError("after the write")


@payment_required("$0.01", flow="upfront")
def write_then_fail_upfront(request: HttpRequest) -> HttpResponse:
    return write_then_fail.__wrapped__(request)  # type: ignore[attr-defined]


def write_then_ask(request: HttpRequest) -> HttpResponse:
    runs["write_then_ask"] += 1
    Group.objects.create(name=f"run {runs['write_then_ask']}")
    if request.payment is None:  # type: ignore[attr-defined]
        raise PaymentRequired("$0.03")
    return HttpResponse("answered")


@transaction.non_atomic_requests
@payment_required("$0.01")
async def slow_async(request: HttpRequest) -> HttpResponse:
    runs["slow_async"] += 1
    await asyncio.sleep(0.3)
    return HttpResponse(f"slow run {runs['slow_async']}")


@payment_required("$0.01")
def cookies(request: HttpRequest) -> HttpResponse:
    response = HttpResponse("cookies")
    response.set_cookie("session", "secret-session")
    response["X-Custom"] = "kept"
    response["Access-Control-Expose-Headers"] = "X-Custom"
    response["Vary"] = "Cookie"
    return response


def calls_a_paid_view(request: HttpRequest) -> HttpResponse:
    return scripted(request)


urlpatterns = [
    path("redirect/", RedirectView.as_view(url="/secret-target/"), name="redirect"),
    path("any-verb/", Careless.as_view(), name="any-verb"),
    path("own-options/", OwnOptions.as_view(), name="own-options"),
    path("hidden-options/", forgetful(OwnOptions.as_view()), name="hidden-options"),
    path("inside/", Inside.as_view(), name="inside"),
    path("scripted/", scripted, name="scripted"),
    path("interrupted/", interrupted, name="interrupted"),
    path("file/", file, name="file"),
    path("stream-async/", stream_async, name="stream-async"),
    path("write-then-fail/", write_then_fail, name="write-then-fail"),
    path("write-then-fail-upfront/", write_then_fail_upfront, name="write-then-fail-upfront"),
    path("write-then-ask/", write_then_ask, name="write-then-ask"),
    path("slow-async/", slow_async, name="slow-async"),
    path("cookies/", cookies, name="cookies"),
    path("calls/", calls_a_paid_view, name="calls"),
    path("", include("tests.urls")),
]
