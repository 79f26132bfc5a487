"""The wheel, built once from the tree as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the built wheel, made in a copy so that no build leftovers can slip into it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for name in ("x402_django", "demo_project", "tests"):
        copy_tree(ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", target, source],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = target.glob("x402_django-*.whl")
    return built


def copy_tree(source: Path, target: Path) -> None:
    """The files of a tree, without what builds and tests leave behind."""
    for path in source.rglob("*"):
        skipped = {"__pycache__", "node_modules"} & set(path.parts)
        if path.is_file() and not skipped:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
