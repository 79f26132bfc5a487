"""Lists that stay fast over a million rows.

Three things in Django's change list read the whole table: the count, the years and months of
``date_hierarchy`` (``SELECT DISTINCT`` over every row), and deep ``OFFSET``. Here the count stops
at a bound, which bounds the offset too, and the periods are reckoned from the first and the last
date, which an index gives.
"""

from __future__ import annotations

import calendar
import datetime
from typing import TYPE_CHECKING, Any

from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import Count
from django.utils import formats, timezone
from django.utils.functional import cached_property
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from x402_django.models import ExactSum
from x402_django.pricing.money import format_amount
from x402_django.protocol import networks

if TYPE_CHECKING:
    from django.db.models import QuerySet

#: Rows that a list counts and pages through. Who looks for more narrows the list.
COUNT_LIMIT = 10_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts at most ``COUNT_LIMIT`` rows, and so never jumps further than that."""

    @cached_property
    def counted(self) -> int:
        """The number of rows, or ``COUNT_LIMIT + 1`` for "more"."""
        queryset: Any = self.object_list
        return int(queryset.order_by().values("pk")[: COUNT_LIMIT + 1].count())

    @cached_property
    def count(self) -> int:
        return min(self.counted, COUNT_LIMIT)

    @property
    def is_truncated(self) -> bool:
        """Whether there are more rows than were counted."""
        return self.counted > COUNT_LIMIT


class LedgerChangeList(ChangeList):
    """The change list of ``LedgerAdmin``; ``templates/admin/x402_django/change_list.html``."""

    @property
    def is_truncated(self) -> bool:
        """Whether the list goes on beyond what was counted."""
        return bool(getattr(self.paginator, "is_truncated", False))

    @property
    def count_limit(self) -> int:
        """The bound, for the sentence under the list."""
        return COUNT_LIMIT

    @cached_property
    def estimated_total(self) -> int | None:
        """About how many rows the table has, where the database knows without counting."""
        connection = connections[self.root_queryset.db]
        if connection.vendor != "postgresql":
            return None
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)",
                [connection.ops.quote_name(self.opts.db_table)],
            )
            row = cursor.fetchone()
        return int(row[0]) if row and row[0] > COUNT_LIMIT else None

    @cached_property
    def totals(self) -> list[dict[str, Any]]:
        """What was paid in this list, per token, exactly; empty when the list is too long."""
        totalled = getattr(self.model_admin, "totalled", None)
        if totalled is None or self.is_truncated:
            return []
        token = ("network", "asset", "asset_symbol", "asset_decimals")
        paid: QuerySet[Any] = totalled(self.queryset)
        sums = (
            paid.order_by(*token).values(*token).annotate(sum=ExactSum("amount"), rows=Count("pk"))
        )
        return [
            {
                "amount": format_amount(row["sum"], row["asset_decimals"], row["asset_symbol"]),
                "network": networks.display_name(row["network"]),
                "rows": row["rows"],
            }
            for row in sums
        ]

    @cached_property
    def periods(self) -> dict[str, Any]:
        """The context of Django's ``admin/date_hierarchy.html``, without reading every row."""
        name = str(self.date_hierarchy)
        year, month, day = (self._chosen(f"{name}__{part}") for part in ("year", "month", "day"))
        span = self._span(name, year, month)
        if span is None:
            return {"show": False}
        first, last = span
        if year is None and first.year == last.year:
            year = first.year
            if first.month == last.month:
                month = first.month
        if year is None:
            return self._period_context(
                [(str(y), {"year": y}) for y in range(first.year, last.year + 1)], None
            )
        if month is None:
            return self._period_context(self._months(year, first, last), (_("All dates"), {}))
        if day is None:
            back = (str(year), {"year": year})
            return self._period_context(self._days(year, month, first, last), back)
        date = datetime.date(year, month, day)
        back = (_month_title(date), {"year": year, "month": month})
        return self._period_context([(_day_title(date), None)], back)

    def _chosen(self, parameter: str) -> int | None:
        value = self.get_filters_params().get(parameter)
        text = value[-1] if isinstance(value, list) else value
        return int(text) if text else None

    def _span(
        self, name: str, year: int | None, month: int | None
    ) -> tuple[datetime.date, datetime.date] | None:
        """First and last date: of the chosen period itself, or else from the ends of an index."""
        if year is not None:
            last_month = month or 12
            last_day = calendar.monthrange(year, last_month)[1]
            return datetime.date(year, month or 1, 1), datetime.date(year, last_month, last_day)
        # Of the whole table, not of the filtered list: a filter that matches little would make
        # the database walk the index to its end.
        dates = self.root_queryset.order_by(name).values_list(name, flat=True)
        first = dates.first()
        if first is None:
            return None
        last = dates.reverse().first()
        return _local_date(first), _local_date(last or first)

    def _months(self, year: int, first: datetime.date, last: datetime.date) -> list[Any]:
        start = first.month if first.year == year else 1
        end = last.month if last.year == year else 12
        return [
            (_month_title(datetime.date(year, month, 1)), {"year": year, "month": month})
            for month in range(start, end + 1)
        ]

    def _days(self, year: int, month: int, first: datetime.date, last: datetime.date) -> list[Any]:
        dates = (
            datetime.date(year, month, day)
            for day in range(1, calendar.monthrange(year, month)[1] + 1)
        )
        return [
            (_day_title(date), {"year": year, "month": month, "day": date.day})
            for date in dates
            if first <= date <= last
        ]

    def _period_context(
        self,
        choices: list[tuple[str, dict[str, int] | None]],
        back: tuple[str, dict[str, int]] | None,
    ) -> dict[str, Any]:
        return {
            "show": True,
            "back": back and {"title": back[0], "link": self._period_link(back[1])},
            "choices": [
                {"title": title, "link": None if chosen is None else self._period_link(chosen)}
                for title, chosen in choices
            ],
        }

    def _period_link(self, chosen: dict[str, int]) -> str:
        name = self.date_hierarchy
        return self.get_query_string(
            {f"{name}__{part}": value for part, value in chosen.items()}, [f"{name}__"]
        )


def _local_date(when: datetime.datetime) -> datetime.date:
    # Naive where the site has USE_TZ off.
    return (timezone.localtime(when) if timezone.is_aware(when) else when).date()


def _month_title(date: datetime.date) -> str:
    return capfirst(formats.date_format(date, "YEAR_MONTH_FORMAT"))


def _day_title(date: datetime.date) -> str:
    return capfirst(formats.date_format(date, "MONTH_DAY_FORMAT"))
