"""Effects of a view that must wait for its money: ``request.payment.on_settled(…)``."""

from __future__ import annotations

import logging

from x402_django.models import HoldingUse, Payment

logger = logging.getLogger("x402_django.payments")


def run_settled_callbacks(payment: Payment | HoldingUse) -> None:
    """Run what the view registered, once each, in its order. What they raise is logged."""
    for callback in payment.take_settled_callbacks():
        try:
            callback()
        except Exception:
            # The money has moved and the response is stored; neither may hang on this.
            logger.exception("An on_settled callback of payment %s failed.", payment.public_id)
