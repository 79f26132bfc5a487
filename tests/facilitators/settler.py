"""A process that settles payments of the ledger: run as ``python -m tests.facilitators.settler``.

Its orders come as JSON on standard input: ``x402`` (the setting), ``payments`` (primary keys),
``die`` (``[module, function]``: end like SIGKILL after that has run once, or null). The results
go out as JSON, by primary key.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def main() -> None:
    orders = json.load(sys.stdin)
    import django
    from django.conf import settings

    settings.X402 = orders["x402"]
    django.setup()
    if orders["die"]:
        _die_after(*orders["die"])
    print(json.dumps(_settle_all(orders["payments"])))


def _die_after(module_name: str, name: str) -> None:
    module = importlib.import_module(module_name)
    original = getattr(module, name)

    def last(*args: Any, **kwargs: Any) -> Any:
        original(*args, **kwargs)
        os._exit(9)

    setattr(module, name, last)


def _settle_all(payments: list[int]) -> dict[int, str]:
    from django.db import connection

    from x402_django.exceptions import X402Error
    from x402_django.facilitators.base import get_facilitator
    from x402_django.models import Payment
    from x402_django.protocol.types import SignedPayment

    facilitator = get_facilitator("default")
    barrier = threading.Barrier(len(payments))

    def settle(pk: int) -> str:
        try:
            payment = Payment.objects.get(pk=pk)
            signed = SignedPayment.from_row(payment)
            barrier.wait(20)
            return facilitator.settle(signed, payment).transaction
        except X402Error as error:
            return error.code
        finally:
            connection.close()

    with ThreadPoolExecutor(len(payments)) as pool:
        return dict(zip(payments, pool.map(settle, payments), strict=True))


if __name__ == "__main__":
    main()
