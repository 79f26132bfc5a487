"""Alerts: that there is somebody to tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from x402_django.checks.raw import TAG, is_list, path_of, value

_KEYS: Final = frozenset({"TO", "REPEAT_HOURS"})


@register(TAG)
def check_alerts(**kwargs: Any) -> list[CheckMessage]:
    """E082: ``ALERTS``."""
    section = value("ALERTS")
    where = path_of("ALERTS")
    if not isinstance(section, Mapping) or set(section) - _KEYS:
        return [_wrong(where, f"is not a dict of {', '.join(sorted(_KEYS))}")]
    recipients = section.get("TO", ())
    if not is_list(recipients) or not all(map(_is_address, recipients)):
        return [_wrong(f"{where}['TO']", "is no list of e-mail addresses")]
    hours = section.get("REPEAT_HOURS", 24)
    if isinstance(hours, bool) or not isinstance(hours, int | float) or hours <= 0:
        return [_wrong(f"{where}['REPEAT_HOURS']", "is no number of hours above 0")]
    return []


def _is_address(text: object) -> bool:
    try:
        validate_email(str(text))
    except ValidationError:
        return False
    return True


def _wrong(where: str, what: str) -> CheckMessage:
    hint = "Write {'TO': ['ops@shop.example'], 'REPEAT_HOURS': 24}."
    return Error(f"{where} {what}.", hint=hint, id="x402_django.E082")
