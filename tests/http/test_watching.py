"""Health endpoints, metrics, spans and log records: what an operator sees, and what nobody does."""

from __future__ import annotations

import json
import logging
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connections
from django.test import Client
from django.utils import timezone

from tests.chain.support import NETWORK
from tests.spans import recorded_spans
from x402_django import clock
from x402_django.conf import x402
from x402_django.models import ChainScan, Payment, PeriodicRun, SettlementWallet
from x402_django.observing import JsonFormatter, PaymentFilter, observed
from x402_django.payments import counters, gauges, housekeeping, wallet_metrics
from x402_django.payments.periodic import TASKS, recorded
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import PayingClient

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[2]


def run_everything():
    """What worker and beat do all the time."""
    now = clock.now()
    for name in TASKS:
        PeriodicRun.objects.update_or_create(
            name=name, defaults={"started_at": now, "finished_at": now}
        )
    for network in x402.networks:
        ChainScan.objects.update_or_create(network=network, defaults={"finished_at": now})


def health():
    response = Client().get("/x402/health/")
    assert response["Cache-Control"].startswith("max-age=0, no-cache, no-store")
    return response.status_code, response.json()


# ------------------------------------------------------------------ health


def test_all_is_well():
    run_everything()
    assert health() == (
        200,
        {
            "status": "ok",
            "checks": dict.fromkeys(
                ("database", "tasks", "scans", "outcomes", "debts", "wallets"), "ok"
            ),
        },
    )


def test_without_a_database_only_that_it_lives_is_said(monkeypatch):
    """Also where every request is a transaction, which would fail before the view."""
    connection = connections["default"]
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)

    class Down:
        def __enter__(self):
            raise DatabaseError

        def __exit__(self, *_):
            pass

    monkeypatch.setattr("django.core.handlers.base.transaction.atomic", lambda using: Down())
    monkeypatch.setattr(connection, "cursor", Down().__enter__)
    client = Client(raise_request_exception=False)
    answers = [client.get(f"/x402/health/{page}") for page in ("live/", "ready/", "")]
    assert [answer.status_code for answer in answers] == [200, 503, 503]
    assert answers[1].json() == {"status": "attention", "checks": {"database": "attention"}}


def attention():
    status, body = health()
    assert (status, body["status"]) == (503, "attention")
    return {name for name, state in body["checks"].items() if state != "ok"}


def test_nobody_runs_the_periodic_tasks():
    run_everything()
    PeriodicRun.objects.all().delete()
    assert attention() == {"tasks"}  # a worker has never run
    call_command("x402_confirm")
    call_command("x402_settle")
    assert attention() == {"tasks"}  # one of them is still missing
    call_command("x402_release")
    assert attention() == {"tasks"}
    call_command("x402_webhooks")
    assert attention() == {"tasks"}
    for name in ("x402_channels", "x402_desk", "x402_refunds", "x402_alerts"):
        call_command(name)
        assert attention() == {"tasks"}
    call_command("x402_receipts")
    assert health()[0] == 200
    with clock.shifted(timedelta(seconds=190)):  # 3 runs of the slowest are 180 seconds
        assert attention() == {"tasks", "scans"}


def test_a_task_that_breaks_off_is_written_down_and_is_no_run(monkeypatch):
    run_everything()

    def broken():
        raise RuntimeError("a secret")

    monkeypatch.setattr(housekeeping.maintenance, "purge_stored_responses", broken)
    with pytest.raises(RuntimeError), clock.shifted(timedelta(seconds=60)):
        housekeeping.tidy_up()
    row = PeriodicRun.objects.get(name="release_stale_claims")
    assert row.failed_at > row.finished_at
    assert row.failure == "RuntimeError"
    monkeypatch.undo()
    housekeeping.tidy_up()
    assert PeriodicRun.objects.get(name="release_stale_claims").failure == ""


