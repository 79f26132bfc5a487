"""Sales and failures of a day, as rows."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from tests.admin.rows import make_event, make_payment, make_receipt
from x402_django.desk.following import count_days
from x402_django.models import ChallengeCount, Payment

#: What time it is in these tests: a Tuesday.
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
PAGE = "/admin/x402_django/desk/"

_numbers = count(1)


def day(days_ago: int) -> datetime:
    """Noon, so many days ago."""
    return NOW - timedelta(days=days_ago)


def sell(days_ago: int, usd: str | None = "0.01", *, seconds: float = 2, **changes: Any) -> Payment:
    """A sale for ``usd`` in a token with six decimals, settled ``seconds`` after it began."""
    settled = day(days_ago)
    price = None if usd is None else Decimal(usd)
    values = {
        "created_at": settled - timedelta(seconds=seconds),
        "settled_at": settled,
        "delivered_at": settled,
        "price_usd": price,
        "amount": int((price or Decimal(5)) * 10**6),
        **changes,
    }
    payment = make_payment(next(_numbers), **values)
    make_receipt(payment, issued_at=settled, merchant=payment.merchant)
    make_event(payment, at=settled)
    return payment


def fail(days_ago: int, code: str, state: str = "failed", **changes: Any) -> Payment:
    """A payment that came to nothing."""
    at = day(days_ago)
    values = {
        "state": state,
        "transaction": "",
        "settled_at": None,
        "delivered_at": None,
        "created_at": at,
        **changes,
    }
    payment = make_payment(next(_numbers), **values)
    make_event(payment, at=at, to_state=state, code=code)
    return payment


def ask(days_ago: int, times: int, *, merchant: int = 1, rule: str = "", **changes: Any) -> None:
    """So many challenges."""
    values = {"code": "payment_required", **changes}
    ChallengeCount.objects.create(
        day=date(2026, 3, 10) - timedelta(days=days_ago),
        merchant_id=merchant,
        rule_name=rule,
        count=times,
        **values,
    )


def shown(client: Any, **query: Any) -> Any:
    """The answer of the dashboard, after all days were counted."""
    count_days(budget=None)
    answer = client.get(PAGE, query)
    assert answer.status_code == 200
    return answer


def values(answer: Any, part: str = "tiles") -> dict[str, tuple[str, str]]:
    """The large numbers with their notes, by their names; spaces are plain ones."""
    return {
        tile["name"]: (_plain(tile["value"]), _plain(tile["note"])) for tile in answer.context[part]
    }


def _plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")
