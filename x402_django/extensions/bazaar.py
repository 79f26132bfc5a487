"""``bazaar``: what a resource takes and gives, declared for the catalogues of facilitators.

A view says it (``extensions={"bazaar": {…}}``), REST framework's serializers say it by
themselves. Whoever has the declaration knows how to call the resource and what comes back; a
facilitator that settled a payment may list it.

Source: x402 extension "bazaar"; shapes as the official SDK's ``declare_discovery_extension``.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from django.core.checks import CheckMessage, Error
from django.urls import get_script_prefix

from x402_django.extensions.base import Asked, Extension
from x402_django.extensions.examples import example_of
from x402_django.facilitators.base import get_facilitator
from x402_django.protocol.service_metadata import OPTIONS, wrong_service_metadata

if TYPE_CHECKING:
    from django.http import HttpRequest

    from x402_django.payments.facts import RequestFacts

logger = logging.getLogger("x402_django.extensions")

KEY: Final = "bazaar"
QUERY_METHODS: Final = ("GET", "HEAD", "DELETE")
BODY_METHODS: Final = ("POST", "PUT", "PATCH")
BODY_TYPES: Final = ("json", "form-data", "text")
#: Of a declaration, as JSON. It travels in a header, and comes back in another.
DEFAULT_MAX_BYTES: Final = 3000

_PARAMETER: Final = re.compile(r"<(?:[^<>:]+:)?([A-Za-z_]\w*)>")
_TEMPLATE: Final = re.compile(r"/[A-Za-z0-9_/:.\-~%]*")


class Bazaar(Extension):
    """Declares a resource.

    Options, mostly a view's:
        INPUT: an example of the query parameters, or of the body for POST, PUT and PATCH.
        INPUT_SCHEMA: their JSON Schema. Where ``INPUT`` is missing, an example is made from it.
        BODY_TYPE: ``"json"`` (default), ``"form-data"`` or ``"text"``.
        OUTPUT: an example of the answer.
        OUTPUT_SCHEMA: its JSON Schema.
        MAX_BYTES: the longest declaration; a longer one goes without schemas, then without
            examples. 3000 by default.

    Of the site, in the setting alone:
        SERVICE_NAME, TAGS, ICON_URL: who sells; see ``protocol.service_metadata``.
    """

    key = KEY
    option_names = frozenset(
        {"INPUT", "INPUT_SCHEMA", "BODY_TYPE", "OUTPUT", "OUTPUT_SCHEMA", "MAX_BYTES", *OPTIONS}
    )

    def declare(self, asked: Asked) -> str | None:
        """The declaration for this method and route; None for a method that has none."""
        from x402_django.extensions import registry

        options, request = asked.options, asked.request
        method = request.method or "GET"
        if method not in QUERY_METHODS + BODY_METHODS:
            return None
        most = int(options.get("MAX_BYTES", DEFAULT_MAX_BYTES))
        text = ""
        for shorter in _ever_shorter(options):
            text = registry.encode(declaration(method, shorter, route=_route(request)))
            if len(text) <= most:
                break
        else:
            logger.warning("What %s declares is long: %s bytes.", asked.resource_url, len(text))
        return text

    def read(self, sent: object, asked: Asked, facts: RequestFacts) -> RequestFacts:
        """Pass our own declaration on to a facilitator elsewhere, if the client asks for that.

        Never the client's copy: a catalogue must not be told what we did not say (threat 22).
        """
        if not isinstance(sent, Mapping) or not _goes_elsewhere(asked):
            return facts
        declared = self.declare(asked)
        return facts if declared is None else facts.keeping(self.key, json.loads(declared))

    def check(self) -> list[CheckMessage]:
        """E068: an option that is of the wrong kind."""
        wrong = wrong_option(self.options) or wrong_service_metadata(self.options)
        if not wrong:
            return []
        return [Error(wrong, hint="See docs/extensions.md.", id="x402_django.E068")]


def view_options(said: Mapping[str, Mapping[str, Any] | bool]) -> Mapping[str, Any]:
    """What a view says to this extension, of all that it says to extensions."""
    own = said.get(KEY)
    return own if isinstance(own, Mapping) else {}


def declaration(
    method: str, options: Mapping[str, Any], *, route: tuple[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The extension's value: ``info``, its ``schema``, and the route's template if it has one.

    Args:
        method: one of ``QUERY_METHODS`` or ``BODY_METHODS``.
        options: as ``Bazaar`` describes them.
        route: a template such as ``/articles/:slug/``, and the values of its parameters.
    """
    sent, fields = _input(method, options)
    info: dict[str, Any] = {"input": sent}
    described = {
        "type": "object",
        "properties": fields,
        "required": [name for name in sent if name != "queryParams"],
        "additionalProperties": False,
    }
    properties: dict[str, Any] = {"input": described}
    if "OUTPUT" in options or "OUTPUT_SCHEMA" in options:
        info["output"], properties["output"] = _output(options)
    found: dict[str, Any] = {"info": info}
    if route is not None:
        found["routeTemplate"], values = route
        sent["pathParams"] = {name: str(value) for name, value in values.items()}
        fields["pathParams"] = {"type": "object"}
    found["schema"] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": ["input"],
    }
    return found


