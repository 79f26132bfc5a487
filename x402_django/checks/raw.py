"""The setting as the site wrote it, for checks that must survive whatever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from x402_django.conf import DEFAULTS, x402
from x402_django.conf_entries import NETWORK_DEFAULTS
from x402_django.exceptions import ConfigurationError

#: The tag of all checks here: ``manage.py check --tag x402``.
TAG = "x402"


def value(key: str) -> Any:
    """``X402[key]``, or its default."""
    return x402.user.get(key, DEFAULTS[key])


def entries(key: str) -> dict[str, Mapping[str, Any]]:
    """The well-formed entries of ``NETWORKS`` or ``FACILITATORS``."""
    section = value(key)
    if not isinstance(section, Mapping):
        return {}
    return {
        name: entry
        for name, entry in section.items()
        if isinstance(name, str) and isinstance(entry, Mapping)
    }


def network_value(entry: Mapping[str, Any], key: str) -> Any:
    """A key of one network's entry, or its default."""
    return entry.get(key, NETWORK_DEFAULTS[key])


def is_list(candidate: object) -> TypeGuard[Sequence[Any]]:
    """Whether it is a list or tuple (or the like), and not a string that would be iterated."""
    return isinstance(candidate, Sequence) and not isinstance(candidate, str | bytes)


def asset_entries(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The well-formed tokens of one network's entry."""
    tokens = network_value(entry, "ASSETS")
    return [token for token in tokens if isinstance(token, Mapping)] if is_list(tokens) else []


def path_of(*keys: str) -> str:
    """``X402['NETWORKS']['eip155:1']``."""
    return "X402" + "".join(f"[{key!r}]" for key in keys)


def is_readable() -> bool:
    """Whether ``conf`` can parse the setting, tokens included. Where not, other ids say why."""
    from x402_django.protocol.assets import known_assets

    try:
        for network in x402.networks:
            known_assets(network)
        return all(isinstance(alias, str) for alias in x402.facilitators)
    except (AttributeError, TypeError, ValueError, ConfigurationError):
        return False
