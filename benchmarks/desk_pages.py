"""The dashboard's pages, asked for often: ``python -m benchmarks.desk_pages CALLS`` prints JSON.

Of the site that ``DJANGO_SETTINGS_MODULE`` names, in process and through all its middleware.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
from time import perf_counter
from typing import Any, Final

PATH: Final = "/admin/x402_django/desk/"
#: Name in the table, and query.
PAGES: Final[tuple[tuple[str, dict[str, str]], ...]] = (
    ("30 days", {}),
    ("90 days", {"days": "90"}),
    ("a year by week", {"days": "365"}),
    ("a year by day", {"days": "365", "by": "day"}),
)


def main() -> None:
    calls = int(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="x402-bench-") as directory:
        os.environ["DEMO_VAR_DIR"] = directory
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        client = _owner()
        client.get(PATH)  # what is imported and compiled once
        print(json.dumps([_ask(client, name, query, calls) for name, query in PAGES]))


def _ask(client: Any, name: str, query: dict[str, str], calls: int) -> dict[str, Any]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    times = []
    for _ in range(calls):
        started = perf_counter()
        answer = client.get(PATH, query)
        times.append((perf_counter() - started) * 1000)
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code} for {query}")
    with CaptureQueriesContext(connection) as captured:
        size = len(client.get(PATH, query).content)
    return {"name": name, "times": times, "queries": len(captured), "bytes": size}


def _owner() -> Any:
    """A client of somebody who may see everything; made anew, and only for this."""
    from django.contrib.auth import get_user_model
    from django.test import Client

    name = f"benchmark-{secrets.token_hex(8)}"
    owner = get_user_model()._default_manager.create_superuser(name, password=None)
    client = Client(headers={"host": "localhost"})
    client.force_login(owner)
    return client


if __name__ == "__main__":
    main()
