"""What was paid for is handed over once more: the payer's next request with the payment is free."""

from __future__ import annotations

from typing import Any

from django.db import router, transaction
from django.db.models import F

from x402_django import clock
from x402_django.models import Payment, PaymentEvent

_PAID = (Payment.State.SETTLED, Payment.State.FINAL)


def deliver_again(payment: Payment, *, user: Any) -> bool:
    """Owe the payer what it has paid for, whether it was delivered or its delivery is stuck.

    The same payment on the same request runs the view again, free, and as often as any debt may be
    tried; a response that is still kept is handed out instead. False where there is nothing to
    owe: it is not paid, or goes back.
    """
    alias = router.db_for_write(Payment)
    with transaction.atomic(using=alias):
        rows = Payment.objects.using(alias).filter(
            pk=payment.pk, state__in=_PAID, kind=Payment.Kind.SALE, refunding_at__isnull=True
        )
        written = rows.update(
            # Whoever delivers it now is locked out, and writes nothing.
            attempt=F("attempt") + 1,
            delivered_at=None,
            delivery_started_at=None,
            deliveries=0,
        )
        if not written:
            return False
        state = rows.values_list("state", flat=True).get()
        PaymentEvent.objects.using(alias).create(
            payment=payment,
            at=clock.now(),
            from_state=state,
            to_state=state,
            code="deliver_again",
            reason="To be delivered again.",
            actor=user.get_username()[:100],
        )
    return True
