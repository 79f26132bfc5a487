"""Free requests are taken: by one conditional write, so that nobody gets more at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.db import router, transaction
from django.db.models import F
from django.utils.crypto import salted_hmac

from x402_django import clock
from x402_django.models import FreeQuota
from x402_django.pricing.quotas import Quota

_SALT: Final = "x402_django.payments.quotas"
#: Longer than any period.
_KEPT: Final = timedelta(days=40)


@dataclass(frozen=True, slots=True)
class TakenFree:
    """A free request that was taken, and how many are left."""

    quota_id: int
    left: int


def take_free(quota: Quota, rule_id: int, subject: str) -> TakenFree | None:
    """Take one for ``subject``, durably; None: there is none left in this period."""
    alias = router.db_for_write(FreeQuota)
    name = salted_hmac(_SALT, f"{quota.per}:{subject}", algorithm="sha256").hexdigest()
    begins = quota.begins(clock.now())
    with transaction.atomic(using=alias, durable=True):
        row, _created = FreeQuota.objects.using(alias).get_or_create(
            rule_id=rule_id, subject=name, begins_at=begins
        )
        rows = FreeQuota.objects.using(alias).filter(pk=row.pk, taken__lt=quota.requests)
        if not rows.update(taken=F("taken") + 1):
            return None
        taken = FreeQuota.objects.using(alias).values_list("taken", flat=True).get(pk=row.pk)
    return TakenFree(row.pk, quota.requests - taken)


def give_back_free(taken: TakenFree) -> None:
    """The view has failed: it was not a free request."""
    FreeQuota.objects.filter(pk=taken.quota_id, taken__gt=0).update(taken=F("taken") - 1)


def forget_old_quotas(*, limit: int = 1000) -> int:
    """Forget periods that are over; returns how many."""
    old = FreeQuota.objects.filter(begins_at__lt=clock.now() - _KEPT).order_by("begins_at")
    keys = list(old.values_list("pk", flat=True)[:limit])
    return FreeQuota.objects.filter(pk__in=keys).delete()[0]
