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
from collections.abc import Mapping
from datetime import date
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

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


#: By day, merchant, rule and reason: the columns of ``_COLUMNS``.
Key = tuple[date, int, str, str]
_COLUMNS: Final = ("day", "merchant_id", "rule_name", "code")

_counts: dict[Key, int] = {}
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
    key = today(), quote.merchant_id, quote.rule_name, bounded(code)
    with _lock:
        _counts[key] = _counts.get(key, 0) + 1


def _flush_when_due(sender: object, **kwargs: Any) -> None:
    if not _counts:
        return
    interval = x402.challenge_count_interval
    if interval is None:
        _take()
    elif _written is None or monotonic() - _written >= interval:
        flush()


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


def _take() -> dict[Key, int]:
    with _lock:
        taken = dict(_counts)
        _counts.clear()
    return taken


def _put_back(taken: Mapping[Key, int]) -> None:
    with _lock:
        for key, count in taken.items():
            _counts[key] = _counts.get(key, 0) + count


def _add(taken: Mapping[Key, int]) -> None:
    """Add to the rows, each in the same order in every process: nobody waits in a circle."""
    with transaction.atomic(using=router.db_for_write(ChallengeCount)):
        rows = [(dict(zip(_COLUMNS, key, strict=True)), taken[key]) for key in sorted(taken)]
        ChallengeCount.objects.bulk_create(
            [ChallengeCount(**columns) for columns, _count in rows], ignore_conflicts=True
        )
        for columns, count in rows:
            ChallengeCount.objects.filter(**columns).update(count=F("count") + count)
