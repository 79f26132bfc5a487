"""The extensions that are turned on, and their hooks, each at its place in a paid request.

``X402["EXTENSIONS"]`` turns them on by their keys on the wire. One that is not built in names its
class as ``BACKEND``. A view or a price rule can say something else of its own, or ``False``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from x402_django.conf import x402
from x402_django.constants import PAYMENT_IDENTIFIER, SIGN_IN_WITH_X
from x402_django.exceptions import ConfigurationError
from x402_django.extensions.base import Asked, Extension

if TYPE_CHECKING:
    from django.http import HttpRequest

    from x402_django.models import Payment
    from x402_django.payments.facts import RequestFacts
    from x402_django.payments.holdings import Holder

#: Extensions that need no ``BACKEND``.
BUILT_IN: Final[Mapping[str, str]] = {
    "bazaar": "x402_django.extensions.bazaar.Bazaar",
    "offer-receipt": "x402_django.extensions.offer_receipt.OfferReceipt",
    PAYMENT_IDENTIFIER: "x402_django.extensions.payment_identifier.PaymentIdentifier",
    SIGN_IN_WITH_X: "x402_django.extensions.sign_in_with_x.SignInWithX",
}


@lru_cache(maxsize=1)
def enabled() -> Mapping[str, Extension]:
    """The extensions of this site by their keys. Raises ConfigurationError for a wrong one."""
    return {key: build(key) for key in x402.extensions}


def build(key: str) -> Extension:
    """A new instance of the extension ``key``. Raises ConfigurationError."""
    settings = x402.extensions[key]
    backend = settings.backend or BUILT_IN.get(key, "")
    where = f"X402['EXTENSIONS'][{key!r}]"
    if not backend:
        known = ", ".join(sorted(BUILT_IN)) or "none"
        raise ConfigurationError(f"{where} has no BACKEND, and is not built in ({known}).")
    try:
        found = import_string(backend)
    except ImportError as error:
        raise ConfigurationError(
            f"{where}['BACKEND'] = {backend!r} cannot be imported: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Extension)):
        raise ConfigurationError(f"{where}['BACKEND'] = {backend!r} is no subclass of Extension.")
    if getattr(found, "key", None) != key:
        raise ConfigurationError(f"{where} is not the key of {backend!r}, which has its own.")
    return found(settings.options)


def declarations(asked: Asked) -> tuple[tuple[str, str], ...]:
    """What the challenge declares: keys, each with its JSON text."""
    declared = []
    for extension, mine in _for_view(asked):
        declaration = extension.declare(mine)
        if declaration is not None:
            text = declaration if isinstance(declaration, str) else encode(declaration)
            declared.append((extension.key, text))
    return tuple(declared)


def read(sent: Mapping[str, Any], asked: Asked, facts: RequestFacts) -> RequestFacts:
    """Have each extension judge its part of a payload's ``extensions``. Raises what they raise."""
    for extension, mine in _for_view(asked):
        facts = extension.read(sent.get(extension.key), mine, facts)
    return facts


def may_admit(request: HttpRequest) -> bool:
    """Whether ``request`` has a header by which an extension may let it in."""
    return any(
        _meta_key(name) in request.META
        for extension in enabled().values()
        for name in extension.access_headers
    )


def admit(asked: Asked) -> Payment | Holder | None:
    """The earlier payment, or the proved wallet, by which an extension lets the request in."""
    meta = asked.request.META
    for extension, mine in _for_view(asked):
        if any(_meta_key(name) in meta for name in extension.access_headers):
            admitted = extension.admit(mine)
            if admitted is not None:
                return admitted
    return None


def acknowledgements(payment: Payment, request: HttpRequest) -> dict[str, Any]:
    """What ``PAYMENT-RESPONSE`` carries under ``extensions``; mostly empty."""
    answers = {
        extension.key: extension.acknowledge(payment, request) for extension in enabled().values()
    }
    return {key: answer for key, answer in answers.items() if answer is not None}


@lru_cache(maxsize=1)
def access_headers() -> tuple[str, ...]:
    """The request headers on which answers vary beside those of payments."""
    return tuple(name for extension in enabled().values() for name in extension.access_headers)


def encode(declaration: Mapping[str, Any]) -> str:
    """A declaration as compact JSON, ASCII. An extension may keep it and give it every time."""
    return json.dumps(declaration, separators=(",", ":"))


def _for_view(asked: Asked) -> Iterator[tuple[Extension, Asked]]:
    """The extensions that are on for this view, each with its options there."""
    of_view = asked.quote.extensions
    for key, extension in enabled().items():
        said = of_view.get(key, {})
        if said is False:
            continue
        options = {**extension.options, **said} if isinstance(said, Mapping) else extension.options
        yield extension, replace(asked, options=options)


def _meta_key(header: str) -> str:
    return "HTTP_" + header.upper().replace("-", "_")


def _reset(*, setting: str, **kwargs: object) -> None:
    if setting == "X402":
        enabled.cache_clear()
        access_headers.cache_clear()


setting_changed.connect(_reset, dispatch_uid="x402_django.extensions.reset")
