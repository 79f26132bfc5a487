"""What this process has done, counted for Prometheus (the extra ``prometheus``).

Counted as it happens, by the signals; ``gauges`` reads from the ledger what is so now. Several
processes of one machine share their counts where ``PROMETHEUS_MULTIPROC_DIR`` is set, as the
client library documents.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from x402_django import signals
from x402_django.constants import Code
from x402_django.models import Payment

#: Reasons that are counted by their names. Others come from elsewhere, and may be any number.
_CODES: Final = frozenset(
    value for name, value in vars(Code).items() if name.isupper() and isinstance(value, str)
)
#: Seconds, from a claim to its settlement.
_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 300)

_EVENTS: Final = {
    "verified": signals.payment_verified,
    "settled": signals.payment_settled,
    "confirmed": signals.payment_confirmed,
    "failed": signals.payment_failed,
    "reversed": signals.payment_reversed,
    "delivered": signals.payment_delivered,
}


def is_available() -> bool:
    """Whether the client library is installed."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        return False
    return True


def connect() -> None:
    """Count from now on. Does nothing where the library is not installed (``check`` says so)."""
    if not is_available():
        return
    signals.challenge_sent.connect(_count_challenge, dispatch_uid="x402_django.counters")
    for event, signal in _EVENTS.items():
        receiver = _receiver(event)
        signal.connect(receiver, weak=False, dispatch_uid=f"x402_django.counters.{event}")


def disconnect() -> None:
    """Count no more."""
    signals.challenge_sent.disconnect(dispatch_uid="x402_django.counters")
    for event, signal in _EVENTS.items():
        signal.disconnect(dispatch_uid=f"x402_django.counters.{event}")


def bounded(code: str) -> str:
    """``code`` as a label: one of ours, or ``other``."""
    return code if code in _CODES else "other"


@lru_cache(maxsize=1)
def _metrics() -> dict[str, Any]:
    from prometheus_client import Counter, Histogram

    return {
        "challenges": Counter(
            "x402_challenges", "Requests that were answered 402, by the reason.", ["code"]
        ),
        "payments": Counter(
            "x402_payments", "What happened to payments.", ["event", "network", "flow"]
        ),
        "failures": Counter(
            "x402_failures", "Payments that failed or expired, by the reason.", ["code"]
        ),
        "revenue": Counter(
            "x402_revenue_usd", "US dollars that settled, as priced.", ["network", "asset"]
        ),
        "seconds": Histogram(
            "x402_settlement_seconds",
            "Seconds from a claim to its settlement.",
            ["network", "flow"],
            buckets=_BUCKETS,
        ),
    }


def _count_challenge(sender: object, *, code: str, **kwargs: object) -> None:
    _metrics()["challenges"].labels(bounded(code)).inc()


def _receiver(event: str) -> Any:
    def count(sender: object, *, payment: Payment, **kwargs: object) -> None:
        _metrics()["payments"].labels(event, payment.network, payment.flow).inc()
        if event == "failed":
            _metrics()["failures"].labels(bounded(payment.failure_code)).inc()
        elif event == "settled":
            _count_settlement(payment)

    return count


def _count_settlement(payment: Payment) -> None:
    if payment.price_usd is not None:
        revenue = _metrics()["revenue"].labels(payment.network, payment.asset_symbol)
        revenue.inc(float(payment.price_usd))
    if payment.settled_at is not None:
        seconds = (payment.settled_at - payment.created_at).total_seconds()
        _metrics()["seconds"].labels(payment.network, payment.flow).observe(max(seconds, 0))
