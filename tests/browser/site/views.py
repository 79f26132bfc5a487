"""Pages for people. Each counts its runs, as the views for programs do."""

from __future__ import annotations

import time

from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html

from tests.clients.site.views import count_run
from x402_django.http.decorators import payment_required
from x402_django.http.responses import payment_status_url

PAGE = """<!doctype html><html lang="en"><head><title>{title}</title>
<link rel="icon" href="data:,"><style>h1 {{ color: rgb(1, 2, 3) }}</style></head>
<body><h1>{title}</h1><p>{text}</p><p><a href="{receipt}">Receipt</a></p></body></html>"""


def page(request: HttpRequest, title: str, text: str = "") -> HttpResponse:
    """A page with a style of its own, and a link to the receipt."""
    receipt = payment_status_url(request.payment)  # type: ignore[attr-defined]
    return HttpResponse(format_html(PAGE, title=title, text=text, receipt=receipt))


@payment_required("$0.05", description="How bees find their way home", session_access=3600)
def article(request: HttpRequest) -> HttpResponse:
    count_run(request)
    return page(request, "How bees find their way home", "They dance.")


@payment_required("$0.05", description="Read once")
def once(request: HttpRequest) -> HttpResponse:
    count_run(request)
    return page(request, "Read once", "You have read it.")


@payment_required("$0.05", description="A page that takes its time")
def slow(request: HttpRequest) -> HttpResponse:
    count_run(request)
    time.sleep(float(request.GET.get("seconds", "2")))
    return page(request, "Here at last")


@payment_required("$0.05", description="A page that fails")
def failing(request: HttpRequest) -> HttpResponse:
    count_run(request)
    return HttpResponse("broken", status=500)


@payment_required("$0.05", description="A long read")
def large(request: HttpRequest) -> HttpResponse:
    """Larger than what is stored for replay."""
    count_run(request)
    return page(request, "A long read", "long " * 20_000)


def form(request: HttpRequest) -> HttpResponse:
    """A form whose answer costs money, though only a program can pay for it."""
    return HttpResponse(
        '<!doctype html><title>Form</title><form method="post" action="/order/">'
        "<button>Send</button></form>"
    )
