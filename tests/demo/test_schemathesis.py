"""Schemathesis, which knows the demo by its schema alone, tries what the schema allows.

First without paying, with whatever stands in the payment headers; then as a buyer with a wallet.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

import demo_project
from x402_django.models import Payment, PriceRule
from x402_django.testing.payer import Payer, decode

pytestmark = [pytest.mark.django_db, pytest.mark.urls("demo_project.urls")]

#: What the schema says of answers: their kind, body and headers.
CONFORMANCE = [
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.status_code_conformance,
]
TRIES = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
PAYMENT_HEADERS = {"payment-signature", "x-payment"}
GARBAGE = st.one_of(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["x402Version", "accepted", "payload", "scheme", "resource", "x"]),
                inner,
                max_size=5,
            )
        ),
        max_leaves=8,
    ).map(lambda value: base64.b64encode(json.dumps(value).encode()).decode()),
)


@pytest.fixture
def schema(settings: Any, client: Any) -> Any:
    own = Path(demo_project.__file__).parent / "templates"
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [own]}]
    settings.DEBUG_PROPAGATE_EXCEPTIONS = False
    settings.ALLOWED_HOSTS = ["*"]
    PriceRule.objects.create(name="articles", price_usd="0.05", url_names=["article"])
    document = client.get("/x402/openapi.json").json()
    assert len(document["paths"]) == 7
    found = schemathesis.openapi.from_dict(document)
    found.app = get_wsgi_application()
    # As Django's own test client does: the test's transaction outlives the requests.
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield found
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def operations(schema: Any) -> list[Any]:
    return [one.ok() for one in schema.get_all_operations()]


def test_whoever_does_not_pay_gets_nothing_and_what_is_said(schema: Any) -> None:
    answered: Counter[tuple[str, int]] = Counter()

    for operation in operations(schema):

        @TRIES
        @given(case=operation.as_strategy(), garbage=st.none() | GARBAGE)
        def attempt(case: Any, garbage: str | None) -> None:
            case.headers = {
                k: v for k, v in _plain(case.headers) if k.lower() not in PAYMENT_HEADERS
            }
            if garbage is not None:
                case.headers["PAYMENT-SIGNATURE"] = garbage
            response = case.call(base_url="http://shop.example")
            expected = {402} if garbage is None else {400, 402}
            assert response.status_code in expected, (response.status_code, response.text)
            case.validate_response(response, checks=CONFORMANCE)
            answered[case.operation.path, response.status_code] += 1

        attempt()
    assert {path for path, status in answered if status == 402} == set(schema.raw_schema["paths"])
    assert {status for _, status in answered} == {400, 402}
    assert not Payment.objects.exists()


def test_whoever_pays_gets_what_is_said_and_is_charged_for_nothing_else(schema: Any) -> None:
    sold: Counter[str] = Counter()

    for operation in operations(schema):

        @settings(TRIES, max_examples=8)
        @given(case=operation.as_strategy())
        def attempt(case: Any) -> None:
            case.headers = {
                k: v for k, v in _plain(case.headers) if k.lower() not in PAYMENT_HEADERS
            }
            asked = case.call(base_url="http://shop.example")
            offer = decode(asked.headers["payment-required"][0])["accepts"][0]
            case.headers["PAYMENT-SIGNATURE"] = _signed(offer)
            before = Payment.objects.filter(state="settled").count()
            response = case.call(base_url="http://shop.example")
            charged = Payment.objects.filter(state="settled").count() - before
            if case.operation.path == "/broken/":
                assert (response.status_code, charged) == (500, 0)
                return
            case.validate_response(response, checks=CONFORMANCE)
            if response.status_code < 300:
                assert decode(response.headers["payment-response"][0])["success"] is True
                sold[case.operation.label] += 1
            assert charged == (response.status_code < 300), response.text

        attempt()
    assert set(sold) >= {
        "GET /weather/", "GET /async/quote/", "GET /llm/", "GET /vault/", "GET /api/forecast/",
    }  # fmt: skip


def test_an_answer_that_is_not_as_the_schema_says_is_found(schema: Any, monkeypatch: Any) -> None:
    """The tests above can fail."""
    operation = next(one for one in operations(schema) if one.path == "/weather/")
    case = operation.Case()
    response = case.call(base_url="http://shop.example")
    del response.headers["payment-required"]
    response.content = b'{"x402Version": 1}'
    with pytest.raises(FailureGroup) as caught:
        case.validate_response(response, checks=CONFORMANCE)
    assert "accepts" in str(caught.value.exceptions)


def _plain(headers: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, value in (headers or {}).items() if isinstance(value, str)]


def _signed(offer: dict[str, Any]) -> str:
    from x402_django.testing.payer import encode

    return encode(Payer().payload(offer))
