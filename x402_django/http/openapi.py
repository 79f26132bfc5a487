"""Paid operations in OpenAPI, for clients that learn a site by its schema.

``describe_payment`` is what any schema of a paid operation needs, drf-spectacular's among them
(``rest_framework.schema``). ``document`` is a schema of everything that the site sells, for sites
that have none of their own.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

from x402_django.constants import (
    PAYMENT_REQUIRED_HEADER,
    PAYMENT_RESPONSE_HEADER,
    PAYMENT_SIGNATURE_HEADER,
    V1_PAYMENT_HEADER,
)
from x402_django.extensions.bazaar import BODY_METHODS, view_options
from x402_django.http.catalogue import paid_resources
from x402_django.pricing.money import format_amount
from x402_django.protocol.challenge import Challenge

if TYPE_CHECKING:
    from x402_django.http.catalogue import PaidResource, Terms

_STRING: Final[dict[str, Any]] = {"type": "string"}
#: What Django's path converters take.
_OF_CONVERTERS: Final[dict[str, dict[str, Any]]] = {
    "str": {"type": "string", "minLength": 1},
    "int": {"type": "integer", "minimum": 0},
    "slug": {"type": "string", "pattern": "^[-a-zA-Z0-9_]+$"},
    "uuid": {"type": "string", "format": "uuid"},
}

#: The body of a 402 (x402 v1, "Payment Required Response"), with a sentence for people.
CHALLENGE: Final[dict[str, Any]] = {
    "type": "object",
    "description": "What the request costs, for clients of x402 v1.",
    "required": ["x402Version", "error", "accepts"],
    "properties": {
        "x402Version": {"type": "integer", "example": 1},
        "error": {"type": "string", "example": "payment_required"},
        "message": _STRING,
        "accepts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["scheme", "network", "maxAmountRequired", "payTo", "asset"],
                "properties": {
                    "scheme": {"type": "string", "example": "exact"},
                    "network": {"type": "string", "example": "base"},
                    "maxAmountRequired": {
                        "type": "string",
                        "description": "In the smallest unit of the token.",
                        "example": "20000",
                    },
                    "resource": {"type": "string", "format": "uri"},
                    "description": _STRING,
                    "mimeType": _STRING,
                    "payTo": _STRING,
                    "maxTimeoutSeconds": {"type": "integer", "example": 300},
                    "asset": _STRING,
                    "extra": {"type": "object", "additionalProperties": {}},
                },
            },
        },
    },
}

COMPONENT: Final = "X402PaymentRequired"

#: The body of every other answer of the gate.
ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error", "message"],
    "properties": {
        "error": {"type": "string", "description": "A stable code."},
        "message": {"type": "string", "description": "A sentence for a person."},
    },
}
ERROR_COMPONENT: Final = "X402Error"
_RETRY_AFTER: Final = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}

#: What else the gate may answer, by status: the name of the component, and its description. In
#: words that hold of a view's own answers, too.
_REFUSALS: Final[dict[str, tuple[str, str]]] = {
    "400": ("X402Malformed", "A payment header that cannot be read. Nobody was charged."),
    "409": ("X402Conflict", "This payment is being processed: repeat the request later."),
    "429": ("X402TooMany", "Too many payments are being processed: repeat the request later."),
    "503": (
        "X402Unavailable",
        "Something is out of reach, or the outcome of a settlement is not known yet: repeat the "
        "same request later. Never pay again.",
    ),
}


def payment_info(terms: Terms) -> dict[str, Any]:
    """``x-payment-info``: the price as indexers read it, and beside it the offers themselves."""
    info: dict[str, Any] = {"price": _price(terms), "protocols": [{"x402": {}}]}
    if terms.offers:
        info["accepts"] = [offer.as_v2() for offer in terms.offers]
    return info


def describe_payment(
    operation: dict[str, Any],
    challenge: dict[str, Any],
    terms: Terms | None = None,
    resource_url: str = "",
) -> None:
    """Add to an operation what it does not say itself about being paid.

    Args:
        operation: an OpenAPI operation; edited.
        challenge: the schema of a 402's body, or a reference to it.
        terms: what it costs; None where that is not known.
        resource_url: where it is, for the example.
    """
    responses: dict[str, Any] = operation.setdefault("responses", {})
    responses.setdefault("402", _payment_required(challenge, terms, resource_url))
    for status, response in responses.items():
        if status.startswith("2"):
            response.setdefault("headers", {})[PAYMENT_RESPONSE_HEADER] = {
                "description": "The settlement of the payment, if there was one: base64 of JSON.",
                "schema": _STRING,
            }
    operation.setdefault("parameters", []).extend(
        {"in": "header", "name": name, "description": text, "schema": _STRING}
        for name, text in (
            (
                PAYMENT_SIGNATURE_HEADER,
                "A signed payment (x402 v2), the answer to a 402: base64 of JSON.",
            ),
            (V1_PAYMENT_HEADER, "The same of x402 v1."),
        )
    )
    if terms is not None:
        operation.setdefault("x-payment-info", payment_info(terms))


def document(origin: str, title: str) -> dict[str, Any]:
    """The OpenAPI document of everything that is for sale at ``origin``."""
    paths: dict[str, dict[str, Any]] = {}
    for resource in paid_resources():
        operation = _operation(resource)
        url = origin + resource.route.template
        describe_payment(
            operation, {"$ref": f"#/components/schemas/{COMPONENT}"}, resource.terms, url
        )
        for status, (name, _) in _REFUSALS.items():
            reference = {"$ref": f"#/components/responses/{name}"}
            operation["responses"].setdefault(status, reference)
        operation["responses"]["4XX"] = {"description": "The view's own. Nobody is charged for it."}
        paths.setdefault(resource.route.template, {})[resource.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "servers": [{"url": origin}],
        "paths": paths,
        "components": {
            "schemas": {COMPONENT: deepcopy(CHALLENGE), ERROR_COMPONENT: deepcopy(ERROR)},
            "responses": {
                name: _refusal(status, words) for status, (name, words) in _REFUSALS.items()
            },
        },
    }


def _refusal(status: str, description: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"$ref": f"#/components/schemas/{ERROR_COMPONENT}"}
    if status == "400":  # or the view's own, of whatever form
        schema = {"anyOf": [schema, {}]}
    error = {"schema": schema}
    refusal: dict[str, Any] = {
        "description": description,
        "content": {"application/json": error, "*/*": {"schema": {}}},
    }
    if status != "400":
        refusal["headers"] = deepcopy(_RETRY_AFTER)
    return refusal


def _operation(resource: PaidResource) -> dict[str, Any]:
    options = view_options(resource.terms.extensions)
    operation: dict[str, Any] = {
        "operationId": _operation_id(resource),
        "parameters": [
            {
                "in": "path",
                "name": name,
                "required": True,
                "schema": _OF_CONVERTERS.get(one, _STRING),
            }
            for name, one in resource.route.converters.items()
        ],
        "responses": {"200": {"description": "What was paid for."}},
    }
    if resource.terms.description:
        operation["summary"] = resource.terms.description
    schema, example = options.get("INPUT_SCHEMA") or {}, options.get("INPUT")
    if resource.method in BODY_METHODS:
        if schema or example is not None:
            operation["requestBody"] = {"content": {"application/json": _content(schema, example)}}
    else:
        operation["parameters"] += [
            {
                "in": "query",
                "name": name,
                "required": name in schema.get("required", ()),
                "schema": one,
            }
            for name, one in schema.get("properties", {}).items()
        ]
    if "OUTPUT" in options or "OUTPUT_SCHEMA" in options or resource.terms.mime_type:
        content = _content(options.get("OUTPUT_SCHEMA") or {}, options.get("OUTPUT"))
        kind = resource.terms.mime_type or "application/json"
        operation["responses"]["200"]["content"] = {kind: content}
    return operation


def _content(schema: Any, example: Any) -> dict[str, Any]:
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _operation_id(resource: PaidResource) -> str:
    name = resource.route.name or resource.route.template
    words = "".join(letter if letter.isalnum() else "_" for letter in name).strip("_")
    return f"{resource.method.lower()}_{words}"


def _payment_required(
    challenge: dict[str, Any], terms: Terms | None, resource_url: str
) -> dict[str, Any]:
    header: dict[str, Any] = {
        "description": "What the request costs (x402 v2): base64 of JSON.",
        "schema": _STRING,
    }
    content: dict[str, Any] = {"schema": challenge}
    if terms is not None and terms.offers:
        example = Challenge(resource_url, terms.description, terms.mime_type, terms.offers)
        header["example"] = example.header_value()
        content["example"] = json.loads(example.v1_json())
    return {
        "description": "Payment required.",
        "headers": {PAYMENT_REQUIRED_HEADER: header},
        "content": {"application/json": content},
    }


def _price(terms: Terms) -> dict[str, str]:
    if terms.price_usd is None and terms.offers:  # a price in tokens
        first = terms.offers[0]
        amount = format_amount(first.amount, first.decimals)
        return {"mode": "fixed", "currency": first.symbol, "amount": amount}
    price: dict[str, str] = {"mode": "fixed", "currency": "USD"}
    if terms.price_usd is not None and not terms.is_metered:
        return {**price, "amount": plain_usd(terms.price_usd)}
    least, most = terms.minimum, terms.maximum if terms.price_usd is None else terms.price_usd
    price["mode"] = "dynamic"
    if least is not None:
        price["min"] = plain_usd(least)
    if most is not None:
        price["max"] = plain_usd(most)
    return price


def plain_usd(dollars: Any) -> str:
    """Dollars without a sign or zeros at the end, two decimals at least: ``0.01``."""
    whole, _point, fraction = f"{dollars:f}".partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"
