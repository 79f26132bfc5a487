"""Challenges are counted without a write for each, and purchases over HTTP are in the figures."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.signals import request_finished
from django.db import OperationalError, connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext

from tests.admin.rows import make_method, make_rule
from tests.desk.rows import shown, values
from x402_django.desk import challenges
from x402_django.models import ChallengeCount, Merchant, MerchantPage, Payment
from x402_django.pricing.cache import current_rules
from x402_django.testing.payer import Payer, PayingClient

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.urls"),
    pytest.mark.usefixtures("counting"),
]


def counts() -> dict[tuple[str, str], int]:
    rows = ChallengeCount.objects.values_list("rule_name", "code", "count")
    return {(rule, code): count for rule, code, count in rows}


def interval(settings: Any, seconds: float | None) -> None:
    settings.X402 = {**settings.X402, "CHALLENGE_COUNT_INTERVAL": seconds}


def test_who_asks_and_who_pays(owner: Client, payer: Payer) -> None:
    visitor = Client()
    for _ in range(3):
        assert visitor.get("/weather/").status_code == 402
    assert PayingClient(payer=payer).get("/weather/").status_code == 200  # asks, and pays $0.01
    challenge = visitor.get("/weather/")
    headers = payer.headers_for(challenge, value="1")
    assert visitor.get("/weather/", headers=headers).status_code == 402  # too little
    answer = shown(owner)
    assert values(answer)["Revenue"][0] == "$0.01"
    assert values(answer)["Paid requests"][0] == "1"
    assert values(answer)["Conversion"] == ("20.0 %", "of 5 that were asked to pay")
    assert [page["name"] for page in answer.context["pages"]] == ["/weather/"]
    (payer_line,) = answer.context["payers"]
    assert payer_line["link"].endswith(payer.address)
    assert {code for _rule, code in counts()} > {"payment_required"}


def test_a_challenge_writes_nothing(owner: Client) -> None:
    current_rules()
    challenges.flush()  # just now
    visitor = Client()
    with CaptureQueriesContext(connection) as captured:
        for _ in range(20):
            assert visitor.get("/weather/").status_code == 402
    writes = [q["sql"] for q in captured.captured_queries if not q["sql"].startswith("SELECT")]
    assert [sql for sql in writes if "SAVEPOINT" not in sql and "BEGIN" not in sql] == []
    assert counts() == {}
    challenges.flush()
    assert counts() == {("", "payment_required"): 20}
    challenges.flush()
    assert counts() == {("", "payment_required"): 20}


def test_the_first_after_a_quiet_time_is_written_at_once() -> None:
    for _ in range(3):
        Client().get("/weather/")
    assert counts() == {("", "payment_required"): 1}
    challenges.flush()
    assert counts() == {("", "payment_required"): 3}


def test_the_sums_are_written_when_their_time_has_come(settings: Any) -> None:
    interval(settings, 0)
    visitor = Client()
    for number in range(1, 4):
        visitor.get("/weather/")
        assert counts() == {("", "payment_required"): number}  # at the end of that request
    interval(settings, 3600)
    visitor.get("/weather/")
    visitor.get("/free/")
    assert counts() == {("", "payment_required"): 3}
    interval(settings, 0)
    visitor.get("/free/")  # any request
    assert counts() == {("", "payment_required"): 4}


def test_asynchronously_too(settings: Any) -> None:
    interval(settings, 0)
    visit = async_to_sync(AsyncClient().get)
    for _ in range(3):
        assert visit("/async-weather/").status_code == 402
    assert counts() == {("", "payment_required"): 3}


def test_it_can_be_turned_off(settings: Any) -> None:
    interval(settings, None)
    assert Client().get("/weather/").status_code == 402
    challenges.flush()
    assert counts() == {}


def test_by_rule_and_merchant(settings: Any) -> None:
    bakery = Merchant.objects.create(name="Bakery")
    MerchantPage.objects.create(merchant=bakery, name="shop:article")
    rule = make_rule(merchant=bakery)
    rule.payment_methods.add(make_method(merchant=bakery))
    Client().get("/articles/bread/")
    Client().get("/weather/")
    challenges.flush()
    rows = ChallengeCount.objects.values_list("merchant__name", "rule_name", "count")
    assert set(rows) == {("Bakery", "Articles", 1), ("This site", "", 1)}


def test_nothing_is_lost_while_the_database_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    Client().get("/weather/")

    def down(*args: Any) -> None:
        raise OperationalError

    with monkeypatch.context() as broken:
        broken.setattr(challenges, "_add", down)
        challenges.flush()
    Client().get("/weather/")
    challenges.flush()
    assert counts() == {("", "payment_required"): 2}


def test_a_merchant_that_is_no_more_stops_nobody() -> None:
    gone = (date(2026, 3, 1), 4711, "", "payment_required")
    challenges._put_back({gone: 5})
    challenges.flush()
    Client().get("/weather/")
    challenges.flush()
    assert counts() == {("", "payment_required"): 1}


def test_processes_add_up(settings: Any) -> None:
    """Each flush adds to the same row, whoever made it."""
    interval(settings, 0)
    errors: list[BaseException] = []

    def visit() -> None:
        try:
            for _ in range(5):
                Client().get("/weather/")
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=visit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    challenges.flush()
    assert errors == []
    assert counts() == {("", "payment_required"): 20}


def test_what_raises_ends_no_request(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    interval(settings, 0)

    def down(*args: Any) -> None:
        raise OperationalError

    monkeypatch.setattr(challenges, "_add", down)
    assert Client().get("/weather/").status_code == 402
    request_finished.send(sender=None)
    assert Payment.objects.count() == 0


def test_what_is_left_is_written_when_a_process_ends(tmp_path: Path) -> None:
    program = (
        "import django, sys; django.setup()\n"
        "from django.core.management import call_command\n"
        "from django.test import Client\n"
        "from x402_django.models import ChallengeCount\n"
        "if sys.argv[1] == 'sell':\n"
        "    call_command('migrate', verbosity=0)\n"
        "    for _ in range(3): Client().get('/weather/')\n"
        "print(sum(ChallengeCount.objects.values_list('count', flat=True)))\n"
    )

    def run(what: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", program, what],
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "DATABASE_URL": f"sqlite:///{tmp_path / 'site.sqlite3'}",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout.split()[-1]

    assert run("sell") == "1"  # the interval has not passed for the others
    assert run("look") == "3"
