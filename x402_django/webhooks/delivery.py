"""Who sends what and when. At least once: the receiver drops a ``webhook-id`` it has seen.

A delivery is taken by one conditional UPDATE that also says until when; a worker that dies while
it sends loses it then. What a worker writes afterwards counts only while the delivery is its own.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import router, transaction
from django.db.models import F, QuerySet

from x402_django import clock
from x402_django.exceptions import ConfigurationError
from x402_django.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookMessage
from x402_django.payments.periodic import recorded
from x402_django.webhooks import outbox, signing
from x402_django.webhooks.addresses import validate_url
from x402_django.webhooks.answers import Answer
from x402_django.webhooks.secrets import in_force

logger = logging.getLogger("x402_django.webhooks")

State = WebhookDelivery.State

#: Seconds until the next attempt, after the first, the second and so on (Standard Webhooks).
SCHEDULE: Final = (5, 300, 1800, 7200, 18_000, 36_000, 36_000)
#: Each is made longer by up to this share, so that what failed together does not return together.
JITTER: Final = 0.2
#: Longer than any exchange: see ``sending.TIMEOUT``; name look-ups have the system's own bound.
LEASE: Final = timedelta(minutes=2)
#: An endpoint that has failed for so long, without one success, is turned off.
OFF_AFTER: Final = timedelta(days=5)
#: Deliveries that one sweep hands out.
AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Swept:
    """Messages that were written, and the keys of the deliveries that are due."""

    written: int
    due: list[int]

    def __str__(self) -> str:
        return f"messages written: {self.written}, deliveries due: {len(self.due)}"


@recorded("send_webhooks")
def sweep() -> Swept:
    """Write the messages of what happened, and say which deliveries are due."""
    written = outbox.write_messages()
    rows = _due().order_by("next_attempt_at").values_list("pk", flat=True)
    return Swept(written, list(rows[:AT_ONCE]))


def deliver(delivery_id: int) -> bool:
    """Send one delivery if it is due and nobody else does. Whether it arrived."""
    held = _take(delivery_id)
    if held is None:
        return False
    answer = _send(held)
    _record(held, answer)
    logger.info(
        "Webhook %s to %s: %s.",
        held.message.message_id,
        held.endpoint.name,
        answer.error or answer.status,
    )
    return not answer.error


def send_again(deliveries: QuerySet[WebhookDelivery]) -> int:
    """Queue what is over, delivered or not, once more with the same message id. How many.

    Not those whose message ``x402_prune`` has emptied.
    """
    emptied = WebhookMessage.objects.filter(body="")
    over = deliveries.exclude(state=State.PENDING).exclude(message__in=emptied)
    return over.update(
        state=State.PENDING, attempts=0, lease=F("lease") + 1, next_attempt_at=clock.now()
    )


def _due() -> QuerySet[WebhookDelivery]:
    # Not by a join: PostgreSQL looks at a row again after waiting for its lock only where the
    # UPDATE itself has the condition.
    return WebhookDelivery.objects.filter(
        state=State.PENDING,
        next_attempt_at__lte=clock.now(),
        endpoint__in=WebhookEndpoint.objects.filter(is_active=True),
    )


def _take(delivery_id: int) -> WebhookDelivery | None:
    taken = (
        _due()
        .filter(pk=delivery_id)
        .update(
            next_attempt_at=clock.now() + LEASE, lease=F("lease") + 1, attempts=F("attempts") + 1
        )
    )
    if not taken:
        return None
    return WebhookDelivery.objects.select_related("message", "endpoint").get(pk=delivery_id)


def _send(held: WebhookDelivery) -> Answer:
    from x402_django.webhooks.sending import post  # loads an HTTP client: not with the admin

    try:
        validate_url(held.endpoint.url)
        secrets_in_force = in_force(held.endpoint)
    except ValidationError:
        return Answer(None, "invalid_url", 0)
    except ConfigurationError as error:
        logger.error("Webhook endpoint %s: %s", held.endpoint.name, error)
        return Answer(None, "secret_unreadable", 0)
    message = held.message
    if not message.body:
        return Answer(None, "pruned", 0)  # queued again while x402_prune emptied it
    headers = signing.headers(message.message_id, clock.timestamp(), message.body, secrets_in_force)
    return post(held.endpoint.url, headers, message.body.encode())


def _record(held: WebhookDelivery, answer: Answer) -> None:
    """The attempt, and what follows from it, in one transaction."""
    now = clock.now()
    outcome: dict[str, Any] = {"last_status": answer.status, "last_error": answer.error}
    if not answer.error:
        outcome["state"] = State.DELIVERED
    elif held.attempts > len(SCHEDULE):
        outcome["state"] = State.GIVEN_UP
    else:
        outcome["next_attempt_at"] = now + _pause(held.attempts)
    with transaction.atomic(using=router.db_for_write(WebhookDelivery)):
        WebhookAttempt.objects.create(
            delivery=held,
            at=now,
            status=answer.status,
            milliseconds=answer.milliseconds,
            error_code=answer.error,
            answer=answer.text,
        )
        WebhookDelivery.objects.filter(pk=held.pk, state=State.PENDING, lease=held.lease).update(
            **outcome
        )
        _judge(held.endpoint, answer)


def _pause(attempts: int) -> timedelta:
    share = 1 + JITTER * secrets.SystemRandom().random()
    return timedelta(seconds=SCHEDULE[attempts - 1] * share)


def _judge(endpoint: WebhookEndpoint, answer: Answer) -> None:
    """Remember since when an endpoint fails; turn off one that is gone or fails for days."""
    now = clock.now()
    rows = WebhookEndpoint.objects.filter(pk=endpoint.pk)
    if not answer.error:
        rows.filter(failing_since__isnull=False).update(failing_since=None)
        return
    rows.filter(failing_since__isnull=True).update(failing_since=now)
    if answer.status == 410:
        off = rows.filter(is_active=True).update(is_active=False, off_reason="410 Gone")
    else:
        off = rows.filter(is_active=True, failing_since__lt=now - OFF_AFTER).update(
            is_active=False, off_reason=answer.error
        )
    if off:
        logger.error("Webhook endpoint %s is turned off: %s.", endpoint.name, answer.error)
