"""What a request of the flow ``deferred`` takes beyond its view, and what its limits cost."""

from __future__ import annotations

from functools import partial

from benchmarks.challenge import gets
from benchmarks.databases import POSTGRES, SQLITE, configured, using
from benchmarks.measure import Side, added, run_in_turns
from benchmarks.paid import paying
from benchmarks.payments import offer_of
from benchmarks.report import Report
from benchmarks.site import Site
from benchmarks.wsgi import call, environ_for

PATH = "/deferred/weather"
OWED = 5_000


def run(site: Site, report: Report, *, quick: bool) -> None:
    """On each database: nothing owed at first, and then with thousands of payments owed."""
    names = [name for name in (SQLITE, POSTGRES) if name in configured()]
    pay = partial(paying, offer_of(call(site.gated, environ_for(PATH))), path=PATH)
    sides = {name: Side(name, site.gated, pay, 200, partial(using, name)) for name in configured()}
    bare = Side("bare Django view", site.bare, gets("/weather"), 200)
    rounds, calls = (2, 20) if quick else (10, 60)
    run_in_turns([*sides.values(), bare], rounds=rounds, calls=calls)

    report.heading(f"A deferred request ({rounds} rounds of {calls} requests a side, in turns)")
    report.sides([*sides.values(), bare], sides.get(POSTGRES, bare))
    for name, side in sides.items():
        p50 = added(side, bare, 50)
        report.wanted(
            f"a deferred request adds at most 10 ms to its view on {name}",
            f"p50 {p50:.2f} ms, p95 {added(side, bare, 95):.2f} ms",
            p50 <= 10,
        )
    loaded = {name: Side(f"{name}, {OWED} owed", site.gated, pay, 200, partial(using, name))
              for name in names}  # fmt: skip
    for name in names:
        with using(name):
            _owe(OWED)
    run_in_turns(list(loaded.values()), rounds=rounds, calls=calls)
    report.sides(list(loaded.values()), loaded.get(POSTGRES, bare))
    for name, side in loaded.items():
        p50 = added(side, bare, 50)
        report.wanted(
            f"and while {OWED} payments are owed, on {name}", f"p50 {p50:.2f} ms", p50 <= 10
        )
    for name in names:
        with using(name):
            _settled()


def _owe(number: int) -> None:
    """As many payments of other payers, delivered and waiting for their batch."""
    from django.db import connection

    from x402_django.models import Payment

    last = Payment.objects.filter(state="verified").latest("pk")
    last.refresh_from_db()
    rows = []
    for count in range(number):
        values = {field.attname: getattr(last, field.attname) for field in last._meta.fields}
        values.update(
            id=None,
            public_id=f"{count:040x}",
            payer=f"0x{count % 500:040x}",
            nonce=f"0x{count:064x}",
        )
        rows.append(Payment(**values))
    Payment.objects.bulk_create(rows, batch_size=200)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _settled() -> None:
    from x402_django.models import Payment

    Payment.objects.filter(state="verified").update(state="released")
