"""``x402_doctor`` with a real broker and a real worker: which of them is missing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import missing_service

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ABOUT_WORKERS = {"broker", "worker", "beat"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def told(environment: dict[str, str]) -> dict[str, str]:
    """What the doctor says of broker, worker and beat, and its remedy."""
    command = [sys.executable, "manage.py", "x402_doctor", "--url", "-", "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    symptoms = json.loads(done.stdout)["symptoms"]
    return {one["name"]: one["remedy"] for one in symptoms if one["name"] in ABOUT_WORKERS}


def until(environment: dict[str, str], name: str) -> str:
    """The remedy for ``name`` once that is what is said, alone."""
    deadline = time.monotonic() + 60
    while set(found := told(environment)) != {name}:
        assert time.monotonic() < deadline, found
        time.sleep(1)
    return found[name]


def test_it_says_which_of_broker_worker_and_beat_is_missing(tmp_path: Path) -> None:
    redis = shutil.which("redis-server")
    if redis is None:
        missing_service("Redis", "redis-server is not installed")
    port = free_port()
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "demo_project.settings",
        "DEMO_VAR_DIR": str(tmp_path),
        "DATABASE_URL": f"sqlite:///{tmp_path / 'shop.sqlite3'}",
        "CELERY_BROKER_URL": f"redis://127.0.0.1:{port}/0",
    }
    migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, cwd=ROOT, env=environment, check=True, timeout=120)
    assert "Start Celery's broker." in told(environment)["broker"]
    broker = [str(redis), "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    worker = [sys.executable, "-m", "celery", "--app", "demo_project", "worker", "--pool", "solo"]
    with running(broker, environment):
        assert "celery --app … worker" in until(environment, "worker")
        with running(worker, environment):
            assert "celery --app … beat" in until(environment, "beat")
        assert "worker" in until(environment, "worker")
    assert "broker" in until(environment, "broker")
