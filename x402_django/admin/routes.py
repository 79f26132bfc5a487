"""The site's own named routes, from which a merchant chooses the pages a price applies to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import NoReverseMatch, reverse

from x402_django.http.routes import site_routes


@dataclass(frozen=True, slots=True)
class NamedRoute:
    """``name`` as ``request.resolver_match.view_name`` has it, namespaces included."""

    name: str
    patterns: tuple[str, ...]
    views: tuple[Callable[..., Any], ...] = ()

    @property
    def label(self) -> str:
        """``article: /articles/<slug>/``."""
        return f"{self.name}: {', '.join(self.patterns)}"


def named_routes() -> list[NamedRoute]:
    """Every named route of the site, by name; routes that share a name are one."""
    patterns: dict[str, dict[str, Callable[..., Any]]] = {}
    for route in site_routes():
        if route.name:
            patterns.setdefault(route.name, {}).setdefault(route.pattern, route.view)
    return [
        NamedRoute(name, tuple(found), tuple(found.values()))
        for name, found in sorted(patterns.items())
    ]


def example_path(url_names: Sequence[str]) -> str:
    """A path of the first of ``url_names``; its pattern where it takes arguments; else ``/…``."""
    if not url_names:
        return "/…"
    try:
        return reverse(url_names[0])
    except NoReverseMatch:
        found = (route for route in named_routes() if route.name == url_names[0])
        route = next(found, None)
        return route.patterns[0] if route is not None else "/…"
