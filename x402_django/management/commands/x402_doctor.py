"""``manage.py x402_doctor``: looks a live site over, and says what to do."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import httpx
from django.core.management.base import BaseCommand, CommandParser
from django.db import Error as DatabaseTrouble

from x402_django.conf import x402
from x402_django.management.doctor import inside
from x402_django.management.doctor.outside import Visit
from x402_django.management.doctor.routes import PaidRoute, paid_routes
from x402_django.management.doctor.symptom import Probe, Symptom, look


class Command(BaseCommand):
    """Exits with 1 if anything is wrong. Pays nothing and changes nothing."""

    help = (
        "Look a live site over: settings, database, nodes, tokens, facilitators, wallets and "
        "workers from inside; challenges, headers, caching, CORS and addresses from outside. Says "
        "what is wrong and what to do. Exit status: 0 all is well, 1 something is wrong."
    )
    #: What this command finds out itself, with its words.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--url", help="where buyers find the site (default: X402['BASE_URL']); - is nowhere"
        )
        parser.add_argument(
            "--path",
            action="append",
            default=[],
            metavar="PATH",
            help="a paid page beside those that have no arguments, such as /articles/bees/",
        )
        parser.add_argument(
            "--timeout", type=float, default=10.0, help="seconds per request (default 10)"
        )
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        """Look, report, then exit as the class says."""
        self._json = options["json"]
        self._found: list[Symptom] = []
        if self._examine("inside", {"database": self._database}):
            self._examine("inside", inside.PROBES)
            self._outside(options)
        if self._json:
            document = {"well": not self._found, "symptoms": [asdict(one) for one in self._found]}
            self.stdout.write(json.dumps(document))
        elif self._found:
            self.stdout.write(f"{len(self._found)} to mend.")
        else:
            self.stdout.write("All is well.")
        if self._found:
            sys.exit(1)

    def _database(self) -> Any:
        try:
            yield from inside.database()
        except DatabaseTrouble as error:
            yield Symptom(
                "database",
                f"The ledger's database does not answer ({type(error).__name__}).",
                "See whether DATABASES is right and the server runs. Nothing is sold until then.",
            )

    def _outside(self, options: Mapping[str, Any]) -> None:
        url = options["url"] or x402.base_url
        if url is None or url == "-":
            self._say("outside: not looked at: give --url, or set X402['BASE_URL']")
            return
        routes = paid_routes() + [PaidRoute(path, path) for path in options["path"]]
        with http_client(options["timeout"]) as client:
            visit = Visit(url, client, routes)
            self._examine("outside", {"reachable": visit.reachable})
            if not any(one.name == "site_unreachable" for one in self._found):
                self._examine("outside", visit.probes())
        closed = [route.pattern for route in routes if not route.path]
        if closed:
            self._say(
                f"outside: not asked for, because they take arguments: {', '.join(closed)}. "
                "Give examples with --path."
            )

    def _examine(self, where: str, probes: Mapping[str, Probe]) -> bool:
        """Make ``probes``; whether all is well."""
        well = True
        for name, probe in probes.items():
            symptoms = look(name, probe)
            well = well and not symptoms
            self._found += symptoms
            if not symptoms:
                self._say(f"{where}: {name}: well")
            for symptom in symptoms:
                self._say(f"{where}: {name}: {symptom.what}\n    → {symptom.remedy}")
        return well

    def _say(self, text: str) -> None:
        if not self._json:
            self.stdout.write(text)


def http_client(timeout: float) -> httpx.Client:
    """To the site: no redirects, for those would be a finding."""
    return httpx.Client(timeout=timeout, follow_redirects=False)
