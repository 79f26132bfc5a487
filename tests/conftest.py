"""Fixtures of the whole suite, and the rule for lanes whose service is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from tests.flushing import quick_flush
from tests.shop.runs import runs
from x402_django.desk import challenges
from x402_django.pricing.cache import forget_rules
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer, PayingClient


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --slow (CI does)")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


def pytest_unconfigure() -> None:
    """Remove what Django leaves of an SQLite test database: a thread's open connection keeps the
    write-ahead log alive.
    """
    name = settings.DATABASES["default"].get("TEST", {}).get("NAME")
    if name and settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        for left in Path(name).parent.glob(f"{Path(name).name}*"):
            left.unlink(missing_ok=True)


def missing_service(name: str, how: str) -> None:
    """Skip a test whose service is absent; in CI its absence is an error."""
    if os.environ.get("CI"):
        pytest.fail(f"{name} is missing on the CI machine: {how}")
    pytest.skip(f"{name} is not here: {how}")


@pytest.fixture(scope="session", autouse=True)
def _quick_flush() -> Iterator[None]:
    with quick_flush():
        yield


@pytest.fixture(autouse=True)
def _clean_slate() -> Iterator[None]:
    InstantFacilitator.reset()
    runs.clear()
    forget_rules()
    # Counts of challenges are written at the end of any request, and tests count statements.
    # (Connected anew wherever a test overrides INSTALLED_APPS.)
    challenges.disconnect()
    yield
    forget_rules()


@pytest.fixture
def payer() -> Payer:
    return Payer()


@pytest.fixture
def buyer(payer: Payer) -> PayingClient:
    """A client that pays when told to; exceptions of views become 500 as on a live site."""
    return PayingClient(payer=payer, automatic=False, raise_request_exception=False)
