"""Webhooks, about the chain and outgoing: that each can be verified, and reaches no inside."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from x402_django.checks.raw import TAG, path_of, value


@register(TAG)
def check_chain_webhooks(**kwargs: Any) -> list[CheckMessage]:
    """E060, W060: entries of ``CHAIN_WEBHOOKS``."""
    from x402_django.chain.notices import PROVIDERS

    section = value("CHAIN_WEBHOOKS")
    if not isinstance(section, Mapping):
        return [_wrong(path_of("CHAIN_WEBHOOKS"), "is not a dict", "Write names and {…}.")]
    messages: list[CheckMessage] = []
    for name, entry in section.items():
        where = path_of("CHAIN_WEBHOOKS", str(name))
        known = ", ".join(sorted(PROVIDERS))
        if not isinstance(entry, Mapping) or set(entry) != {"PROVIDER", "SECRET_ENV"}:
            hint = "Write {'PROVIDER': …, 'SECRET_ENV': …}."
            messages.append(_wrong(where, "is not a webhook", hint))
        elif entry["PROVIDER"] not in PROVIDERS:
            hint = f"Known are: {known}."
            messages.append(_wrong(where, f"has no such PROVIDER: {entry['PROVIDER']!r}", hint))
        elif not os.environ.get(str(entry["SECRET_ENV"]), "").strip():
            messages.append(
                Warning(
                    f"{where}: the environment variable {entry['SECRET_ENV']} is not set, so every "
                    "notice is refused.",
                    hint="Set it to the signing key that the service shows for this webhook.",
                    id="x402_django.W060",
                )
            )
    return messages


@register(TAG)
def check_outgoing_webhooks(**kwargs: Any) -> list[CheckMessage]:
    """W061: outgoing webhooks may reach private addresses on a public site."""
    if settings.DEBUG or not value("WEBHOOKS_ALLOW_PRIVATE"):
        return []
    return [
        Warning(
            f"{path_of('WEBHOOKS_ALLOW_PRIVATE')} is on: whoever may enter a webhook's address "
            "can have this server post to machines behind its firewall.",
            hint="Turn it off; it is for development.",
            id="x402_django.W061",
        )
    ]


def _wrong(where: str, what: str, hint: str) -> CheckMessage:
    return Error(f"{where} {what}.", hint=hint, id="x402_django.E060")
