"""The OpenAPI schema of sold views, by drf-spectacular."""

from __future__ import annotations

import subprocess
import sys

import pytest
from django.urls import path
from rest_framework import serializers
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.viewsets import ViewSet

from tests.rest_framework import views
from x402_django.rest_framework import HasPaid

pytest.importorskip("drf_spectacular", reason="drf-spectacular is not installed")

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.utils import extend_schema

from x402_django.rest_framework.schema import PaymentAutoSchema


class Word(serializers.Serializer):
    word = serializers.CharField()


def described_views() -> tuple[type, type, type, type]:
    """Made late, because ``@extend_schema`` asks the settings for the class it extends."""

    class Words(ViewSet):
        price = "$0.02"

        def get_permissions(self):
            return [HasPaid() if self.action == "create" else AllowAny()]

        @extend_schema(responses={200: Word})
        def list(self, request):
            """All words."""
            return Response([])

        @extend_schema(request=Word, responses={201: Word}, operation_id="buy_word")
        def create(self, request):
            """A new word."""
            return Response({"word": "x"}, status=201)

    class Own(views.People):
        """Describes its 402 itself."""

        @extend_schema(responses={200: Word, 402: Word}, operation_id="own")
        def get(self, request, *args, **kwargs):
            return Response({})

    class Named(views.People):
        permission_classes = [IsAuthenticated & HasPaid]
        schema = PaymentAutoSchema()

    class Unsold(views.People):
        permission_classes = [IsAuthenticated]

    return Words, Own, Named, Unsold


@pytest.fixture
def schema(settings, db):
    settings.REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
    words, own, named, unsold = described_views()
    router = SimpleRouter()
    router.register("words", words, basename="words")
    patterns = [
        path("people/", views.People.as_view()),
        path("own/", own.as_view()),
        path("named/", named.as_view()),
        path("unsold/", unsold.as_view()),
        *router.urls,
    ]
    first, again = (SchemaGenerator(patterns=patterns).get_schema(public=True) for _ in "12")
    render = OpenApiJsonRenderer().render
    assert render(first) == render(again)  # the views are left as they were
    return first


def names(operation) -> list[str]:
    return [p["name"] for p in operation.get("parameters", ()) if p["in"] == "header"]


@pytest.mark.parametrize(
    ("url", "method"), [("/people/", "get"), ("/people/", "post"), ("/named/", "get")]
)
def test_a_sold_operation_says_what_it_asks(schema, url, method):
    operation = schema["paths"][url][method]
    answer = operation["responses"]["402"]

    assert answer["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/X402PaymentRequired"
    }
    assert list(answer["headers"]) == ["PAYMENT-REQUIRED"]
    assert names(operation) == ["PAYMENT-SIGNATURE", "X-PAYMENT"]
    assert operation["x-payment-info"]["price"] == {
        "mode": "fixed", "currency": "USD", "amount": "0.02",
    }  # fmt: skip
    assert operation["x-payment-info"]["protocols"] == [{"x402": {}}]
    assert (
        answer["content"]["application/json"]["example"]["accepts"][0]["maxAmountRequired"]
        == "20000"
    )
    ok = operation["responses"]["200" if method == "get" else "201"]
    assert list(ok["headers"]) == ["PAYMENT-RESPONSE"]
    assert schema["components"]["schemas"]["X402PaymentRequired"]["type"] == "object"


def test_what_extend_schema_says_is_kept(schema):
    create = schema["paths"]["/words/"]["post"]

    assert create["operationId"] == "buy_word"
    assert create["description"] == "A new word."
    assert set(create["responses"]) == {"201", "402"}
    assert names(create) == ["PAYMENT-SIGNATURE", "X-PAYMENT"]


def test_an_operation_that_describes_its_402_keeps_it(schema):
    own = schema["paths"]["/own/"]["get"]

    assert own["responses"]["402"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Word"
    }


@pytest.mark.parametrize(("url", "method"), [("/words/", "get"), ("/unsold/", "get")])
def test_what_is_not_sold_is_left_alone(schema, url, method):
    operation = schema["paths"][url][method]

    assert "402" not in operation["responses"]
    assert names(operation) == []
    assert "headers" not in operation["responses"]["200"]


@pytest.mark.parametrize("app", ["", "drf_spectacular", "drf_spectacular.apps.SpectacularConfig"])
def test_it_registers_itself_where_drf_spectacular_is_installed(app):
    program = f"""
import sys, django
from django.conf import settings
apps = ["django.contrib.contenttypes", "django.contrib.auth", "rest_framework", "x402_django"]
settings.configure(INSTALLED_APPS=apps + ["{app}"][: {bool(app)}])
django.setup()
assert "rest_framework.views" not in sys.modules
from x402_django.rest_framework import HasPaid
assert ("x402_django.rest_framework.schema" in sys.modules) is {bool(app)}
assert ("drf_spectacular.extensions" in sys.modules) is {bool(app)}
for heavy in ("web3", "x402", "celery"):
    assert heavy not in sys.modules, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
