"""The documentation names what exists: pages, headings, commands and their options."""

from __future__ import annotations

import re
import shlex

import pytest
from django.core.management import get_commands, load_command_class

from tests.docs.blocks import PAGES, ROOT, blocks_of

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
COMMAND = re.compile(r"\b(x402_[a-z]+)\b([^`\n|>&]*)")
#: What looks like a command and is the name of something else.
NOT_COMMANDS = {"x402_django", "x402_payment", "x402_prometheus"}
PAGE_NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    bare = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower())
    return bare.replace(" ", "-")


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_links_lead_somewhere(name):
    page = ROOT / name
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in LINK.findall(prose):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, fragment = link.partition("#")
        there = (page.parent / target) if target else page
        assert there.exists(), link
        if fragment:
            assert fragment in map(anchor, HEADING.findall(there.read_text())), link


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_commands_exist_and_know_their_options(name):
    text = (ROOT / name).read_text()
    ours = {command for command, app in get_commands().items() if app == "x402_django"}
    for command, rest in re.findall(r"manage\.py (x402_[a-z_]+)([^`\n|>&]*)", text):
        assert command in ours
        try:
            words = shlex.split(rest, comments=True)
        except ValueError:  # an apostrophe of the sentence around it
            words = rest.split()
        parser = load_command_class("x402_django", command).create_parser("manage.py", command)
        for option in (word.split("=")[0] for word in words if word.startswith("--")):
            assert option in parser._option_string_actions, f"{command} {option}"


def test_every_command_is_documented():
    text = "".join(page.read_text() for page in PAGES)
    ours = {command for command, app in get_commands().items() if app == "x402_django"}
    assert {command for command in ours if command not in text} == set()


def test_every_page_is_reached_from_the_index():
    index = (ROOT / "docs/README.md").read_text()
    linked = {link.partition("#")[0] for link in LINK.findall(index)}
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages - linked == set()


def test_shell_blocks_call_what_make_has():
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = {
        target
        for page in PAGES
        for language in ("console", "bash", "sh")
        for block in blocks_of(page, language)
        for target in re.findall(r"\bmake ([a-z][a-z-]*)", block.text)
    }
    assert called
    assert called <= targets


def test_every_threat_is_tried_where_the_page_says():
    page = (ROOT / "docs/threats.md").read_text()
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    for number, files in rows:
        names = re.findall(r"`([^`]+)`", files)
        assert names, number
        for name in names:
            assert f"def test_t{int(number):02}" in (ROOT / "tests" / name).read_text(), name
