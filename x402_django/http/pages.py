"""Our own pages, for people: one policy, no third party, templates that a site may override.

Every page gets a fresh nonce. Style and script stand in the page itself under that nonce, so the
pages work wherever templates do: nothing has to be collected, served or allowed for them.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from django.http import HttpResponse
from django.template.loader import render_to_string

if TYPE_CHECKING:
    from django.http import HttpRequest


def prefers_page(request: HttpRequest) -> bool:
    """Whether who asks would rather have a page than JSON."""
    kinds = ["application/json", "text/html"]
    return request.get_preferred_type(kinds) == "text/html" or not request.accepts(kinds[0])


def page_response(
    request: HttpRequest, template: str, context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    """``template``, rendered with ``context``, ``host`` and ``nonce``, under a strict policy.

    Scripts and styles need the nonce; images and fonts may be the site's own, images also
    ``data:`` (wallets bring their icons so); requests go to this site alone.
    """
    nonce = secrets.token_urlsafe(16)
    context = {"host": request.get_host(), **context, "nonce": nonce}
    content = render_to_string(template, context, request)
    response = HttpResponse(content, status=status)
    response["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "img-src 'self' data:; font-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    response["X-Content-Type-Options"] = "nosniff"
    response["Referrer-Policy"] = "no-referrer"
    return response
