"""The gate is installed, once, and nothing undoes it.

How Django runs middleware decides what matters: every ``process_request`` runs before any
``process_view``, and the gate works in ``process_view``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string

from x402_django.checks.raw import TAG

GATE: Final = "x402_django.http.middleware.PaymentMiddleware"
_CACHES: Final = (
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.middleware.cache.CacheMiddleware",
)
_REFUSERS: Final = (
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
)
_COMPRESSORS: Final = ("django.middleware.gzip.GZipMiddleware",)


@register(TAG)
def check_middleware(**kwargs: Any) -> list[CheckMessage]:
    """E001, E012, E013, W006, W012: where ``PaymentMiddleware`` stands."""
    installed = list(settings.MIDDLEWARE or ())
    gates = [path for path in installed if _is_one_of(path, (GATE,))]
    if not gates:
        return [
            Error(
                "PaymentMiddleware is not in MIDDLEWARE, so paid views answer with an error and "
                "price rules have no effect.",
                hint=f"Add {GATE!r} at the end of MIDDLEWARE.",
                id="x402_django.E001",
            )
        ]
    if len(gates) > 1:
        return [
            Error(
                "PaymentMiddleware is in MIDDLEWARE more than once.",
                hint="Keep the last one: the second would charge for what the first has sold.",
                id="x402_django.E012",
            )
        ]
    after = installed[installed.index(gates[0]) + 1 :]
    return [message for path in after for message in _check_after(path)]


def _check_after(path: str) -> list[CheckMessage]:
    """What may go wrong with middleware that stands after the gate."""
    if _is_one_of(path, _CACHES):
        return [
            Error(
                f"{path} stands after PaymentMiddleware, so it stores paid answers before they "
                "are marked private, and serves them to anybody for nothing.",
                hint="Move it before PaymentMiddleware, to the top of MIDDLEWARE.",
                id="x402_django.E013",
            )
        ]
    if _is_one_of(path, _REFUSERS):
        return [
            Warning(
                f"{path} stands after PaymentMiddleware, so it may refuse a request that has "
                "already been paid for.",
                hint="Move it before PaymentMiddleware.",
                id="x402_django.W006",
            )
        ]
    if _is_one_of(path, _COMPRESSORS):
        return [
            Warning(
                f"{path} stands after PaymentMiddleware, so stored answers are kept compressed "
                "and are repeated so to clients that may not read that.",
                hint="Move it before PaymentMiddleware.",
                id="x402_django.W012",
            )
        ]
    return []


def _is_one_of(path: str, names: Sequence[str]) -> bool:
    """Whether ``path`` is one of ``names`` or a subclass of one."""
    if path in names:
        return True
    try:
        middleware = import_string(path)
    except ImportError:
        return False  # Django says so itself, when it loads the handler
    return isinstance(middleware, type) and any(
        issubclass(middleware, import_string(name)) for name in names
    )
