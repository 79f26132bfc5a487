"""Processes are started together, watched, and never outlive their parent."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from demo_project import children as module
from demo_project.children import Children
from demo_project.errors import DemoError

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); {}; time.sleep(60)"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody has collected does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_one_that_ends_by_itself_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        children.start("web", python("print('port is taken'); exit(3)"), os.environ)
        with pytest.raises(DemoError) as caught:
            children.wait_for("the shop", lambda: None, seconds=20)
    message = str(caught.value)
    assert message.startswith("The web process ended by itself (status 3).")
    assert "    port is taken" in message
    assert str(tmp_path / "web.log") in message


def test_waiting_has_an_end(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        children.start("web", python("import time; time.sleep(60)"), os.environ)
        with pytest.raises(DemoError, match="Waited 0 seconds for the shop"):
            children.wait_for("the shop", lambda: None, seconds=0.2)


def test_they_are_told_to_stop(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        child = children.start("web", python("import time; time.sleep(60)"), os.environ)
    assert child.process.returncode == -15


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_who_does_not_listen_is_killed_with_all_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.5)
    fork = "import os; pid = os.fork(); print(os.getpid(), flush=True)"
    with Children(tmp_path) as children:
        child = children.start("web", python(STUBBORN.format(fork)), os.environ)

        def both_run() -> list[int] | None:
            pids = [int(line) for line in child.log.read_text().splitlines()]
            return pids if len(pids) == 2 else None

        pids = children.wait_for("two lines", both_run, seconds=20)
        assert all(is_alive(pid) for pid in pids)
    deadline = time.monotonic() + 5
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in pids if is_alive(pid)] == []


def test_an_error_stops_them_too(tmp_path: Path) -> None:
    children = Children(tmp_path)
    child = children.start("web", python("import time; time.sleep(60)"), os.environ)
    with pytest.raises(KeyboardInterrupt), children:
        raise KeyboardInterrupt
    assert child.process.returncode == -15
