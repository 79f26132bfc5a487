"""What a new run of the demo forgets, and what it must not."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo_project import run
from demo_project.errors import DemoError


def test_only_what_belongs_to_a_development_chain_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "VAR_DIR", tmp_path)
    (tmp_path / "celery" / "messages").mkdir(parents=True)
    for name in ("demo.sqlite3", "demo.sqlite3-wal", "shop.sqlite3", "shop.sqlite3-wal"):
        (tmp_path / name).touch()
    (tmp_path / "secret_key").touch()
    run.begin_anew()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "secret_key",
        "shop.sqlite3",
        "shop.sqlite3-wal",
    ]


def test_two_runs_do_not_share_a_directory(tmp_path: Path) -> None:
    second = run.alone(tmp_path)
    with run.alone(tmp_path), pytest.raises(DemoError, match="The demo is running already"):
        second.__enter__()
    with run.alone(tmp_path):  # the first has ended
        pass