def wrong_option(options: Mapping[str, Any]) -> str:
    """What is wrong with options, in a sentence; empty if nothing is."""
    for name in ("INPUT_SCHEMA", "OUTPUT_SCHEMA"):
        if not isinstance(options.get(name, {}), Mapping):
            return f"{name} of the extension bazaar must be a JSON Schema: a dict."
    if options.get("BODY_TYPE", "json") not in BODY_TYPES:
        return f"BODY_TYPE of the extension bazaar must be one of {', '.join(BODY_TYPES)}."
    most = options.get("MAX_BYTES", DEFAULT_MAX_BYTES)
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        return "MAX_BYTES of the extension bazaar must be a whole number."
    return ""


def _input(method: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """``info.input``, and the schema of its fields."""
    schema: Mapping[str, Any] = options.get("INPUT_SCHEMA") or {}
    example = options["INPUT"] if "INPUT" in options else example_of(schema)
    has_body = method in BODY_METHODS
    sent: dict[str, Any] = {"type": "http", "method": method}
    fields: dict[str, Any] = {
        "type": {"const": "http"},
        "method": {"enum": list(BODY_METHODS if has_body else QUERY_METHODS)},
    }
    if has_body:
        sent |= {"bodyType": options.get("BODY_TYPE", "json"), "body": example or {}}
        fields |= {"bodyType": {"enum": list(BODY_TYPES)}, "body": schema}
    elif example:
        sent["queryParams"] = example
        fields["queryParams"] = {"type": "object", **schema}
    return sent, fields


def _output(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """``info.output``, and its schema."""
    schema: Mapping[str, Any] = options.get("OUTPUT_SCHEMA") or {}
    example = options["OUTPUT"] if "OUTPUT" in options else example_of(schema)
    described = {
        "type": "object",
        "properties": {"type": {"type": "string"}, "example": schema},
        "required": ["type"],
    }
    return {"type": "json", "example": example}, described


def _ever_shorter(options: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The options, with less and less of what may be left out."""
    left = dict(options)
    for schema, example in (("OUTPUT_SCHEMA", "OUTPUT"), ("INPUT_SCHEMA", "INPUT")):
        if left.get(schema):
            left.setdefault(example, example_of(left[schema]))
    yield left
    for name in ("OUTPUT_SCHEMA", "INPUT_SCHEMA", "OUTPUT", "INPUT"):
        if left.pop(name, None) is not None:
            yield left


def _goes_elsewhere(asked: Asked) -> bool:
    """Whether a facilitator of somebody else's may settle: our own keeps no catalogue."""
    aliases = {offer.facilitator for offer in asked.quote.offers}
    return any(not get_facilitator(alias).spends_gas for alias in aliases)


def _route(request: HttpRequest) -> tuple[str, Mapping[str, Any]] | None:
    """The route's template and its parameters; None where it has none, or is no plain path."""
    match = request.resolver_match
    if match is None or not match.kwargs or not match.route:
        return None
    template = get_script_prefix() + _PARAMETER.sub(r":\1", match.route)
    return (template, match.kwargs) if _TEMPLATE.fullmatch(template) else None
