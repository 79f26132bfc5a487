"""What was paid for through the service, for buyers to find (x402 v2, section 8).

Listed is what was settled, under an address of one of the key's origins. The price is what the
seller asked of us. Everything else in a payment's copy of a challenge went through the buyer's
hands, who may write anything into it, and is left out (threat 22).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from django.db import DatabaseError

from x402_django import clock
from x402_django.models import FacilitatorKey, ListedResource
from x402_django.models.origins import canonical
from x402_django.protocol.facilitation import FacilitationRequest

logger = logging.getLogger("x402_django.payments")

#: Ways to pay that are kept for one resource, and resources for one key.
_MAX_ACCEPTS: Final = 10
_MAX_RESOURCES: Final = 1000
_MAX_URL: Final = 500
#: A resource that is sold all the time is not written all the time.
_FRESH: Final = timedelta(minutes=1)

_SAME: Final = ("scheme", "network", "asset", "payTo")


def list_resource(request: FacilitationRequest, key: FacilitatorKey) -> None:
    """List what was just paid for, if ``key`` wants that. Never raises for the database's sake."""
    address = canonical(request.resource_url)
    if address is None or address[0] not in key.origins or len("".join(address)) > _MAX_URL:
        return
    try:
        _write("".join(address), request, key)
    except DatabaseError:
        # The money has moved; that nobody can look it up in a list changes nothing.
        logger.exception("A resource could not be listed.")


def listed_resources(*, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """One page of the list, last paid first, and how many there are in all."""
    rows = ListedResource.objects.filter(hidden=False, key__revoked_at__isnull=True)
    page = [
        {
            "resource": row.url,
            "type": "http",
            "x402Version": row.x402_version,
            "accepts": row.accepts,
            "lastUpdated": int(row.last_paid_at.timestamp()),
        }
        for row in rows[offset : offset + limit]
    ]
    return page, rows.count()


def _write(url: str, request: FacilitationRequest, key: FacilitatorKey) -> None:
    now = clock.now()
    row = ListedResource.objects.filter(key=key, url=url).first()
    if row is None:
        if ListedResource.objects.filter(key=key).count() >= _MAX_RESOURCES:
            logger.warning("Key %s has as many resources listed as it may.", key.prefix)
            return
        row, created = ListedResource.objects.get_or_create(
            key=key,
            url=url,
            defaults={
                "x402_version": request.version,
                "accepts": [dict(request.requirements)],
                "first_paid_at": now,
                "last_paid_at": now,
            },
        )
        if created:
            return
    accepts = _merged(row.accepts, request.requirements)
    if accepts == row.accepts and row.last_paid_at > now - _FRESH:
        return
    row.accepts, row.x402_version, row.last_paid_at = accepts, request.version, now
    row.save(update_fields=["accepts", "x402_version", "last_paid_at"])


def _merged(known: list[dict[str, Any]], paid: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ways to pay with the one just used, first of its kind: its price may be new."""
    others = [one for one in known if any(one.get(name) != paid[name] for name in _SAME)]
    return [dict(paid), *others][:_MAX_ACCEPTS]
