"""Command line of the benchmarks."""

from __future__ import annotations

import argparse
import importlib
import sys
from importlib.util import find_spec

from benchmarks.report import Report, machine_line
from benchmarks.site import benchmark_site

#: Name on the command line to module; in the order they run.
SECTIONS = {
    "startup": "benchmarks.startup",
    "challenge": "benchmarks.challenge",
    "paid": "benchmarks.paid",
    "deferred": "benchmarks.deferred",
    "chain": "benchmarks.chain",
    "confirming": "benchmarks.confirming",
    "groups": "benchmarks.groups",
    "scale": "benchmarks.scale",
    "desk": "benchmarks.desk",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of: {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="a few requests only, to see it run")
    options = parser.parse_args()
    for name in options.sections:
        if name not in SECTIONS:
            parser.error(f"there is no section {name}; there are {', '.join(SECTIONS)}")
    if find_spec("flask") is None:
        parser.error("the official middleware needs Flask: pip install --group bench")
    print(machine_line())
    report = Report()
    with benchmark_site() as site:
        for name, module in SECTIONS.items():
            if not options.sections or name in options.sections:
                importlib.import_module(module).run(site, report, quick=options.quick)
    report.summary()
    return 0


if __name__ == "__main__":
    sys.exit(main())
