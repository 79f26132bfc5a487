"""The processes of the demo: started together, watched, and stopped together."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from demo_project.errors import DemoError

#: Seconds a process has to end by itself when asked to.
GRACE = 10.0
#: Seconds between two looks.
PULSE = 0.1
TAIL_LINES = 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Child:
    """A running process; it leads a group of its own, in which its workers are too."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        """The last lines it wrote."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines)


class Children:
    """Starts processes and ends them all when its ``with`` block ends, however it ends::

        with Children(Path("var/log")) as children:
            children.start("web", ["gunicorn", …])
            children.wait_for("the shop to answer", is_up, seconds=30)

    Each writes to a log of its own. One that ends by itself is an error wherever we wait.
    """

    def __init__(self, log_dir: Path) -> None:
        self.log_dir = log_dir
        self._children: list[Child] = []

    def start(
        self, name: str, command: Sequence[str | os.PathLike[str]], env: Mapping[str, str]
    ) -> Child:
        """Start ``command``; what it writes goes to ``log_dir/name.log``, begun anew."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        log = self.log_dir / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env={**env, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A group of its own: Ctrl-C reaches us alone, and we end the rest in order.
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raise DemoError if a process has ended by itself, with the end of its log."""
        for child in self._children:
            status = child.process.poll()
            if status is not None:
                raise DemoError(
                    f"The {child.name} process ended by itself (status {status}). "
                    f"The end of {child.log}:\n{child.tail()}"
                )

    def wait_for(self, what: str, look: Callable[[], T | None], *, seconds: float) -> T:
        """Look until there is something; what ``look`` then returned.

        Raises DemoError when the time is over, or a process ends meanwhile.
        """
        deadline = time.monotonic() + seconds
        while True:
            found = look()
            if found:
                return found
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"Waited {seconds:.0f} seconds for {what}. Logs: {self.log_dir}")
            time.sleep(PULSE)

    def watch(self) -> None:
        """Stay while all of them run. Raises DemoError once one has ended."""
        while True:
            self.check()
            time.sleep(PULSE * 5)

    def stop(self) -> None:
        """End all, the last started first: politely, and after ``GRACE`` seconds by force."""
        for child in reversed(self._children):
            _signal_leader(child, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for child in reversed(self._children):
            with suppress(subprocess.TimeoutExpired):  # by force then
                child.process.wait(max(deadline - time.monotonic(), 0))
            _kill_group(child)
            child.process.wait()
        self._children.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _signal_leader(child: Child, number: signal.Signals) -> None:
    if child.process.poll() is None:
        child.process.send_signal(number)


def _kill_group(child: Child) -> None:
    """Whoever is left in the group, the workers of a leader that died included."""
    with suppress(ProcessLookupError):  # nobody
        os.killpg(child.process.pid, signal.SIGKILL)
