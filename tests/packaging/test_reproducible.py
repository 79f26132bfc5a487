"""The archives are the same, byte for byte, whoever builds them, where and when.

So that anybody can tell whether what is on the package index was made from the sources.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, copy_tree

pytestmark = pytest.mark.slow

SOURCES = ("x402_django", "demo_project", "tests", "deploy", "benchmarks", "chaos", "contracts")
FILES = ("pyproject.toml", ".gitignore", "README.md", "CHANGELOG.md", "CONTRIBUTING.md",
         "SECURITY.md", "LICENSE", "manage.py", "Makefile", "requirements.txt")  # fmt: skip


def checkout(home: Path, *, umask: int, mtime: int) -> Path:
    """A copy of the sources as another machine may have it."""
    home.mkdir(parents=True)
    for name in FILES:
        (home / name).write_bytes((ROOT / name).read_bytes())
    for name in SOURCES:
        copy_tree(ROOT / name, home / name)
    copy_tree(ROOT / "docs", home / "docs")
    for path in home.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
        os.utime(path, (mtime, mtime))
    return home


def build(home: Path, target: Path, *options: str) -> dict[str, str]:
    """SHA-256 of what ``python -m build`` made, by file name."""
    command = [sys.executable, "-m", "build", "--no-isolation", "-o", target, *options, home]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in target.iterdir()}


def test_two_machines_build_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = checkout(tmp_path / "here", umask=0o022, mtime=1_700_000_000)
    there = checkout(tmp_path / "there" / "with another name", umask=0o077, mtime=1_750_000_000)
    first = build(here, tmp_path / "first")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    # A leftover of somebody's session must not get in.
    (there / "x402_django" / "__pycache__").mkdir()
    (there / "x402_django" / "__pycache__" / "left.cpython-311.pyc").write_bytes(b"x")
    assert len(first) == 2
    assert build(there, tmp_path / "second") == first
    # The first run made the wheel from the sdist; made from the tree, it is the same.
    wheel = {name: digest for name, digest in first.items() if name.endswith(".whl")}
    assert build(here, tmp_path / "third", "--wheel") == wheel


def test_a_change_changes_them(tmp_path: Path) -> None:
    """The test above can fail."""
    home = checkout(tmp_path / "home", umask=0o022, mtime=1_700_000_000)
    before = build(home, tmp_path / "before")
    (home / "x402_django" / "clock.py").write_text("# another\n")
    after = build(home, tmp_path / "after")
    assert all(before[name] != after[name] for name in before)


def test_the_sdist_has_what_a_packager_needs(tmp_path: Path) -> None:
    home = checkout(tmp_path / "home", umask=0o022, mtime=1_700_000_000)
    (name,) = build(home, tmp_path / "built", "--sdist")
    with tarfile.open(tmp_path / "built" / name) as archive:
        names = {one.partition("/")[2] for one in archive.getnames()}
    assert {
        "tests/conftest.py", "tests/settings.py", "docs/tutorial.md", "manage.py", "Makefile",
        "demo_project/settings.py", "contracts/src/TestDollar.sol", "contracts/build.js",
        "deploy/compose.yaml", "x402_django/locale/de/LC_MESSAGES/django.po", "LICENSE",
    } <= names  # fmt: skip
    assert not [one for one in names if "node_modules" in one or "__pycache__" in one]
