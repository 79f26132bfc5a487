"""How many challenges were sent, without a write for each.

A request without a payment writes nothing, and this keeps it so: each process counts in memory, and
writes its sums down at the end of a request, when the answer has left already, at most once in
``CHALLENGE_COUNT_INTERVAL``. After a quiet time the first one is written at once, so that a site
with few visitors loses none. What was counted since is written when the process ends, and lost if
it is killed or, as under uvicorn, ends by a signal. These are figures, not money.
"""

from __future__ import annotations

import atexit
import logging
from collections import Counter
from datetime import date
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.core.signals import request_finished
from django.db import Error, IntegrityError, router, transaction
from django.db.models import F

from x402_django.conf import x402
from x402_django.desk.days import today
from x402_django.models import ChallengeCount
from x402_django.payments.counters import bounded
from x402_django.signals import challenge_sent

if TYPE_CHECKING:
    from x402_django.pricing import Quote

logger = logging.getLogger("x402_django.desk")

_UID: Final = "x402_django.desk.challenges"


class Key(NamedTuple):
    """What challenges are counted by."""

    day: date
    merchant_id: int
    rule_name: str
    code: str


_counts: Counter[Key] = Counter()
_lock = Lock()
#: When sums were written last, as ``monotonic`` has it.
_written: float | None = None


def connect() -> None:
    """Count from now on, where ``CHALLENGE_COUNT_INTERVAL`` is not None."""
    global _written
    _written = None
    challenge_sent.connect(_count, dispatch_uid=_UID)
    request_finished.connect(_flush_when_due, dispatch_uid=_UID)
    atexit.register(flush)


def disconnect() -> None:
    """Count no more, and drop what is not written down."""
    challenge_sent.disconnect(dispatch_uid=_UID)
    request_finished.disconnect(dispatch_uid=_UID)
    atexit.unregister(flush)
    _take()


def _count(sender: object, *, quote: Quote, code: str, **kwargs: Any) -> None:
    if x402.challenge_count_interval is None:
        return
    key = Key(today(), quote.merchant_id, quote.rule_name[:100], bounded(code))
    with _lock:
        _counts[key] += 1


def _flush_when_due(sender: object, **kwargs: Any) -> None:
    interval = x402.challenge_count_interval
    if _counts and interval is not None and _is_due(interval):
        flush()


def _is_due(interval: float) -> bool:
    return _written is None or monotonic() - _written >= interval


def flush() -> None:
    """Write down what this process has counted. If that fails, it is tried again later."""
    global _written
    _written = monotonic()
    taken = _take()
    if not taken:
        return
    try:
        _add(taken)
    except IntegrityError:
        logger.warning("Challenges of a merchant that is no more are not written down.")
    except Error as error:
        logger.warning("Challenges could not be written down: %s", type(error).__name__)
        _put_back(taken)


def _take() -> Counter[Key]:
    with _lock:
        taken = Counter(_counts)
        _counts.clear()
    return taken


def _put_back(taken: Counter[Key]) -> None:
    with _lock:
        _counts.update(taken)


def _add(taken: Counter[Key]) -> None:
    """Add to the rows, each in the same order in every process: nobody waits in a circle."""
    with transaction.atomic(using=router.db_for_write(ChallengeCount)):
        keys = sorted(taken)
        ChallengeCount.objects.bulk_create(
            [ChallengeCount(**key._asdict()) for key in keys], ignore_conflicts=True
        )
        for key in keys:
            ChallengeCount.objects.filter(**key._asdict()).update(count=F("count") + taken[key])
