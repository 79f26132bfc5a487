"""Who verifies and settles: aliased backends in ``X402["FACILITATORS"]``, like ``DATABASES``.

The names below are loaded on first use, so that importing the app loads neither web3 nor the
x402 SDK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from x402_django.facilitators.base import BaseFacilitator, get_facilitator
    from x402_django.facilitators.failover import FailoverFacilitator
    from x402_django.facilitators.local import LocalFacilitator
    from x402_django.facilitators.remote import RemoteFacilitator

__all__ = [
    "BaseFacilitator",
    "FailoverFacilitator",
    "LocalFacilitator",
    "RemoteFacilitator",
    "get_facilitator",
]

_HOMES = {
    "BaseFacilitator": "base",
    "FailoverFacilitator": "failover",
    "LocalFacilitator": "local",
    "RemoteFacilitator": "remote",
    "get_facilitator": "base",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
