"""Filling a ledger, from an empty database to one that somebody can look at."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import StringIO
from random import Random
from typing import Any, Final

from django.db import connection, models, transaction
from django.db.models import Max

from demo_project.errors import DemoError
from demo_project.seed import fates
from demo_project.seed.books import TABLES, Books
from demo_project.seed.filling import Rows, fill, tidy
from demo_project.seed.market import Market
from demo_project.seed.seasons import bursts
from x402_django.management.progress import Progress
from x402_django.models import ChainTransaction, Payment

#: Payments of which the rows are kept in memory at once.
_AT_ONCE: Final = 5_000
#: Payments that are still under way: one in so many, at least and at most.
_UNDER_WAY: Final = 1_000
_FEWEST_UNDER_WAY: Final = 60
_MOST_UNDER_WAY: Final = 2_000


@dataclass(frozen=True, slots=True)
class Filled:
    """What was done: payments, and the seconds that each step took."""

    payments: int
    seconds: dict[str, float]

    @property
    def rate(self) -> float:
        """Payments per second, all steps together."""
        return self.payments / max(sum(self.seconds.values()), 0.001)


def seed_ledger(
    rows: int,
    *,
    add: bool = False,
    number: int = 402,
    regulars: Sequence[str] = (),
    stream: Any = None,
) -> Filled:
    """Put ``rows`` payments, and all that belongs to them, into the default database.

    ``number`` chooses among the ledgers that could be made. ``regulars`` are addresses of payers
    that are to buy most. Progress is shown on ``stream``. All or nothing is written.

    Raises DemoError if there are payments already and ``add`` is not set.
    """
    started = time.monotonic()
    with transaction.atomic():
        _lock()
        last = Payment.objects.aggregate(pk=Max("pk"))["pk"] or 0
        if last and not add:
            raise DemoError(
                "There are payments in this database, and made-up ones beside real ones cannot be "
                "told apart. Name an empty database in DATABASE_URL, or set ADD=1 if you mean it."
            )
        stream = StringIO() if stream is None else stream
        with Progress(stream, "payments", rows) as payments:
            seconds = fill(
                TABLES,
                _batches(rows, last, number, regulars, payments),
                rebuild=rows >= last,
                index_made=_bar(stream, payments),
            )
    seconds["commit"] = time.monotonic() - started - sum(seconds.values())
    return Filled(rows, seconds)


def tidy_up(filled: Filled) -> Filled:
    """Let the database know what it has got: statistics, and pages that all can see.

    Autovacuum does it too, later. Not inside a transaction.
    """
    return replace(filled, seconds={**filled.seconds, "vacuum": tidy(TABLES)})


def _lock() -> None:
    """Let nobody else write payments; on SQLite the transaction itself does."""
    if connection.vendor == "postgresql":
        table = connection.ops.quote_name(Payment._meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")


def _bar(stream: Any, before: Progress) -> Any:
    """Shows how many indexes are made."""
    bars: list[Progress] = []

    def made(done: int, total: int) -> None:
        if not bars:
            before.clear()
            bars.append(Progress(stream, "indexes", total))
        bars[0].at(done)
        if done == total:
            bars[0].clear()

    return made


def _batches(
    rows: int, last: int, number: int, regulars: Sequence[str], progress: Progress
) -> Iterator[Rows]:
    now = datetime.now(UTC)
    # Payers and wallets are those of the number, the rest also of what is there: nonces are used
    # once.
    market = Market(Random(number), rows, regulars)
    rng = Random(f"{number} {last}")
    books = Books(
        market,
        rng,
        now.timestamp(),
        first_payment=last,
        first_transaction=ChainTransaction.objects.aggregate(pk=Max("pk"))["pk"] or 0,
    )
    under_way = min(rows, max(_FEWEST_UNDER_WAY, min(rows // _UNDER_WAY, _MOST_UNDER_WAY)))
    done = kept = 0
    for start, count in bursts(rows - under_way, now, rng):
        books.buy(start, count)
        done, kept = done + count, kept + count
        if kept >= _AT_ONCE:
            yield books.take()
            kept = 0
            progress.at(done)
    stages = [(rng.uniform(*fate.ages), fate) for fate in fates.present(rng, under_way)]
    for age, fate in sorted(stages, key=lambda stage: -stage[0]):
        books.begin(fate, now.timestamp() - age)
    yield books.take()
    books.outbox.close(now.timestamp())
    progress.at(rows)


def counts() -> dict[str, int]:
    """Rows of each table, as a person would call them."""
    return {str(_label(model)): model._default_manager.count() for model in TABLES}


def _label(model: type[models.Model]) -> Any:
    return model._meta.verbose_name_plural
