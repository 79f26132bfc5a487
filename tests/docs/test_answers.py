"""The reference of answers names every code and every header, and no other."""

from __future__ import annotations

import re

from tests.docs.blocks import ROOT
from x402_django import constants
from x402_django.constants import Code

PAGE = (ROOT / "docs" / "answers.md").read_text()
NAMED = set(re.findall(r"`([A-Za-z0-9_\-]+)`", PAGE))
CODES = {value for name, value in vars(Code).items() if name.isupper()}
HEADERS = {
    header
    for name, value in vars(constants).items()
    if name.endswith(("_HEADER", "_HEADERS"))
    for header in ([value] if isinstance(value, str) else value)
}


def test_every_code_is_there():
    assert not CODES - NAMED


def test_every_header_is_there():
    assert not HEADERS - NAMED


def test_no_code_is_made_up():
    looks_like_one = {name for name in NAMED if re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", name)}
    assert not looks_like_one - CODES
