"""Periodic work that needs no chain: claims of dead processes, what is past its time."""

from __future__ import annotations

from datetime import timedelta

from x402_django import clock
from x402_django.conf import x402
from x402_django.exceptions import InvalidTransition
from x402_django.models import Payment, SpentNonce
from x402_django.payments.recording import release

State = Payment.State


def release_stale_claims(*, limit: int = 1000) -> int:
    """Release claims older than ``X402["CLAIM_TIMEOUT"]``; returns how many.

    Such a row's process died (or its view still runs, absurdly long: then its worker finds the
    row released and does not settle). Nothing was sent for it, or it would be ``settling``. What
    was delivered under the flow ``deferred`` is owed to the merchant and is never released.
    """
    deadline = clock.now() - timedelta(seconds=x402.claim_timeout)
    stale = Payment.objects.filter(
        state__in=(State.CLAIMED, State.VERIFIED),
        state_changed_at__lt=deadline,
        delivered_at__isnull=True,
    ).order_by("state_changed_at")
    released = 0
    for payment in stale.defer("response_body")[:limit]:
        try:
            release(
                payment,
                "The claim timed out: its process is taken for dead.",
                code="claim_timed_out",
                actor="maintenance",
            )
        except InvalidTransition:
            continue  # its worker moved on at this very moment
        released += 1
    return released


def purge_spent_nonces(*, limit: int = 1000) -> int:
    """Forget nonces of sign-ins that have expired; returns how many."""
    expired = SpentNonce.objects.filter(expires_at__lt=clock.now()).order_by("expires_at")
    forgotten, _ = SpentNonce.objects.filter(
        pk__in=list(expired.values_list("pk", flat=True)[:limit])
    ).delete()
    return forgotten


def purge_stored_responses(*, limit: int = 1000) -> int:
    """Empty stored responses past ``X402["RESPONSE_STORE_TTL"]``; returns how many."""
    expired = list(
        Payment.objects.filter(response_expires_at__lt=clock.now())
        .order_by("response_expires_at")
        .values_list("pk", flat=True)[:limit]
    )
    return Payment.objects.filter(pk__in=expired).update(
        response_body=None, response_headers=None, response_status=None, response_expires_at=None
    )
