"""What a paid request costs when verifying and settling cost nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from benchmarks.challenge import gets
from benchmarks.databases import POSTGRES, POSTGRES_NOWAIT, SQLITE, configured, using
from benchmarks.measure import Side, added, ratio, run_in_turns
from benchmarks.payments import offer_of, signed_headers
from benchmarks.report import Report
from benchmarks.settings import NETWORK, PAY_TO
from benchmarks.site import Site
from benchmarks.wsgi import call, environ_for

PATH = "/paid/weather"
#: Statements that only begin and end transactions.
CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


def run(site: Site, report: Report, *, quick: bool) -> None:
    """Ours on each database, the official middleware, and what neither can do without."""
    from benchmarks import official
    from benchmarks.facilitators import InstantClient

    client = InstantClient(NETWORK)
    flask = official.paid_app(client, network=NETWORK, pay_to=PAY_TO)
    pay_us = partial(paying, offer_of(call(site.gated, environ_for(PATH))))
    pay_them = partial(paying, offer_of(call(flask, environ_for(PATH))))

    ours = {
        name: Side(f"x402-django on {name}", site.gated, pay_us, 200, partial(using, name))
        for name in configured()
    }
    theirs = Side("official Flask middleware (no ledger)", flask, pay_them, 200)
    base = Side("bare Django view + facilitator", site.bare, gets("/facilitated/weather"), 200)
    bare_flask = Side("bare Flask view", official.bare_app(), gets("/weather"), 200)
    commits = Side(
        "three one-row commits alone, PostgreSQL",
        three_commits,
        gets("/"),
        200,
        partial(using, POSTGRES),
    )
    sides = [*ours.values(), theirs, base, bare_flask]
    if POSTGRES in ours:
        sides.insert(len(ours), commits)
    rounds, calls = (2, 20) if quick else (15, 100)
    with scratch_table() if POSTGRES in ours else nullcontext():
        run_in_turns(sides, rounds=rounds, calls=calls)

    report.heading(f"A paid request ({rounds} rounds of {calls} requests a side, in turns)")
    main = ours.get(POSTGRES, ours[SQLITE])
    report.sides(sides, main)
    report.line(
        f"the official middleware adds {added(theirs, bare_flask, 50):.3f} ms to its view "
        f"(p95 {added(theirs, bare_flask, 95):.3f})"
    )
    for name, side in ours.items():
        report.line(
            f"x402-django on {name} adds {added(side, base, 50):.3f} ms to view and facilitator "
            f"(p95 {added(side, base, 95):.3f}), {ratio(side, theirs):.1f} times theirs in all"
        )
    _judge(site, report, ours, base, commits)


def _judge(site: Site, report: Report, ours: dict[str, Side], base: Side, commits: Side) -> None:
    if POSTGRES in ours:
        side = ours[POSTGRES]
        p50, p95 = added(side, base, 50), added(side, base, 95)
        report.wanted(
            "a paid request adds at most 3 ms on PostgreSQL",
            f"p50 {p50:.2f} ms, p95 {p95:.2f} ms",
            p50 <= 3 and p95 <= 3,
        )
        report.line(
            f"it waits three times for the disk: three commits of one row alone take "
            f"{commits.percentile(50):.2f} ms (p95 {commits.percentile(95):.2f}) on this server"
        )
        beyond = p50 - commits.percentile(50)
        report.wanted(
            "of which beyond three such commits at most 3 ms", f"{beyond:.2f} ms", beyond <= 3
        )
        beyond = added(ours[POSTGRES_NOWAIT], base, 50)
        report.wanted(
            "and with synchronous_commit=off at most 3 ms", f"p50 {beyond:.2f} ms", beyond <= 3
        )
    else:
        report.not_measured("a paid request on PostgreSQL", site.no_postgres)
    for name in (SQLITE, POSTGRES):
        if name not in ours:
            continue
        statements, control = statements_of_payment(site, name)
        report.wanted(
            f"at most 6 statements per paid request on {name}",
            f"{statements} (with BEGIN and COMMIT {statements + control})",
            statements <= 6,
        )


def paying(offer: dict[str, Any], count: int, path: str = PATH) -> list[dict[str, Any]]:
    """The environs of ``count`` requests for ``path``, each with a payment of its own."""
    return [environ_for(path, headers) for headers in signed_headers(offer, count)]


def statements_of_payment(site: Site, database: str) -> tuple[int, int]:
    """Statements of one paid request, and how many more begin and end transactions."""
    from django.db import connections
    from django.test.utils import CaptureQueriesContext

    with using(database):
        offer = offer_of(call(site.gated, environ_for(PATH)))
        (environ,) = paying(offer, 1)
        with CaptureQueriesContext(connections["default"]) as captured:
            answer = call(site.gated, environ)
    if answer.status != 200:
        raise RuntimeError(f"the payment was not accepted: {answer.status}")
    control = sum(query["sql"].upper().startswith(CONTROL) for query in captured)
    return len(captured) - control, control


def three_commits(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """A WSGI application that does nothing but what a paid request cannot do without on disk."""
    from django.db import connections

    with connections["default"].cursor() as cursor:
        for number in range(3):
            cursor.execute("INSERT INTO x402_bench_scratch VALUES (%s)", [number])
    start_response("200 OK", [])
    return []


@contextmanager
def scratch_table() -> Iterator[None]:
    """The table of ``three_commits``."""
    from django.db import connections

    with using(POSTGRES), connections["default"].cursor() as cursor:
        cursor.execute("CREATE TABLE x402_bench_scratch (n integer)")
    try:
        yield
    finally:
        with using(POSTGRES), connections["default"].cursor() as cursor:
            cursor.execute("DROP TABLE x402_bench_scratch")
