"""The API's own description, OpenAPI 3.1, from the views themselves."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, JsonResponse
from django.urls import reverse

from x402_django import __version__
from x402_django.rest_framework.api.views import (
    MerchantRows,
    PaymentViewSet,
    PriceRuleViewSet,
    ReceiptViewSet,
    RefundViewSet,
)
from x402_django.rest_framework.json_schema import serializer_schema

#: The name of the list's route, of a row in words, and the view.
RESOURCES: tuple[tuple[str, str, type[MerchantRows]], ...] = (
    ("rule", "price rule", PriceRuleViewSet),
    ("payment", "payment", PaymentViewSet),
    ("receipt", "receipt", ReceiptViewSet),
    ("refund", "refund", RefundViewSet),
)
_ERROR = {"description": "A sentence that says what is wrong, by parameter or under `detail`."}


def schema(request: HttpRequest) -> JsonResponse:
    """``GET …/schema/``: nothing secret is in it, so anybody may read it."""
    return JsonResponse(document(), json_dumps_params={"indent": 2})


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    paths: dict[str, Any] = {}
    for name, words, view in RESOURCES:
        listed = reverse(f"x402-api:{name}-list")
        paths[listed] = {"get": _list(name, words, view)}
        paths[f"{listed}{{{view.lookup_field}}}/"] = {"get": _detail(name, words, view)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "x402-django: the merchant's desk", "version": __version__},
        "paths": paths,
    }


def _list(name: str, words: str, view: type[MerchantRows]) -> dict[str, Any]:
    page = {
        "type": "object",
        "required": ["next", "previous", "results"],
        "properties": {
            "next": {"type": ["string", "null"], "format": "uri"},
            "previous": {"type": ["string", "null"], "format": "uri"},
            "results": {"type": "array", "items": _row(view, "list")},
        },
    }
    parameters = [
        _parameter(filter_name, one.description, dict(one.schema))
        for filter_name, one in view.filters.items()
    ]
    most = view.pagination_class.max_page_size
    parameters += [
        _parameter("limit", "Rows of a page.", {"type": "integer", "minimum": 1, "maximum": most}),
        _parameter("cursor", "From `next` or `previous`.", {"type": "string"}),
    ]
    return {
        "operationId": f"list_{name}s",
        "summary": f"The {words}s, newest first",
        "parameters": parameters,
        "responses": {"200": _answer(page), "400": _ERROR, "401": _ERROR, "403": _ERROR},
    }


def _detail(name: str, words: str, view: type[MerchantRows]) -> dict[str, Any]:
    field = str(view.lookup_field)
    kind = "integer" if field == "pk" else "string"
    parameter = {"name": field, "in": "path", "required": True, "schema": {"type": kind}}
    return {
        "operationId": f"get_{name}",
        "summary": f"A {words}",
        "parameters": [parameter],
        "responses": {
            "200": _answer(_row(view, "retrieve")),
            "401": _ERROR,
            "403": _ERROR,
            "404": _ERROR,
        },
    }


def _row(view: type[MerchantRows], action: str) -> dict[str, Any]:
    serializer = view(action=action).get_serializer_class()()
    described = serializer_schema(serializer, writing=False)
    return {**described, "required": list(described["properties"])}


def _parameter(name: str, description: str, kind: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": kind}


def _answer(kind: dict[str, Any]) -> dict[str, Any]:
    return {"description": "OK", "content": {"application/json": {"schema": kind}}}
