"""Free requests that a rule gives away, as they are needed per request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.utils import timezone

if TYPE_CHECKING:
    from x402_django.models import PriceRule


@dataclass(frozen=True, slots=True)
class Quota:
    """``requests`` in each ``period`` ("hour", "day", "month") for each of ``per``."""

    requests: int
    period: str
    per: str

    def begins(self, moment: datetime) -> datetime:
        """When the period began that ``moment`` is in; days and months are the site's own."""
        local = timezone.localtime(moment)
        start = local.replace(minute=0, second=0, microsecond=0)
        if self.period != "hour":
            start = start.replace(hour=0)
        return start.replace(day=1) if self.period == "month" else start


def compile_quota(rule: PriceRule) -> Quota | None:
    """The quota of a row; None where it gives nothing away."""
    if not rule.free_requests:
        return None
    return Quota(rule.free_requests, rule.free_period, rule.free_per)
