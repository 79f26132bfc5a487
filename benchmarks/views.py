"""One small view: free, sold, and with nothing but the facilitator's work in it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse

from benchmarks.payments import sample_payment
from x402_django.facilitators.base import get_facilitator
from x402_django.http.decorators import payment_required

WEATHER = {"city": "Lisbon", "weather": "sunny", "temperature": 21}
PRICE = "$0.01"
DESCRIPTION = "Today's weather"
MIME_TYPE = "application/json"


def weather(request: HttpRequest) -> HttpResponse:
    return JsonResponse(WEATHER)


paid_weather = payment_required(PRICE, description=DESCRIPTION, mime_type=MIME_TYPE)(weather)

deferred_weather = payment_required(PRICE, mime_type=MIME_TYPE, flow="deferred")(weather)


def facilitated_weather(request: HttpRequest) -> HttpResponse:
    """What a paid request cannot do without: the view and the facilitator's two calls."""
    facilitator = get_facilitator("default")
    signed = sample_payment()
    facilitator.verify(signed)
    response = weather(request)
    facilitator.settle(signed, None)  # type: ignore[arg-type]  # it does not look at the row
    return response
