"""The demo's own schema: it is valid, and whoever knows nothing else can buy by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from drf_spectacular.validation import validate_schema

import demo_project
from x402_django.models import Payment, PriceRule
from x402_django.testing.payer import Payer, decode, encode

pytestmark = [pytest.mark.django_db, pytest.mark.urls("demo_project.urls")]


@pytest.fixture
def document(settings: Any, client: Client) -> dict[str, Any]:
    own = Path(demo_project.__file__).parent / "templates"
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [own]}]
    # The demo's vault opens to who signs in; that has its own tests.
    settings.X402 = {**settings.X402, "EXTENSIONS": {"sign-in-with-x": {}}}
    PriceRule.objects.create(name="articles", price_usd="0.05", url_names=["article"])
    found: dict[str, Any] = client.get("/x402/openapi.json").json()
    return found


def test_it_is_valid_and_has_everything_that_is_sold(document: dict[str, Any]) -> None:
    validate_schema(document)
    sold = {(m, p) for p, operations in document["paths"].items() for m in operations}
    assert {
        ("get", "/weather/"), ("get", "/async/quote/"), ("get", "/api/forecast/"),
        ("post", "/api/forecast/"), ("get", "/llm/"), ("get", "/vault/"),
        ("get", "/articles/{slug}/"), ("get", "/broken/"),
    } == sold  # fmt: skip
    (slug, *_) = document["paths"]["/articles/{slug}/"]["get"]["parameters"]
    assert (slug["name"], slug["schema"]["pattern"]) == ("slug", "^[-a-zA-Z0-9_]+$")
    assert set(document["paths"]["/weather/"]["get"]["responses"]) == {
        "200", "400", "402", "409", "429", "503", "4XX",
    }  # fmt: skip
    assert document["paths"]["/llm/"]["get"]["x-payment-info"]["price"] == {
        "mode": "dynamic", "currency": "USD", "max": "0.05",
    }  # fmt: skip


def test_a_client_that_has_the_schema_alone_can_pay(
    document: dict[str, Any], client: Client
) -> None:
    """It signs an offer from the schema, unasked, and has what it bought in one request."""
    bought = 0
    client.raise_request_exception = False
    for template, operations in document["paths"].items():
        operation = operations.get("get")
        if operation is None or operation["x-payment-info"]["price"]["mode"] != "fixed":
            continue
        header = next(one for one in operation["parameters"] if one["name"] == "PAYMENT-SIGNATURE")
        url = template.replace("{slug}", "what-is-x402")
        payload = Payer().payload(operation["x-payment-info"]["accepts"][0])
        answer = client.get(url, headers={header["name"]: encode(payload)})
        if template == "/broken/":
            assert answer.status_code == 500
            continue
        assert answer.status_code == 200, (url, answer.content)
        (name,) = operation["responses"]["200"]["headers"]
        assert decode(answer[name])["success"] is True
        bought += 1
    assert bought == 5
    assert Payment.objects.filter(state="settled").count() == bought
