"""The shop as an MCP server: an agent's tools, sold by the same rules and the same ledger.

Each tool is one of the shop's pages. A call becomes a request for that page, through the whole of
the site's middleware, so whatever holds for the page holds for the tool: its price, its rule in the
admin, one charge for one answer, none for what failed. Only the envelope is translated (x402 v2,
"Transport: MCP"): the challenge becomes a result that is an error, the payment comes in ``_meta``.

Answers are plain JSON, without a session: the smallest server that the Model Context Protocol
allows over HTTP.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import Any, Final
from urllib.parse import urlencode

from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIRequest
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import NoReverseMatch, reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from x402_django.constants import (
    PAYMENT_REQUIRED_HEADER,
    PAYMENT_RESPONSE_HEADER,
    PAYMENT_SIGNATURE_HEADER,
)

PROTOCOL_VERSION: Final = "2025-06-18"
PAYMENT_META: Final = "x402/payment"
RESPONSE_META: Final = "x402/payment-response"

_INVALID_REQUEST, _METHOD_NOT_FOUND, _INVALID_PARAMS = -32600, -32601, -32602


@dataclass(frozen=True, slots=True)
class Tool:
    """A page of the shop as a tool. ``in_path`` names the arguments that are part of its path."""

    description: str
    route: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    in_path: tuple[str, ...] = ()

    def described(self, name: str) -> dict[str, Any]:
        """As ``tools/list`` has it."""
        schema = {
            "type": "object",
            "properties": dict(self.properties),
            "required": list(self.in_path),
        }
        return {"name": name, "description": self.description, "inputSchema": schema}

    def url(self, arguments: Mapping[str, Any]) -> str:
        """The page that these arguments ask for. Raises NoReverseMatch where there is none."""
        path = reverse(self.route, kwargs={name: arguments.get(name, "") for name in self.in_path})
        query = {name: value for name, value in arguments.items() if name not in self.in_path}
        return f"{path}?{urlencode(query)}" if query else path


TOOLS: Final[Mapping[str, Tool]] = {
    "weather": Tool("Today's weather. Paid per call.", "weather"),
    "complete": Tool(
        "A language model; what was used is charged.", "llm", {"prompt": {"type": "string"}}
    ),
    "article": Tool(
        "An article of the shop, as HTML.", "article", {"slug": {"type": "string"}}, ("slug",)
    ),
}


@csrf_exempt  # programs call it, without cookies
@require_POST
@transaction.non_atomic_requests  # a tool settles its payment in transactions of its own
def serve(request: HttpRequest) -> HttpResponse:
    """One JSON-RPC message; notifications are answered 202."""
    try:
        message = json.loads(request.body)
    except ValueError:
        message = None
    if not isinstance(message, dict) or not isinstance(message.get("method"), str):
        return _error(None, _INVALID_REQUEST, "Send one JSON-RPC request.")
    if "id" not in message:
        return HttpResponse(status=202)
    params = message.get("params")
    answer = _answer(request, message["method"], params if isinstance(params, dict) else {})
    if isinstance(answer, tuple):
        return _error(message["id"], *answer)
    return JsonResponse({"jsonrpc": "2.0", "id": message["id"], "result": answer})


def _answer(
    request: HttpRequest, method: str, params: Mapping[str, Any]
) -> dict[str, Any] | tuple[int, str]:
    if method == "initialize":
        return {
            "protocolVersion": PROTOCOL_VERSION,
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "x402-django demo shop", "version": "1"},
        }
    if method == "ping":
        return {}
    if method == "tools/list":
        return {"tools": [tool.described(name) for name, tool in TOOLS.items()]}
    if method != "tools/call":
        return _METHOD_NOT_FOUND, f"There is no method {method!r}."
    tool, arguments = TOOLS.get(str(params.get("name"))), params.get("arguments") or {}
    if tool is None or not isinstance(arguments, dict):
        return _INVALID_PARAMS, "There is no such tool, or its arguments are no object."
    try:
        url = tool.url(arguments)
    except NoReverseMatch:
        return _INVALID_PARAMS, f"These arguments name no page: {', '.join(tool.in_path)}."
    meta = params.get("_meta")
    return _result(_page(request, url, meta.get(PAYMENT_META) if isinstance(meta, dict) else None))


def _page(request: HttpRequest, url: str, payment: Any) -> HttpResponseBase:
    """The shop's answer to a request for ``url`` by whoever called the tool."""
    path, _, query = url.partition("?")
    environ: dict[str, Any] = {
        name: value for name, value in request.META.items() if isinstance(value, str)
    }
    for name in ("CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_COOKIE", "HTTP_ACCEPT"):
        environ.pop(name, None)
    environ |= {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "wsgi.input": BytesIO(),
        "wsgi.url_scheme": request.scheme or "http",
    }
    if payment is not None:
        header = base64.b64encode(json.dumps(payment).encode()).decode()
        environ["HTTP_" + PAYMENT_SIGNATURE_HEADER.replace("-", "_")] = header
    return _handler().get_response(WSGIRequest(environ))


@lru_cache(maxsize=1)
def _handler() -> BaseHandler:
    handler = BaseHandler()
    handler.load_middleware()
    return handler


def _result(response: HttpResponseBase) -> dict[str, Any]:
    """A page's answer as the result of a tool."""
    result: dict[str, Any] = {"isError": response.status_code >= 400}
    if response.status_code == 402 and response.has_header(PAYMENT_REQUIRED_HEADER):
        required = _decoded(response[PAYMENT_REQUIRED_HEADER])
        result["structuredContent"] = required
        text = json.dumps(required)
    else:
        text = getattr(response, "content", b"").decode(errors="replace")
    result["content"] = [{"type": "text", "text": text}]
    if response.has_header(PAYMENT_RESPONSE_HEADER):
        result["_meta"] = {RESPONSE_META: _decoded(response[PAYMENT_RESPONSE_HEADER])}
    return result


def _decoded(header: str) -> Any:
    return json.loads(base64.b64decode(header))


def _error(request_id: Any, code: int, message: str) -> JsonResponse:
    error = {"code": code, "message": message}
    return JsonResponse({"jsonrpc": "2.0", "id": request_id, "error": error})
