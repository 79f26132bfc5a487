"""What a claim costs in a ledger of many payments, beside the same claim in an empty one.

``ROWS`` says how many; 200,000 by default, which takes a minute to make. Or ``LEDGER`` names a
PostgreSQL database that ``make seed`` has filled; the claims that are measured stay in it. The
empty ledger is a database of its own, measured in turns with the full one.
"""

from __future__ import annotations

import os
import secrets
import statistics
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter_ns
from typing import Final

from benchmarks.challenge import gets
from benchmarks.databases import POSTGRES, another, configured, postgres_database, using
from benchmarks.measure import Side, ratio, run_in_turns
from benchmarks.paid import paying
from benchmarks.payments import offer_of, payers, sample_payment
from benchmarks.report import Report
from benchmarks.site import Site
from benchmarks.wsgi import call, environ_for

PATH: Final = "/paid/weather"
EMPTY: Final = "an empty ledger"
FULL: Final = "a large ledger"
ROWS: Final = 200_000
QUICK_ROWS: Final = 5_000
WANTED: Final = 1.2


@dataclass(slots=True)
class Claims:
    """Times of claims alone, in milliseconds, by round."""

    name: str
    rounds: list[list[float]] = field(default_factory=list)

    @property
    def medians(self) -> list[float]:
        return [statistics.median(times) for times in self.rounds]


def run(site: Site, report: Report, *, quick: bool) -> None:
    """Skipped, with the reason, where there is no PostgreSQL."""
    report.heading("A claim among many payments")
    if POSTGRES not in configured():
        report.not_measured("the cost of a claim in a large ledger", site.no_postgres)
        return
    rows = int(os.environ.get("ROWS") or (QUICK_ROWS if quick else ROWS))
    ledger = os.environ.get("LEDGER")
    with ExitStack() as stack:
        _open(stack, EMPTY)
        with using(EMPTY):
            _fill(report, 0)
        full = _open(stack, FULL, ledger)
        with using(full):
            if ledger is None:
                _fill(report, rows)
            report.line(f"{_size():,} payments in the ledger")
        rounds, calls = (2, 50) if quick else (10, 200)
        _alone(report, full, rounds=rounds, calls=calls)
        _in_a_request(site, report, full, rounds=rounds, calls=calls // 2)


def _open(stack: ExitStack, name: str, url: str | None = None) -> str:
    """Have the database at ``url``, or a new one, under ``name``."""
    if url is None:
        url, _ = stack.enter_context(postgres_database())
    stack.enter_context(another(name, url or ""))
    return name


def _size() -> int:
    from x402_django.models import Payment

    return Payment.objects.count()


def _fill(report: Report, rows: int) -> None:
    from django.core.management import call_command

    from demo_project.seed.ledger import seed_ledger, tidy_up

    call_command("migrate", verbosity=0)
    if rows:
        regulars = [payer.address for payer in payers()]  # who claims has bought before, and much
        filled = tidy_up(seed_ledger(rows, regulars=regulars))
        report.line(f"{rows:,} payments were made, {filled.rate:,.0f} a second")


def _alone(report: Report, full: str, *, rounds: int, calls: int) -> None:
    sides = (Claims(EMPTY), Claims(full))
    for side in sides:
        _claim_often(side, calls // 4)
        side.rounds.clear()
    for number in range(rounds):
        for side in sides if number % 2 == 0 else sides[::-1]:
            _claim_often(side, calls)
    empty, many = sides
    rows = [(side.name, f"{statistics.median(side.medians):.3f}") for side in sides]
    report.table(("the claim alone, milliseconds", "median"), rows)
    pairs = zip(many.medians, empty.medians, strict=True)
    times = statistics.median(a / b for a, b in pairs)
    report.wanted(f"a claim in {full} ≤ {WANTED} ×", f"{times:.2f} ×", times <= WANTED)


def _claim_often(side: Claims, calls: int) -> None:
    from x402_django.payments.claims import claim
    from x402_django.payments.facts import RequestFacts
    from x402_django.pricing.quotes import Quote

    sample = sample_payment()
    quote = Quote((sample.offer,), "authorization", "", "", None, None, "")
    signed = [
        replace(sample, payer=payer.address, nonce="0x" + secrets.token_hex(32))
        for _ in range(calls // len(payers()) + 1)
        for payer in payers()
    ][:calls]
    facts = [RequestFacts("GET", sample.resource_url, secrets.token_hex(32)) for _ in signed]
    times = []
    with using(side.name):
        for one, of_what in zip(signed, facts, strict=True):
            started = perf_counter_ns()
            claim(one, quote, of_what)
            times.append((perf_counter_ns() - started) / 1e6)
    side.rounds.append(times)


def _in_a_request(site: Site, report: Report, full: str, *, rounds: int, calls: int) -> None:
    pay = partial(paying, offer_of(call(site.gated, environ_for(PATH))), path=PATH)
    sides = [Side(name, site.gated, pay, 200, partial(using, name)) for name in (EMPTY, full)]
    bare = Side("bare Django view", site.bare, gets("/weather"), 200)
    run_in_turns([*sides, bare], rounds=rounds, calls=calls)
    report.sides([*sides, bare], sides[1])
    times = ratio(sides[1], sides[0])
    report.wanted(f"a paid request in {full} ≤ {WANTED} ×", f"{times:.2f} ×", times <= WANTED)
