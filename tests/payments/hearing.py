"""Listening to the ledger's signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from x402_django import signals
from x402_django.models import Payment

NAMES = ("verified", "settled", "confirmed", "failed", "reversed", "delivered")


@contextmanager
def hearing(hear: Callable[[str, Payment], object]) -> Iterator[None]:
    """Call ``hear`` with the name and the payment of each signal while the block runs.

    No receiver may run in a transaction: what it is told is committed. What ``hear`` raises is
    logged by Django, so let it only write down what it is told.
    """
    receivers = []
    for name in NAMES:

        def receive(sender: Any, payment: Payment, *, name: str = name, **kwargs: Any) -> None:
            well = sender is Payment and not connection.in_atomic_block
            hear(name if well else f"{name}, and not as it should be", payment)

        signal = getattr(signals, f"payment_{name}")
        signal.connect(receive, weak=False)
        receivers.append((signal, receive))
    try:
        yield
    finally:
        for signal, receive in receivers:
            signal.disconnect(receive)


class History:
    """What was announced of each payment, in its order; also from several threads at once."""

    def __init__(self) -> None:
        self.of: dict[int, list[str]] = {}

    def __call__(self, name: str, payment: Payment) -> None:
        self.of.setdefault(payment.pk, []).append(name)

    def take(self) -> dict[int, list[str]]:
        """What was announced since the last look."""
        taken, self.of = self.of, {}
        return taken
