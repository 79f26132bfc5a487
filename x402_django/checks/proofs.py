"""Transfer proofs: what they need, and what they give up unsigned."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register

from x402_django.checks.raw import TAG, entries, network_value, path_of, value


@register(TAG)
def check_transfer_proofs(**kwargs: Any) -> list[CheckMessage]:
    """E008, W020, W021: transfers that payers make themselves and prove by their hash."""
    messages: list[CheckMessage] = [
        Error(
            f"{path_of(key)} is neither True nor False, and counts as False.",
            hint="Write True or False.",
            id="x402_django.E008",
        )
        for key in ("TRANSFER_PROOFS", "ALLOW_UNSIGNED_PROOFS", "DISCOVERY")
        if not isinstance(value(key), bool)
    ]
    if value("ALLOW_UNSIGNED_PROOFS") is True:
        messages.append(
            Warning(
                "X402['ALLOW_UNSIGNED_PROOFS'] is on: whoever sees a transfer to you on the chain "
                "can claim what it paid for.",
                hint="Turn it off, unless only your own agents can reach this site.",
                id="x402_django.W020",
            )
        )
    if value("TRANSFER_PROOFS") is True:
        messages += [
            Warning(
                f"{path_of('NETWORKS', name)} has no RPC_URLS, so transfers cannot be proven, and "
                "are not taken, there.",
                hint="Add the address of an RPC endpoint of that network to RPC_URLS.",
                id="x402_django.W021",
            )
            for name, entry in entries("NETWORKS").items()
            if not (network_value(entry, "RPC_URLS") or network_value(entry, "PROVIDER"))
        ]
    return messages