def test_a_network_that_is_not_read(settings):
    run_everything()
    ChainScan.objects.all().delete()
    assert attention() == {"scans"}
    settings.X402 = {**settings.X402, "NETWORKS": {NETWORK: {"RPC_URLS": ["http://127.0.0.1:9"]}}}
    ChainScan.objects.create(network=NETWORK, finished_at=clock.now())
    assert health()[0] == 200


def buy(url="/weather/"):
    client = PayingClient()
    response = client.get(url)
    assert response.status_code == 200
    return Payment.objects.latest("pk")


def test_money_that_somebody_should_look_at():
    payment = buy()
    run_everything()
    assert health()[0] == 200
    long_ago = clock.now() - timedelta(hours=2)
    rows = Payment.objects.filter(pk=payment.pk)
    rows.update(delivered_at=None, state_changed_at=long_ago)
    assert attention() == {"debts"}
    rows.update(state="settling", outcome_unknown_at=long_ago)
    assert attention() == {"outcomes"}
    SettlementWallet.objects.create(
        network=NETWORK,
        address="0x" + "1" * 40,
        next_nonce=0,
        balance=1,
        low_balance=2,
        balance_at=clock.now(),
    )
    assert attention() == {"outcomes", "wallets"}


def test_without_a_database(monkeypatch):
    def gone(self, *args, **kwargs):
        raise DatabaseError("secret of the server")

    connection = connections["default"]
    monkeypatch.setattr(type(connection), "cursor", gone)
    for path, status in (("health/", 503), ("health/ready/", 503), ("health/live/", 200)):
        response = Client().get(f"/x402/{path}")
        assert response.status_code == status
        assert b"secret" not in response.content
    monkeypatch.undo()
    assert Client().get("/x402/health/ready/").json() == {"status": "ok"}


def test_the_desk_shows_whether_tasks_run(admin_client):
    run_everything()
    PeriodicRun.objects.filter(name="settle_deferred").update(
        finished_at=timezone.now() - timedelta(hours=1)
    )
    page = admin_client.get("/admin/x402_django/periodicrun/").content.decode()
    assert page.count("overdue: are a worker, beat and the broker running?") == 1
    assert page.count(">running<") == len(TASKS) - 1
    assert admin_client.get("/admin/x402_django/periodicrun/add/").status_code == 403


# ------------------------------------------------------------------ metrics


@pytest.fixture
def metrics(settings, monkeypatch):
    pytest.importorskip("prometheus_client")
    settings.X402 = {**settings.X402, "METRICS_TOKEN_ENV": "SHOP_METRICS_TOKEN"}
    monkeypatch.setenv("SHOP_METRICS_TOKEN", "long-and-random")
    counters.connect()

    def read():
        headers = {"Authorization": "Bearer long-and-random"}
        response = Client().get("/x402/metrics/", headers=headers)
        assert response.status_code == 200
        lines = response.content.decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    yield read
    counters.disconnect()


def test_what_happens_is_counted(metrics):
    before = metrics()
    payment = buy()
    InstantFacilitator.script["settle"] = [_failure()]
    assert PayingClient().get("/weather/").status_code == 402
    after = metrics()

    def grown(name):
        return after.get(name, 0) - before.get(name, 0)

    where = f'flow="authorization",network="{payment.network}"'
    for event in ("verified", "settled", "delivered", "failed"):
        expected = 2 if event == "verified" else 1
        assert grown(f'x402_payments_total{{event="{event}",{where}}}') == expected, event
    assert grown('x402_challenges_total{code="payment_required"}') == 2
    assert grown('x402_challenges_total{code="other"}') == 1  # a facilitator's own word
    assert grown('x402_failures_total{code="other"}') == 1
    asset = f'asset="{payment.asset_symbol}",network="{payment.network}"'
    assert grown(f"x402_revenue_usd_total{{{asset}}}") == pytest.approx(0.01)
    assert grown(f"x402_settlement_seconds_count{{{where}}}") == 1


