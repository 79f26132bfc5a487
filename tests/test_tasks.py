"""The Celery tasks, as a site finds them: autodiscovered, in beat's schedule, killable."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


@pytest.mark.parametrize("finalised_first", [False, True])
def test_tasks_register_themselves_for_beat(finalised_first):
    program = textwrap.dedent(
        f"""
        from celery import Celery
        app = Celery("site", broker="memory://")
        app.config_from_object("django.conf:settings", namespace="CELERY")
        app.autodiscover_tasks()
        if {finalised_first}:
            app.finalize()
        app.loader.init_worker()  # as `celery worker` and `celery beat` do
        app.finalize()
        print(sorted(name for name in app.conf.beat_schedule if name in app.tasks))
        """
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={"DJANGO_SETTINGS_MODULE": "tests.settings", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout.strip() == (
        "['x402_django.claim_channels', 'x402_django.confirm_pending_payments', "
        "'x402_django.count_days', "
        "'x402_django.number_receipts', "
        "'x402_django.release_stale_claims', 'x402_django.send_alerts', "
        "'x402_django.send_refunds', "
        "'x402_django.send_webhooks', 'x402_django.settle_deferred']"
    )


def test_the_sites_own_schedule_wins(settings):
    from celery import Celery

    from x402_django import tasks

    app = Celery("other", broker="memory://", set_as_current=False)
    app.conf.beat_schedule = {"x402_django.confirm_pending_payments": {"schedule": 99}}
    tasks._register(app)
    assert app.conf.beat_schedule["x402_django.confirm_pending_payments"] == {"schedule": 99}
    assert app.conf.beat_schedule["x402_django.release_stale_claims"]["schedule"] == 60.0
