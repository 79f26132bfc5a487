"""The shop over ASGI. Answers to payments may be lost."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from django.core.asgi import get_asgi_application

from chaos import faults

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chaos.settings")

_shop = get_asgi_application()

# Loaded before the server forks, so that a process that replaces a dead one serves at once.
for _module in ("x402_django.chain.evidence", "x402_django.facilitators.local"):
    import_module(_module)


async def application(scope: Any, receive: Any, send: Any) -> None:
    async def fragile(message: Any) -> None:
        faults.point("answer, before it leaves")
        await send(message)

    paid = any(name == b"payment-signature" for name, _ in scope.get("headers", ()))
    await _shop(scope, receive, fragile if paid else send)
