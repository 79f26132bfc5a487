"""Refunds: that the wallets which send them can be used, and whose money they give back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from x402_django.checks.raw import TAG, is_list, path_of, value
from x402_django.exceptions import ConfigurationError
from x402_django.protocol.assets import is_address


@register(TAG)
def check_refund_wallets(**kwargs: Any) -> list[CheckMessage]:
    """E080: entries of ``REFUND_WALLETS``."""
    section = value("REFUND_WALLETS")
    if not is_list(section):
        return [_wrong(path_of("REFUND_WALLETS"), "is not a list", "Write [{'KEY_ENV': …}].")]
    messages: list[CheckMessage] = []
    named: set[str] = set()
    for number, entry in enumerate(section):
        where = f"{path_of('REFUND_WALLETS')}[{number}]"
        problem = _problem(entry)
        if problem is not None:
            messages.append(_wrong(where, *problem))
            continue
        payees = {str(payee).lower() for payee in entry.get("PAYEES", ())}
        if payees & named:
            hint = "Let each address be in one entry."
            messages.append(_wrong(where, "names a payee that another entry names", hint))
        named |= payees
    return messages


def _problem(entry: object) -> tuple[str, str] | None:
    """What is wrong with an entry, and what to do; None if nothing is."""
    from x402_django.chain import wallets

    known = wallets.OPTION_NAMES | {"PAYEES"}
    if not isinstance(entry, Mapping) or set(entry) - known:
        return "is not a wallet", f"Write a dict of: {', '.join(sorted(known))}."
    payees = entry.get("PAYEES", ())
    if not is_list(payees) or not all(isinstance(p, str) and is_address(p) for p in payees):
        return "has PAYEES that are no list of addresses", "Write addresses of 0x and 40 digits."
    if entry.get("KEY") and not settings.DEBUG:
        return "holds the key itself", "Name an environment variable (KEY_ENV) or a KEYSTORE."
    try:
        wallets.check_source({name: entry[name] for name in entry if name != "PAYEES"})
    except ConfigurationError as error:
        return "cannot be used", str(error)
    return None


def _wrong(where: str, what: str, hint: str) -> CheckMessage:
    return Error(f"{where} {what}.", hint=hint, id="x402_django.E080")
