"""Buyers of other origins: what the setting says, and what django-cors-headers would forbid."""

from __future__ import annotations

import re
from typing import Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from x402_django.checks.raw import TAG, is_list, path_of, value
from x402_django.constants import EXPOSED_HEADERS, PAYMENT_HEADERS

_ORIGIN: Final = re.compile(r"https?://[^/\s]+")
_PACKAGE: Final = "corsheaders"


@register(TAG)
def check_cors(**kwargs: Any) -> list[CheckMessage]:
    """E070: an origin that is none. W071: django-cors-headers without the payment headers."""
    origins = value("CORS_ORIGINS")
    if not is_list(origins):
        return [_wrong(f"{path_of('CORS_ORIGINS')} is not a list.")]
    wrong = [one for one in origins if one != "*" and not _ORIGIN.fullmatch(str(one))]
    messages = [_wrong(f"{path_of('CORS_ORIGINS')}: {one!r} is not an origin.") for one in wrong]
    return messages + (_forbidden() if _PACKAGE in settings.INSTALLED_APPS else [])


def _wrong(message: str) -> CheckMessage:
    hint = "Write scheme and host, such as 'https://app.example', or '*' for every origin."
    return Error(message, hint=hint, id="x402_django.E070")


def _forbidden() -> list[CheckMessage]:
    from corsheaders.conf import conf

    allowed = {str(name).lower() for name in conf.CORS_ALLOW_HEADERS}
    exposed = {str(name).lower() for name in conf.CORS_EXPOSE_HEADERS}
    missing = [
        ("CORS_ALLOW_HEADERS", [n for n in PAYMENT_HEADERS if n.lower() not in allowed]),
        # Left empty it adds nothing, and what the gate exposes itself stands.
        (
            "CORS_EXPOSE_HEADERS",
            [n for n in EXPOSED_HEADERS if exposed and n.lower() not in exposed],
        ),
    ]
    return [
        Warning(
            f"{setting} of django-cors-headers lacks {', '.join(names)}: pages of other origins "
            "cannot pay.",
            hint=f"Add them to {setting}.",
            id="x402_django.W071",
        )
        for setting, names in missing
        if names and not {"*"} & (allowed if "ALLOW" in setting else exposed)
    ]
