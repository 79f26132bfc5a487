"""The site's own named routes, from which a merchant chooses the pages a price applies to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse

#: Applications whose routes are not for sale: Django's admin and this app's own pages.
_EXCLUDED: Final = frozenset({"admin", "x402", "x402-root"})


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
    for name, pattern, view in _walk(get_resolver().url_patterns, "/", ()):
        patterns.setdefault(name, {}).setdefault(pattern, view)
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


def _walk(
    entries: Sequence[URLPattern | URLResolver], prefix: str, namespaces: tuple[str, ...]
) -> Iterator[tuple[str, str, Callable[..., Any]]]:
    for entry in entries:
        path = prefix + _readable(str(entry.pattern))
        if isinstance(entry, URLResolver):
            if entry.app_name in _EXCLUDED:
                continue
            inner = (*namespaces, entry.namespace) if entry.namespace else namespaces
            yield from _walk(entry.url_patterns, path, inner)
        elif entry.name:
            yield ":".join((*namespaces, entry.name)), path, entry.callback


def _readable(pattern: str) -> str:
    """A route as people write it: without the anchors of a regular expression."""
    return pattern.removeprefix("^").removesuffix("$").removesuffix(r"\Z")
