"""Outward events of the ledger, for receivers of the site.

::

    from django.dispatch import receiver
    from x402_django.signals import payment_settled

    @receiver(payment_settled)
    def thank(sender, payment, **kwargs):
        queue_thank_you.delay(payment.pk)

Each is sent with ``sender=Payment`` and ``payment``, the row as it was just committed, from
wherever it was written: a web process, a Celery worker or a management command. That is why they
suit effects that must follow the money even if this request's process is gone. They are sent
after the commit and so at most once for each write: a process killed between the two sends
nothing. What must never be missed should also be looked up in the ledger from time to time.

A receiver that raises is logged (logger ``django.dispatch``) and changes nothing: money does not
wait for receivers. It does wait while they run, so leave long work to a task.

==================  =================================================================
payment_verified    The payment is good. Sent as its settlement begins, or as the
                    response leaves under the flow ``deferred``.
payment_settled     The transfer is on chain and the receipt exists. Sent again should
                    the payment be reversed and settle once more.
payment_confirmed   The transfer is as deep as the site requires: ``final``.
payment_failed      ``failed`` or ``expired``: no money came and none will.
                    ``payment.failure_code`` says why. If ``payment.delivered_at`` is set,
                    what was sold under the flow ``deferred`` is lost.
payment_reversed    The chain no longer knows the transfer. It is settled again while its
                    authorization lives.
payment_delivered   What was paid for was handed over, or is stored to be fetched again.
==================  =================================================================

``challenge_sent`` is another kind: ``sender`` is None, and it comes with ``request``, ``quote`` and
``code``, the reason, whenever a request is answered 402 (``payment_required`` where it carried no
payment).
"""

from __future__ import annotations

from typing import Final

from django.dispatch import Signal

payment_verified: Final = Signal()
payment_settled: Final = Signal()
payment_confirmed: Final = Signal()
payment_failed: Final = Signal()
payment_reversed: Final = Signal()
payment_delivered: Final = Signal()
challenge_sent: Final = Signal()
