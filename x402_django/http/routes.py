"""The site's own routes, as its URL configuration has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.translation import get_language

#: Applications whose routes are not for sale: Django's admin and this app's own pages.
_EXCLUDED: Final = frozenset({"admin", "x402", "x402-root", "x402-api"})
_PARAMETER: Final = re.compile(
    r"<(?:(?P<converter>[^<>:]+):)?(?P<name>[A-Za-z_]\w*)>|\(\?P<(?P<group>[A-Za-z_]\w*)>[^()]*\)"
)
_PLAIN: Final = re.compile(r"/[\w\-./~%{}@:]*")


@dataclass(frozen=True, slots=True)
class Route:
    """``name`` as ``request.resolver_match.view_name`` has it, namespaces included; may be empty.

    ``pattern`` is as people write it: ``/articles/<slug:slug>/``.
    """

    name: str
    pattern: str
    view: Callable[..., Any]

    @property
    def template(self) -> str:
        """``/articles/{slug}/``; empty for a regular expression that is no such template."""
        template = _PARAMETER.sub(lambda found: f"{{{_name(found)}}}", self.pattern)
        return template if _PLAIN.fullmatch(template) else ""

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its parameters, in order."""
        return tuple(map(_name, _PARAMETER.finditer(self.pattern)))

    @property
    def converters(self) -> dict[str, str]:
        """The names of its parameters with those of their converters; empty for a part of a
        regular expression.
        """
        found = _PARAMETER.finditer(self.pattern)
        return {_name(one): "" if one["group"] else one["converter"] or "str" for one in found}


def _name(found: re.Match[str]) -> str:
    return found["name"] or found["group"]


def site_routes() -> Sequence[Route]:
    """Every route of the site, in the order of its URL configuration."""
    return _routes(get_resolver(), get_language())


@lru_cache(maxsize=32)
def _routes(resolver: URLResolver, language: str | None) -> Sequence[Route]:
    # Patterns may be translated, and prefixed with the language.
    return tuple(_walk(resolver.url_patterns, "/", ()))


def _walk(
    entries: Sequence[URLPattern | URLResolver], prefix: str, namespaces: tuple[str, ...]
) -> Iterator[Route]:
    for entry in entries:
        pattern = prefix + _readable(str(entry.pattern))
        if isinstance(entry, URLResolver):
            if entry.app_name in _EXCLUDED:
                continue
            inner = (*namespaces, entry.namespace) if entry.namespace else namespaces
            yield from _walk(entry.url_patterns, pattern, inner)
        else:
            name = ":".join((*namespaces, entry.name)) if entry.name else ""
            yield Route(name, pattern, entry.callback)


def _readable(pattern: str) -> str:
    """A route as people write it: without the anchors of a regular expression."""
    return pattern.removeprefix("^").removesuffix("$").removesuffix(r"\Z")
