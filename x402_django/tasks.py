"""Celery tasks: thin calls into the rooms below, each also a management command.

Loaded by Celery's autodiscovery. Every task may be killed at any point and run by several
workers at once: what they do is one conditional write per payment. They register themselves for
beat under the names in ``beat_schedule()``; an entry of the same name in the site's own
``beat_schedule`` wins.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, current_app, shared_task

from x402_django.conf import x402
from x402_django.desk import following
from x402_django.payments import alerts, claiming, confirmation, deferred, housekeeping, noticed
from x402_django.payments.periodic import TASKS, interval
from x402_django.payments.refunds import sending
from x402_django.receipts import numbers
from x402_django.webhooks import delivery


@shared_task(name="x402_django.confirm_pending_payments", ignore_result=True)
def confirm_pending_payments() -> str:
    """Resolve unknown outcomes and confirm settled payments to the configured depth."""
    return str(confirmation.confirm_pending_payments())


@shared_task(name="x402_django.settle_deferred", ignore_result=True)
def settle_deferred() -> str:
    """Settle what was delivered under the flow ``deferred``, in batches."""
    return str(deferred.settle_deferred())


@shared_task(name="x402_django.claim_channels", ignore_result=True)
def claim_channels() -> str:
    """Claim what is spent of payment channels, and follow what is on its way."""
    return str(claiming.claim_channels())


@shared_task(name="x402_django.release_stale_claims", ignore_result=True)
def release_stale_claims() -> str:
    """Release the claims of dead processes, and empty stored responses past their time."""
    return str(housekeeping.tidy_up())


@shared_task(name="x402_django.look_at_payments", ignore_result=True)
def look_at_payments(payment_ids: list[int]) -> str:
    """Look on chain for payments that a webhook's notice may concern."""
    return str(noticed.look_at(payment_ids))


@shared_task(name="x402_django.send_webhooks", ignore_result=True)
def send_webhooks() -> str:
    """Write the webhook messages of what happened, and hand out the deliveries that are due."""
    swept = delivery.sweep()
    for delivery_id in swept.due:
        # One that waited longer than this is handed out anew by a later sweep.
        deliver_webhook.apply_async((delivery_id,), expires=x402.confirmation_interval * 3)
    return str(swept)


@shared_task(name="x402_django.send_refunds", ignore_result=True)
def send_refunds() -> str:
    """Send approved refunds, and follow those that are on their way."""
    return str(sending.send_refunds())


@shared_task(name="x402_django.send_alerts", ignore_result=True)
def send_alerts() -> str:
    """Tell by e-mail what needs somebody."""
    return str(alerts.send_alerts())


@shared_task(name="x402_django.number_receipts", ignore_result=True)
def number_receipts() -> str:
    """Give receipts their numbers."""
    return str(numbers.number_receipts())


@shared_task(name="x402_django.deliver_webhook", ignore_result=True)
def deliver_webhook(delivery_id: int) -> bool:
    """Send one webhook delivery, unless somebody else does."""
    return delivery.deliver(delivery_id)


@shared_task(name="x402_django.count_days", ignore_result=True)
def count_days() -> str:
    """Count the days of the dashboard on which something has changed."""
    return str(following.count_days())


def beat_schedule() -> dict[str, dict[str, Any]]:
    """The periodic tasks in the shape of Celery's ``beat_schedule``; intervals in seconds."""
    # A run that waited longer than its successor's turn has nothing left to do.
    options = {"expires": x402.confirmation_interval * 3}
    return {
        f"x402_django.{name}": {
            "task": f"x402_django.{name}",
            "schedule": interval(name).total_seconds(),
            "options": options,
        }
        for name in TASKS
    }


def _register(sender: Celery, **kwargs: object) -> None:
    for name, entry in beat_schedule().items():
        sender.conf.beat_schedule.setdefault(name, entry)


# Whichever comes first: the app is finalised after this module is found, or was before.
current_app.on_after_finalize.connect(_register, weak=False)
if getattr(current_app, "finalized", False):
    _register(current_app)
