"""Extensions: that each can be loaded, and understands its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.core.checks import CheckMessage, Error, register

from x402_django.checks.raw import TAG, path_of, value
from x402_django.conf import DEFAULT_EXTENSIONS
from x402_django.exceptions import ConfigurationError

_KEYS: Final = frozenset({"BACKEND", "OPTIONS"})


@register(TAG)
def check_extensions(**kwargs: Any) -> list[CheckMessage]:
    """E061, E062, and what each extension says of itself."""
    section = value("EXTENSIONS")
    if not isinstance(section, Mapping):
        hint = "Write {'payment-identifier': {…}}."
        return [_wrong(f"{path_of('EXTENSIONS')} is not a dict.", hint)]
    messages: list[CheckMessage] = []
    for key, entry in section.items():
        messages += _misshapen(str(key), entry)
    return messages or [
        message
        for key in {**DEFAULT_EXTENSIONS, **section}
        if section.get(key, {}) is not None
        for message in _loaded(key)
    ]


def _misshapen(key: str, entry: object) -> list[CheckMessage]:
    where = path_of("EXTENSIONS", key)
    if entry is None:
        return []
    if not isinstance(entry, Mapping) or not isinstance(entry.get("OPTIONS") or {}, Mapping):
        hint = "Write {'OPTIONS': {…}}, {} for no options, or None to turn it off."
        return [_wrong(f"{where} is not an extension.", hint)]
    return [
        _wrong(f"{where} has an unknown key {name!r}.", "Known are: BACKEND, OPTIONS.")
        for name in sorted(map(str, set(entry) - _KEYS))
    ]


def _loaded(key: str) -> list[CheckMessage]:
    from x402_django.extensions import registry

    try:
        extension = registry.build(key)
    except ConfigurationError as error:
        hint = "Correct the key, or give the dotted path of its class as BACKEND."
        return [_wrong(str(error), hint)]
    where = path_of("EXTENSIONS", key, "OPTIONS")
    known = ", ".join(sorted(extension.option_names)) or "none"
    unknown: list[CheckMessage] = [
        Error(
            f"{where} has an unknown key {name!r}.",
            hint=f"Known are: {known}.",
            id="x402_django.E062",
        )
        for name in sorted(map(str, set(extension.options) - extension.option_names))
    ]
    return unknown + extension.check()


def _wrong(message: str, hint: str) -> CheckMessage:
    return Error(message, hint=hint, id="x402_django.E061")
