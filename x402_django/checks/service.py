"""The facilitator service: that it can settle, and that those who ask it wait long enough."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.urls import get_resolver

from x402_django.checks.raw import TAG, entries, is_readable, path_of, value

#: Seconds that the official SDKs wait for a facilitator's answer.
_PATIENCE: Final = 30


@register(TAG)
def check_service(**kwargs: Any) -> list[CheckMessage]:
    """E050, W050, W051: who settles for others."""
    alias = value("SERVICE_FACILITATOR")
    is_served = _is_served()
    if alias is None:
        return [_not_set()] if is_served else []
    problem = _problem(alias)
    if problem is not None:
        return [problem]
    messages: list[CheckMessage] = []
    if not is_served:
        messages.append(
            Warning(
                f"{path_of('SERVICE_FACILITATOR')} is set, but the service has no address.",
                hint=(
                    'Add path("facilitator/", include("x402_django.facilitators.urls")) to the '
                    "URLs, or remove the setting."
                ),
                id="x402_django.W050",
            )
        )
    timeout = value("SETTLEMENT_TIMEOUT")
    if isinstance(timeout, int | float) and timeout >= _PATIENCE:
        messages.append(
            Warning(
                f"{path_of('SETTLEMENT_TIMEOUT')} is {timeout} seconds: the official SDKs hang up "
                f"on a facilitator after {_PATIENCE}.",
                hint=(
                    "Set it to 25 or less: a slow settlement is then answered as pending, with "
                    "its transaction, and asked for again, instead of being lost."
                ),
                id="x402_django.W051",
            )
        )
    return messages


def _not_set() -> CheckMessage:
    return Error(
        "x402_django.facilitators.urls is included, but nothing says who settles: every call "
        "is answered with 503.",
        hint="Set X402['SERVICE_FACILITATOR'] to the alias of a LocalFacilitator.",
        id="x402_django.E050",
    )


def _problem(alias: object) -> CheckMessage | None:
    if not isinstance(alias, str) or alias not in entries("FACILITATORS"):
        known = ", ".join(sorted(entries("FACILITATORS"))) or "none"
        return Error(
            f"{path_of('SERVICE_FACILITATOR')} is {alias!r}, which X402['FACILITATORS'] does not "
            "have.",
            hint=f"Name one that settles from a wallet of this site. Configured are: {known}.",
            id="x402_django.E050",
        )
    if is_readable() and not _spends_gas(alias):
        return Error(
            f"{path_of('SERVICE_FACILITATOR')} is {alias!r}, which settles from no wallet of this "
            "site.",
            hint="Name a LocalFacilitator: the service must know itself what became of a payment.",
            id="x402_django.E050",
        )
    return None


def _spends_gas(alias: str) -> bool:
    from x402_django.exceptions import ConfigurationError
    from x402_django.facilitators.base import facilitator_class

    try:
        return facilitator_class(alias).spends_gas
    except ConfigurationError:
        return True  # E007 says so already


def _is_served() -> bool:
    has_urls = bool(getattr(settings, "ROOT_URLCONF", None))
    return has_urls and "x402-facilitator" in get_resolver().namespace_dict
