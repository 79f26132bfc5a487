"""Adding the app to a site loads nothing heavy: a site that sells one view pays for one view."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "celery",
    "coincurve",
    "eth_account",
    "eth_tester",
    "httpx",
    "pydantic",
    "requests",
    "rest_framework",
    "web3",
    "x402",
}
SETUP = """
import json, sys
import django
from django.conf import settings

settings.configure(INSTALLED_APPS={apps!r}, SECRET_KEY="x")
import x402_django
django.setup()
{extra}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""
WITH_ADMIN = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "x402_django",
]


def loaded(apps: list[str], extra: str = "") -> set[str]:
    """The top-level packages a fresh interpreter has loaded after ``django.setup()``."""
    script = SETUP.format(apps=apps, extra=extra)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("apps", [["x402_django"], WITH_ADMIN], ids=["alone", "with the admin"])
def test_setup_loads_nothing_heavy(apps: list[str]) -> None:
    packages = loaded(apps)
    assert "x402_django" in packages
    assert packages & HEAVY == set()


def test_declaring_a_paid_view_loads_nothing_heavy() -> None:
    """What every web process imports: the middleware, the decorator, the class-based mixin."""
    packages = loaded(
        ["x402_django"],
        "import x402_django.http.middleware, x402_django.http.decorators, x402_django.http.views",
    )
    assert packages & HEAVY == set()
