"""Backends: that they load, that every network has one, and what each says of its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.core.checks import CheckMessage, Error, Warning, register

from x402_django.checks.raw import TAG, entries, is_readable, network_value, path_of
from x402_django.exceptions import ConfigurationError
from x402_django.protocol.networks import is_solana

if TYPE_CHECKING:
    from x402_django.facilitators.base import BaseFacilitator


@register(TAG)
def check_facilitators(**kwargs: Any) -> list[CheckMessage]:
    """E006, E007, W004, and the backends' own checks (ids from 030)."""
    messages = _missing()
    if not is_readable():
        return messages
    for alias, entry in entries("FACILITATORS").items():
        facilitator, problem = _build(alias)
        if facilitator is None:
            messages.append(
                Error(
                    problem,
                    hint=(
                        "BACKEND is the dotted path of a subclass of "
                        "x402_django.facilitators.BaseFacilitator."
                    ),
                    id="x402_django.E007",
                )
            )
            continue
        messages += facilitator.check()
        options = entry.get("OPTIONS")
        if isinstance(options, Mapping) and options.get("TRUST"):
            messages.append(_trusted(alias))
    return messages


def _missing() -> list[CheckMessage]:
    facilitators = entries("FACILITATORS")
    if not facilitators:
        return [
            Error(
                "X402['FACILITATORS'] is empty, so no payment could be settled.",
                hint="Add a 'default' one; the README has an example.",
                id="x402_django.E006",
            )
        ]
    known = ", ".join(sorted(facilitators))
    return [
        Error(
            f"{path_of('NETWORKS', name, 'FACILITATOR')} is {alias!r}, which "
            "X402['FACILITATORS'] does not have.",
            hint=f"Configured are: {known}. Add it, or name one of these.",
            id="x402_django.E006",
        )
        for name, entry in entries("NETWORKS").items()
        if isinstance(alias := network_value(entry, "FACILITATOR"), str)
        and alias not in facilitators
    ]


def _build(alias: str) -> tuple[BaseFacilitator | None, str]:
    """The backend, or None and why it cannot be had."""
    from x402_django.facilitators.base import build_facilitator

    backend = entries("FACILITATORS")[alias].get("BACKEND", "")
    if not isinstance(backend, str):
        return None, f"{path_of('FACILITATORS', alias, 'BACKEND')} is not a string."
    try:
        return build_facilitator(alias), ""
    except ConfigurationError as error:
        return None, str(error)


def _trusted(alias: str) -> CheckMessage:
    return Warning(
        f"{path_of('FACILITATORS', alias, 'OPTIONS', 'TRUST')} is on: what this facilitator says "
        "is not checked on chain.",
        hint=(
            "If it lies or errs, content is released for money that never came. Give the network "
            "RPC_URLS and remove TRUST, or silence this if the facilitator is your own."
        ),
        id="x402_django.W004",
    )


@register(TAG)
def check_networks_have_proof(**kwargs: Any) -> list[CheckMessage]:
    """E005: a network that the site cannot read, settled by one who must be checked or needs it."""
    if not is_readable():
        return []
    messages: list[CheckMessage] = []
    for name, entry in entries("NETWORKS").items():
        if network_value(entry, "RPC_URLS") or network_value(entry, "PROVIDER"):
            continue
        alias = network_value(entry, "FACILITATOR")
        facilitator = _build(alias)[0] if alias in entries("FACILITATORS") else None
        if facilitator is None or (facilitator.trusted and not facilitator.needs_rpc):
            continue  # missing is E006, unloadable is E007
        reason = (
            "settles through it"
            if facilitator.needs_rpc
            else "is only believed where the chain agrees"
        )
        messages.append(
            Error(
                f"{path_of('NETWORKS', name)} has no RPC_URLS, but its facilitator {alias!r} "
                f"{reason}.",
                hint=(
                    "Solana cannot be read here: if you will take the facilitator's word, which "
                    "nothing checks, say so with TRUST in its OPTIONS."
                    if is_solana(name)
                    else "Add the address of an RPC endpoint of that network to RPC_URLS."
                ),
                id="x402_django.E005",
            )
        )
    return messages
