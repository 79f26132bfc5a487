"""A request at the gate, as extensions are told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from x402_django.extensions.base import Asked
from x402_django.http.resource import request_facts, resource_url

if TYPE_CHECKING:
    from django.http import HttpRequest

    from x402_django.pricing import Quote


def asked_for(request: HttpRequest, quote: Quote) -> Asked:
    """``request`` and its price for the hooks of ``extensions.registry``."""
    return Asked(
        request=request,
        quote=quote,
        resource_url=resource_url(request),
        options={},
        facts=lambda: request_facts(request),
    )
