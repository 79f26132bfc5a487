"""The shop's two services, as a machine in production would run them: web server and worker."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from demo_project.console import note
from demo_project.surroundings import HOST

if TYPE_CHECKING:
    from demo_project.children import Children

#: At least two processes, so that nothing can rest on the memory of one.
WEB_PROCESSES = "2"
START_SECONDS = 60


def start_shop(children: Children, port: int, var_dir: Path) -> str:
    """Start web server and worker and wait until the shop answers; its address."""
    # The buyer's key is no business of the shop's.
    env = {name: value for name, value in os.environ.items() if name != "X402_AGENT_KEY"}
    children.start("web", web_command(port), env)
    children.start("worker", worker_command(var_dir), env)
    url = f"http://{HOST}:{port}"
    children.wait_for("the shop to answer", lambda: _answers(f"{url}/free/"), seconds=START_SECONDS)
    note("web", f"{url}, gunicorn with {_processes()} ASGI processes")
    note("worker", f"Celery with beat, on {_broker()}")
    return url


def web_command(port: int) -> list[str]:
    """gunicorn with uvicorn workers: async views are async, sync views run in threads."""
    return [
        *(sys.executable, "-m", "gunicorn", "demo_project.asgi:application"),
        *("--worker-class", "uvicorn_worker.UvicornWorker"),
        *("--workers", _processes()),
        *("--bind", f"{HOST}:{port}"),
        *("--graceful-timeout", "5"),
        *("--access-logfile", "-"),
        "--no-control-socket",
    ]


def worker_command(var_dir: Path) -> list[str]:
    """One worker with beat inside. With more workers, beat is a process of its own."""
    return [
        *(sys.executable, "-m", "celery", "--app", "demo_project", "worker", "--beat"),
        *("--schedule", str(var_dir / "celerybeat-schedule")),
        *("--concurrency", "2"),
        *("--loglevel", "INFO"),
        *("--without-gossip", "--without-mingle"),
    ]


def _processes() -> str:
    return os.environ.get("WEB_CONCURRENCY") or WEB_PROCESSES


def _answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


def _broker() -> str:
    scheme = (os.environ.get("CELERY_BROKER_URL") or "filesystem:").partition(":")[0]
    return "a directory of messages" if scheme == "filesystem" else scheme
