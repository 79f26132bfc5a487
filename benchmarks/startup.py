"""What the app adds to ``django.setup()``, measured in fresh processes."""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.report import Report
from benchmarks.site import Site

#: Imports what every process has before its site is set up, then times that.
PROBE = """
import sys, time
import django
from django.conf import settings
site = ["admin", "auth", "contenttypes", "sessions", "messages", "staticfiles"]
settings.configure(
    SECRET_KEY="not secret",
    INSTALLED_APPS=[f"django.contrib.{app}" for app in site] + sys.argv[1:],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
)
started, worked = time.perf_counter(), time.process_time()
django.setup()
took, worked = time.perf_counter() - started, time.process_time() - worked
heavy = [name for name in ("web3", "x402", "rest_framework", "celery") if name in sys.modules]
print(took * 1000, worked * 1000, ",".join(heavy) or "none")
"""


def run(site: Site, report: Report, *, quick: bool) -> None:
    """A site with admin and the usual apps, without and with ours."""
    rounds = 3 if quick else 15
    names = {"the usual apps": (), "with x402_django": ("x402_django",)}
    times: dict[str, list[float]] = {name: [] for name in names}
    worked: dict[str, list[float]] = {name: [] for name in names}
    loaded = ""
    for number in range(-1, rounds):  # the first round writes bytecode and is not counted
        for name, apps in names.items():
            took, cpu, loaded = _probe(apps)
            if number >= 0:
                times[name].append(took)
                worked[name].append(cpu)

    report.heading(f"django.setup() ({rounds} fresh processes each, in turns)")
    rows = []
    for name in names:
        figures = (min(times[name]), statistics.median(times[name]), max(times[name]))
        cpu = statistics.median(worked[name])
        rows.append((name, *(f"{value:.1f}" for value in (*figures, cpu))))
    report.table(("milliseconds", "min", "median", "max", "CPU"), rows)
    report.line(f"of web3, x402, rest_framework and celery it loads: {loaded}")
    added, cpu = _added(times), _added(worked)
    # Judged by CPU time: it waits for nothing, and other processes slow the clock's time down.
    report.wanted(
        "less than 50 ms of CPU added to django.setup()",
        f"{cpu:.1f} ms ({added:.1f} on the clock)",
        cpu < 50,
    )


def _added(times: dict[str, list[float]]) -> float:
    without, with_app = times.values()
    return statistics.median(b - a for a, b in zip(without, with_app, strict=True))


def _probe(apps: tuple[str, ...]) -> tuple[float, float, str]:
    """Milliseconds on the clock and of CPU, and what heavy packages were loaded."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *apps], check=True, capture_output=True, text=True
    )
    took, cpu, loaded = done.stdout.split()
    return float(took), float(cpu), loaded
