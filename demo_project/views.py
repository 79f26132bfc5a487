"""What the shop sells, in plain Django views. ``api`` has the one written with DRF."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse

from demo_project import content, model
from demo_project.catalogue import shelves
from x402_django.conf import x402
from x402_django.http.decorators import payment_required
from x402_django.protocol.assets import default_asset

#: How long the vault stays open to who has paid; long enough for the agent to come back once.
VAULT_SECONDS = 30


def index(request: HttpRequest) -> HttpResponse:
    """The shop window: everything, with the prices that are in force now."""
    network = next(iter(x402.networks))
    context = {
        "shelves": shelves(request),
        "network": network,
        "asset": default_asset(network),
        "weather_url": request.build_absolute_uri(reverse("weather")),
    }
    return render(request, "demo/index.html", context)


def free(request: HttpRequest) -> JsonResponse:
    """Free: the gate lets it through without a look at the database."""
    return JsonResponse({"message": "This one is free. The others cost a cent or two."})


@payment_required("$0.01", description="Today's weather", mime_type="application/json")
def weather(request: HttpRequest) -> JsonResponse:
    """A function view, sold by its decorator."""
    today = datetime.now(UTC).date()
    return JsonResponse(
        {
            "date": today.isoformat(),
            "weather": content.weather_on(today),
            "paid_by": request.payment.payer,  # type: ignore[attr-defined]
        }
    )


@payment_required("$0.01", description="A quotation", mime_type="application/json")
async def quote(request: HttpRequest) -> JsonResponse:
    """An async view: it waits without holding a thread."""
    await asyncio.sleep(0.01)
    return JsonResponse(secrets.choice(content.QUOTATIONS))


@payment_required(
    "$0.05", unit_price="$0.0001", description="A language model", mime_type="application/json"
)
def llm(request: HttpRequest) -> JsonResponse:
    """Metered: the buyer authorizes five cents and pays for the tokens that were used."""
    payment = request.payment  # type: ignore[attr-defined]
    prompt = request.GET.get("prompt", "")[:1000]
    completion = model.complete(prompt, most_tokens=payment.maximum_units)
    payment.charge_units(completion.tokens)
    return JsonResponse(
        {
            "completion": completion.text,
            "usage": {
                "prompt_tokens": completion.prompt_tokens,
                "completion_tokens": completion.answer_tokens,
            },
        }
    )


@payment_required(
    "$0.02",
    description="A look into the vault",
    mime_type="application/json",
    session_access=VAULT_SECONDS,
)
def vault(request: HttpRequest) -> JsonResponse:
    """Paid once: for a while the wallet that paid comes back by signing in with it."""
    return JsonResponse({"secret": content.SECRET, "paid_by": request.payment.payer})  # type: ignore[attr-defined]


def article(request: HttpRequest, slug: str) -> HttpResponse:
    """Knows nothing of payments: a price rule in the admin sells it by its URL name."""
    try:
        text = content.ARTICLES[slug]
    except KeyError:
        raise Http404("No such article.") from None
    return render(request, "demo/article.html", {"article": text})


def day_pass(request: HttpRequest) -> JsonResponse:
    """Sold by a price rule, and opens all articles for a day."""
    articles = [reverse("article", kwargs={"slug": slug}) for slug in content.ARTICLES]
    return JsonResponse({"opens": articles})


def credits(request: HttpRequest) -> JsonResponse:
    """Sold by a price rule; what it brings is spent on forecasts."""
    return JsonResponse({"spend_on": reverse("forecast")})


@payment_required("$0.01", description="A view that always fails")
def broken(request: HttpRequest) -> HttpResponse:
    """Fails after the payment was verified: the buyer sees an error 500 and is not charged."""
    raise RuntimeError("This view is broken on purpose, to show that nobody pays for it.")
