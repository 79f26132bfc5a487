"""The shop over WSGI. Answers to payments may be lost, or break off in the middle."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from django.core.wsgi import get_wsgi_application

from chaos import faults

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chaos.settings")

_shop = get_wsgi_application()

# Loaded before the server forks, so that a process that replaces a dead one serves at once.
for _module in ("x402_django.chain.evidence", "x402_django.facilitators.local"):
    import_module(_module)


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    response = _shop(environ, start_response)
    return _Fragile(response) if "HTTP_PAYMENT_SIGNATURE" in environ else response


class _Fragile:
    """An answer whose process may die before or while it leaves."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        faults.point("answer, before it leaves")
        for chunk in self._response:
            half = len(chunk) // 2
            yield chunk[:half]
            faults.point("answer, half of it sent")
            yield chunk[half:]

    def close(self) -> None:
        self._response.close()
