"""Which transition sends which signal. Called by ``machine`` alone, after the commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from x402_django import signals
from x402_django.models import Payment

if TYPE_CHECKING:
    from django.dispatch import Signal

State = Payment.State

_SIGNALS: Final[Mapping[str, Signal]] = {
    State.VERIFIED: signals.payment_verified,
    State.SETTLED: signals.payment_settled,
    State.FINAL: signals.payment_confirmed,
    State.FAILED: signals.payment_failed,
    State.EXPIRED: signals.payment_failed,
    State.REVERSED: signals.payment_reversed,
}


def announce(payment: Payment, transitions: Iterable[tuple[str, str]], *, delivered: bool) -> None:
    """Send the signals of committed ``transitions`` (from, to), then of a delivery.

    Never raises: ``send_robust`` logs what receivers raise. They are about what this site sells:
    what it settles for others is announced to nobody.
    """
    if payment.kind != Payment.Kind.SALE:
        return
    for before, after in transitions:
        signal = _SIGNALS.get(after)
        # Back from settling to wait for the next batch: it was verified long ago.
        if signal is not None and (after != State.VERIFIED or before == State.CLAIMED):
            signal.send_robust(Payment, payment=payment)
    if delivered:
        signals.payment_delivered.send_robust(Payment, payment=payment)
