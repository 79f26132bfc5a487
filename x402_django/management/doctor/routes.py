"""The site's paid pages, as far as they can be told from its routes and its rules.

Also those that cannot be sold at the moment, which is what the doctor wants to know.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.urls import NoReverseMatch, reverse

from x402_django.http.asking import asks_itself
from x402_django.http.middleware import OPTIONS_ATTRIBUTE
from x402_django.http.routes import Route, site_routes
from x402_django.http.state import is_never_for_sale
from x402_django.models import PriceRule


@dataclass(frozen=True, slots=True)
class PaidRoute:
    """``path`` is empty where the route takes arguments; ``pattern`` is for people."""

    pattern: str
    path: str


def paid_routes() -> list[PaidRoute]:
    """Every route whose view declares a price, asks for one inside, or is priced by a rule."""
    priced: set[str] = set()
    for names in PriceRule.objects.filter(active=True).values_list("url_names", flat=True):
        priced.update(names)
    return [
        PaidRoute(route.pattern, _path(route))
        for route in site_routes()
        if not is_never_for_sale(route.view)
        and (
            route.name in priced
            or getattr(route.view, OPTIONS_ATTRIBUTE, None)
            or asks_itself(route.view)
        )
    ]


def _path(route: Route) -> str:
    if route.template and not route.parameters:
        return route.template
    try:
        return reverse(route.name)
    except NoReverseMatch:
        return ""
