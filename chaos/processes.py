"""The shop's processes: started, killed without warning, and started again."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

#: The directory that this package lies in.
ROOT = Path(__file__).resolve().parent.parent


@dataclass(slots=True)
class Service:
    """One process, with what it starts itself; a group that can be killed as a whole."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    restarts: int = -1


@dataclass(slots=True)
class Services:
    """Keeps its services running until it is stopped.

    ``kills`` counts the SIGKILLs that were sent, by service.
    """

    environment: Mapping[str, str]
    log_dir: Path
    services: dict[str, Service] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _stopped: bool = False

    def add(self, name: str, *command: str) -> None:
        """Start ``python -m`` with these arguments, and keep it running."""
        with self._lock:
            self.services[name] = Service(name, (sys.executable, "-m", *command))
            self._start(self.services[name])

    def tend(self) -> None:
        """Start again what has ended."""
        with self._lock:
            for service in self.services.values():
                if not self._stopped and service.process and service.process.poll() is not None:
                    _kill_group(service)  # whom it has left behind
                    self._start(service)

    def kill(self, name: str, chooser: random.Random) -> None:
        """Kill a service with all its processes, as when a machine goes, or one of them."""
        with self._lock:
            service = self.services[name]
            if service.process is None or service.process.poll() is not None:
                return
            children = _children(service.process.pid)
            if children and chooser.random() < 0.6:
                with suppress(ProcessLookupError):
                    os.kill(chooser.choice(children), signal.SIGKILL)
            else:
                _kill_group(service)
                service.process.wait()
            self.kills[name] += 1

    def restarts(self) -> int:
        """How often a service was started again."""
        return sum(max(service.restarts, 0) for service in self.services.values())

    def stop(self) -> None:
        """End all, politely at first."""
        with self._lock:
            self._stopped = True
            running = [one for one in self.services.values() if one.process is not None]
            for service in running:
                with suppress(ProcessLookupError):
                    service.process.terminate()  # type: ignore[union-attr]
            for service in running:
                with suppress(subprocess.TimeoutExpired):
                    service.process.wait(10)  # type: ignore[union-attr]
                _kill_group(service)
                service.process.wait()  # type: ignore[union-attr]

    def _start(self, service: Service) -> None:
        with (self.log_dir / f"{service.name}.log").open("ab") as log:
            service.process = subprocess.Popen(
                service.command,
                cwd=ROOT,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        service.restarts += 1


def web(application: str, worker_class: str, port: int) -> tuple[str, ...]:
    """A web server's command: one process that sells, and one that replaces it when it dies."""
    return (
        *("gunicorn", application, "--bind", f"127.0.0.1:{port}", "--workers", "1", "--preload"),
        *("--worker-class", worker_class, "--graceful-timeout", "5", "--no-control-socket"),
        *(("--threads", "16") if worker_class == "gthread" else ()),
    )


def worker(name: str) -> tuple[str, ...]:
    """A Celery worker's command."""
    return (
        *("celery", "--app", "demo_project", "worker", "--hostname", f"{name}@%h"),
        *("--concurrency", "1", "--loglevel", "INFO", "--without-gossip", "--without-mingle"),
    )


def beat(schedule: Path) -> tuple[str, ...]:
    """The command of Celery's clock."""
    return ("celery", "--app", "demo_project", "beat", "--schedule", str(schedule))


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:  # not Linux: the whole group is killed then
        return []
    return [int(child) for child in text.split()]


def _kill_group(service: Service) -> None:
    if service.process is not None:
        with suppress(ProcessLookupError):
            os.killpg(service.process.pid, signal.SIGKILL)
