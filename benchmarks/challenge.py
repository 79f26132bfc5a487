"""What it costs to say what something costs: the 402."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Requests, Side, ratio, run_in_turns
from benchmarks.report import Report
from benchmarks.settings import NETWORK, PAY_TO
from benchmarks.site import Site
from benchmarks.wsgi import call, environ_for


def gets(path: str) -> Requests:
    """Plain GETs without a payment."""
    return lambda count: [environ_for(path) for _ in range(count)]


def run(site: Site, report: Report, *, quick: bool) -> None:
    """Ours, the official middleware's, and whole responses of the free view."""
    from benchmarks import official
    from benchmarks.facilitators import InstantClient

    client = InstantClient(NETWORK)
    flask = official.paid_app(client, network=NETWORK, pay_to=PAY_TO)
    ours = Side("402 of x402-django", site.gated, gets("/paid/weather"), 402)
    theirs = Side("402 of the official Flask middleware", flask, gets("/paid/weather"), 402)
    free = Side("200 of the bare Django view", site.bare, gets("/weather"), 200)
    gated = Side("200 of a free view behind our gate", site.gated, gets("/weather"), 200)
    bare_flask = Side("200 of the bare Flask view", official.bare_app(), gets("/weather"), 200)
    sides = (ours, theirs, free, gated, bare_flask)
    rounds, calls = (3, 50) if quick else (21, 300)
    run_in_turns(sides, rounds=rounds, calls=calls)

    report.heading(f"A 402 challenge ({rounds} rounds of {calls} requests a side, in turns)")
    report.sides(sides, ours)
    against = ratio(ours, theirs)
    report.wanted("a 402 costs less than the official one", f"{against:.2f} of it", against < 1)
    against = ratio(ours, free)
    report.wanted(
        "a 402 costs at most twice a bare view's response", f"{against:.2f} times", against <= 2
    )
    count = queries_of_challenge(site)
    report.wanted("0 queries on a challenge", str(count), count == 0)


def queries_of_challenge(site: Site) -> int:
    """Queries of one challenge (price rules are read once in RULES_MAX_AGE seconds, before it)."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    answers: list[Any] = [call(site.gated, environ_for("/paid/weather"))]
    with CaptureQueriesContext(connection) as captured:
        answers.append(call(site.gated, environ_for("/paid/weather")))
    if {answer.status for answer in answers} != {402}:
        raise RuntimeError("the paid view did not ask for a payment")
    return len(captured)
