"""Days, in the site's ``TIME_ZONE``: the days that are counted, shown and chosen."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, tzinfo

from django.utils import timezone

from x402_django import clock


def zone_name() -> str:
    """The time zone in which days are cut."""
    return timezone.get_default_timezone_name()


def day_at(moment: datetime) -> date:
    """The day that ``moment`` belongs to."""
    return timezone.localtime(moment, timezone.get_default_timezone()).date()


#: A day, when it begins and ends, and in which time zone: asked for at each challenge.
_latest: tuple[date, datetime, datetime, tzinfo] | None = None


def today() -> date:
    """The day that it is now."""
    global _latest
    now, zone = clock.now(), timezone.get_default_timezone()
    known = _latest
    if known is not None and known[3] is zone and known[1] <= now < known[2]:
        return known[0]
    day = day_at(now)
    _latest = (day, *bounds(day), zone)
    return day


def bounds(day: date) -> tuple[datetime, datetime]:
    """When ``day`` begins, and when the next one does; 23 to 25 hours lie between them."""
    zone = timezone.get_default_timezone()
    begin, end = (
        timezone.make_aware(datetime.combine(one, time.min), zone)
        for one in (day, day + timedelta(days=1))
    )
    return begin, end


def days_between(first: date, last: date) -> list[date]:
    """From ``first`` to ``last``, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
