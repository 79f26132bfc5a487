"""What the dashboard costs over a ledger of many payments.

``ROWS`` says how many; 200,000 by default, which takes a minute to make. Or ``LEDGER`` names a
PostgreSQL database that ``make seed`` has filled, whose days are counted first if they are not.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from time import perf_counter
from typing import Final

from benchmarks.databases import POSTGRES, another, configured, postgres_database, using
from benchmarks.report import Report
from benchmarks.site import Site

NAME: Final = "a ledger with a dashboard"
ROWS: Final = 200_000
QUICK_ROWS: Final = 5_000
#: Of the first page, which shows thirty days.
WANTED_MS: Final = 300.0
WANTED_QUERIES: Final = 15


def run(site: Site, report: Report, *, quick: bool) -> None:
    """Skipped, with the reason, where there is no PostgreSQL."""
    report.heading("The dashboard of many payments")
    if POSTGRES not in configured():
        report.not_measured("the dashboard over a large ledger", site.no_postgres)
        return
    rows = int(os.environ.get("ROWS") or (QUICK_ROWS if quick else ROWS))
    url = os.environ.get("LEDGER")
    with ExitStack() as stack:
        made = url is None
        if url is None:
            url = stack.enter_context(postgres_database())[0] or ""
        stack.enter_context(another(NAME, url))
        stack.enter_context(using(NAME))
        if made:
            _fill(report, rows)
        _count(report)
        _recount(report)
        _pages(report, url, calls=5 if quick else 40)


def _fill(report: Report, rows: int) -> None:
    from django.core.management import call_command

    from demo_project.seed.ledger import seed_ledger, tidy_up

    call_command("migrate", verbosity=0)
    filled = tidy_up(seed_ledger(rows))
    report.line(f"{rows:,} payments were made, {filled.rate:,.0f} a second")


def _count(report: Report) -> None:
    """Every day, unless that was done; and challenges, so that there is a conversion to show."""
    from demo_project.seed.dashboard import fill_dashboard
    from x402_django.models import CountedDay, Payment

    report.line(f"{Payment.objects.count():,} payments in the ledger")
    before = CountedDay.objects.filter(is_stale=False).count()
    seconds = fill_dashboard(402, io.StringIO())
    days = CountedDay.objects.count()
    if days > before:
        each = seconds / (days - before) * 1000
        report.line(f"{days - before:,} days counted in {seconds:.0f} s, {each:.0f} ms each")


def _recount(report: Report) -> None:
    """A run of the periodic task after something has changed on a day, the busiest of all."""
    from django.db.models import Sum

    from x402_django.desk.following import count_days
    from x402_django.models import CountedDay, DailySales

    sizes = DailySales.objects.values("day").annotate(paid=Sum("paid")).order_by("-paid")
    busiest = sizes[0]
    times = []
    for _ in range(5):
        CountedDay.mark([busiest["day"]])
        started = perf_counter()
        count_days()
        times.append((perf_counter() - started) * 1000)
    report.line(
        f"a run that counts a day of {busiest['paid']:,} paid requests: "
        f"{statistics.median(times):.0f} ms"
    )


def _pages(report: Report, url: str, *, calls: int) -> None:
    """In a process of its own: the benchmark site has no admin, the demo has."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.desk_pages", str(calls)],
        env={**os.environ, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "demo_project.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"The dashboard could not be measured:\n{done.stderr[-3000:]}")
    pages = json.loads(done.stdout.splitlines()[-1])
    header = ("milliseconds", "median", "max", "queries", "KiB")
    rows = [
        (
            page["name"],
            f"{statistics.median(page['times']):.0f}",
            f"{max(page['times']):.0f}",
            str(page["queries"]),
            f"{page['bytes'] / 1024:.0f}",
        )
        for page in pages
    ]
    report.table(header, rows)
    first = statistics.median(pages[0]["times"])
    report.wanted(f"the dashboard in {WANTED_MS:.0f} ms", f"{first:.0f} ms", first < WANTED_MS)
    most = max(page["queries"] for page in pages)
    report.wanted(f"in {WANTED_QUERIES} queries at most", str(most), most <= WANTED_QUERIES)