def _failure():
    from x402_django.exceptions import SettlementFailed

    return SettlementFailed("It says so.", code="made_up_by_a_facilitator_17")


def test_what_the_ledger_says(metrics):
    payment = buy()
    run_everything()
    found = metrics()
    assert found['x402_open_payments{state="settled"}'] == 1
    assert found['x402_open_payments{state="claimed"}'] == 0
    assert found["x402_undelivered_payments"] == 0
    assert found['x402_task_overdue{task="settle_deferred"}'] == 0
    Payment.objects.filter(pk=payment.pk).update(
        state="settling", outcome_unknown_at=clock.now() - timedelta(minutes=5), delivered_at=None
    )
    found = metrics()
    assert found["x402_unknown_outcomes"] == 1
    assert 300 <= found["x402_oldest_unknown_seconds"] < 330


@pytest.mark.parametrize("presented", [None, "", "Bearer ", "Bearer wrong", "long-and-random"])
def test_numbers_are_for_who_has_the_token(metrics, presented):
    headers = {} if presented is None else {"Authorization": presented}
    response = Client().get("/x402/metrics/", headers=headers)
    assert response.status_code == 401
    assert b"x402_open_payments" not in response.content


def test_without_a_token_there_are_no_metrics(metrics, monkeypatch):
    monkeypatch.setenv("SHOP_METRICS_TOKEN", "")
    headers = {"Authorization": "Bearer "}
    assert Client().get("/x402/metrics/", headers=headers).status_code == 404


def test_the_dashboard_asks_for_what_there_is():
    pytest.importorskip("prometheus_client")
    dashboard = json.loads((ROOT / "deploy/grafana/x402-django.json").read_text())
    known = {*gauges.METRICS, *wallet_metrics.METRICS}
    for metric in counters._metrics().values():
        kind = "_bucket" if metric._type == "histogram" else "_total"
        known.add(metric._name + kind)
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"x402_[a-z_]+", target["expr"])
    }
    assert len(asked) > 15
    assert asked <= known
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)


# ------------------------------------------------------------------ spans and log records


def test_each_step_of_a_payment_is_a_span():
    pytest.importorskip("opentelemetry.sdk")
    with recorded_spans() as spans:
        payment = buy()
        InstantFacilitator.script["settle"] = [_failure()]
        PayingClient().get("/weather/")
    finished = spans.get_finished_spans()
    assert [span.name for span in finished] == ["x402.verify", "x402.settle"] * 2
    assert dict(finished[1].attributes) == {
        "x402.payment": payment.public_id,
        "x402.network": payment.network,
        "x402.scheme": "exact",
        "x402.flow": "authorization",
    }
    failed = finished[3]
    assert failed.status.description == "SettlementFailed"
    assert failed.attributes["x402.code"] == "made_up_by_a_facilitator_17"
    assert not failed.events  # the exception's text is in no span


def test_log_records_name_the_payment():
    record = logging.LogRecord("x402_django.payments", 40, "x.py", 1, "Look at %s", (7,), None)
    payment = Payment(public_id="abc", network=NETWORK, scheme="exact", flow="upfront")
    with observed("settle", payment):
        assert PaymentFilter().filter(record)
        line = json.loads(JsonFormatter().format(record))
    assert (line["payment"], line["message"]) == ("abc", "Look at 7")
    assert (line["level"], line["logger"]) == ("ERROR", "x402_django.payments")
    outside = logging.makeLogRecord({"msg": "free", "status": 402})
    PaymentFilter().filter(outside)
    line = json.loads(JsonFormatter().format(outside))
    assert "payment" not in line
    assert line["status"] == 402


def test_recording_needs_no_run_before():
    @recorded("settle_deferred")
    def work(value):
        return value + 1

    assert work(1) == 2
    assert PeriodicRun.objects.get(name="settle_deferred").finished_at is not None
