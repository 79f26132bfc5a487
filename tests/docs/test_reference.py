"""The reference pages that are made from the code are those of this code."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pytest
from django.dispatch import Signal
from django.utils.translation import override

from tests.docs.blocks import ROOT
from x402_django import exceptions, models, signals


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("x402_docs_generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["models.md", "commands.md", "errors.md"])
def test_made_pages_are_up_to_date(name: str) -> None:
    with override(None):
        made = generator().PAGES[name]()
    written = (ROOT / "docs" / name).read_text()
    assert written == made, "The code has changed: `make reference` writes the page anew."


def test_every_model_is_there_once() -> None:
    headings = re.findall(r"^### `(\w+)`$", (ROOT / "docs/models.md").read_text(), re.MULTILINE)
    public = {name for name in models.__all__ if hasattr(getattr(models, name), "_meta")}
    assert public <= set(headings)
    assert len(headings) == len(set(headings))


def test_every_error_is_drawn_in_the_tree() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    tree = page.partition("```text")[2].partition("```")[0]
    raised = {
        one.__name__
        for one in vars(exceptions).values()
        if isinstance(one, type) and issubclass(one, exceptions.X402Error)
    }
    drawn = set(re.findall(r"([A-Z]\w+) {2,}|([A-Z]\w+)$", tree, re.MULTILINE))
    assert {one or other for one, other in drawn} == raised


def test_every_signal_is_there_and_none_is_made_up() -> None:
    page = (ROOT / "docs/signals.md").read_text()
    named = set(re.findall(r"^\| `(\w+)` \| `", page, re.MULTILINE))
    assert named == {name for name, one in vars(signals).items() if isinstance(one, Signal)}


def test_every_check_is_there_and_none_is_made_up() -> None:
    """Ids are stable, so the page has each that any code gives."""
    page = (ROOT / "docs/checks.md").read_text()
    named = set(re.findall(r"^\| `x402_django\.([EW]\d{3})`", page, re.MULTILINE))
    given = {
        found
        for path in (ROOT / "x402_django").rglob("*.py")
        for found in re.findall(r"x402_django\.([EW]\d{3})\b", path.read_text())
    }
    assert named == given
