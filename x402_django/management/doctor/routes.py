"""The site's paid pages, as far as they can be told from its routes and its rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse

from x402_django.http.middleware import OPTIONS_ATTRIBUTE, asks_itself
from x402_django.models import PriceRule


@dataclass(frozen=True, slots=True)
class PaidRoute:
    """``path`` is empty where the route takes arguments; ``pattern`` is for people."""

    name: str
    pattern: str
    path: str


def paid_routes() -> list[PaidRoute]:
    """Every route whose view declares a price, asks for one inside, or is priced by a rule."""
    priced = set()
    for names in PriceRule.objects.filter(active=True).values_list("url_names", flat=True):
        priced.update(names)
    return [
        PaidRoute(name, pattern, _path(name, pattern))
        for name, pattern, view in _walk(get_resolver().url_patterns, "/", ())
        if name in priced or getattr(view, OPTIONS_ATTRIBUTE, None) or asks_itself(view)
    ]


def _path(name: str, pattern: str) -> str:
    if not set(pattern) & set("<(\\[^$*?"):
        return pattern
    try:
        return reverse(name)
    except NoReverseMatch:
        return ""


def _walk(
    entries: Sequence[URLPattern | URLResolver], prefix: str, namespaces: tuple[str, ...]
) -> Iterator[tuple[str, str, Callable[..., Any]]]:
    for entry in entries:
        path = prefix + str(entry.pattern).removeprefix("^").removesuffix("$").removesuffix(r"\Z")
        if isinstance(entry, URLResolver):
            inner = (*namespaces, entry.namespace) if entry.namespace else namespaces
            yield from _walk(entry.url_patterns, path, inner)
        else:
            yield ":".join((*namespaces, entry.name or "")), path, entry.callback
