"""The code in the README and in ``docs/``, and what it may take for granted."""

from __future__ import annotations

import os
import re
import textwrap
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from tests.settings import PAY_TO

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: What a reader fills in, and something that could stand there.
FILLED_IN: Final = {
    "0x…": PAY_TO,
    "https://…": "https://node.example",
    "7xKX…": "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU",
}
_FENCE: Final = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """Fenced code: the page, the line it begins in, and the code without what elides more."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def code(self) -> str:
        """With an address and a node in the place of what a reader fills in."""
        filled = self.text.replace("{...,", "{")
        for elided, example in FILLED_IN.items():
            filled = filled.replace(f'"{elided}"', f'"{example}"')
        return filled

    @property
    def is_fragment(self) -> bool:
        """Whether it is a part of a dict, to be put where it belongs."""
        return self.code.lstrip().startswith('"')


def blocks_of(page: Path, language: str) -> list[Block]:
    text = page.read_text()
    found = _FENCE.finditer(text)
    return [
        Block(page, text[: match.start()].count("\n") + 2, match[2], textwrap.dedent(match[3]))
        for match in found
        if match[2] == language
    ]


def taken_for_granted() -> dict[str, Any]:
    """Names that a Django developer brings along, and those of a shop of their own."""
    from django.http import JsonResponse
    from django.test import TestCase
    from django.urls import include, path
    from django.views.generic import DetailView
    from eth_account import Account
    from rest_framework.permissions import IsAuthenticated
    from rest_framework.views import APIView

    from x402_django.exceptions import SettlementUnknown
    from x402_django.http.decorators import payment_required
    from x402_django.testing.instant import InstantFacilitator

    story = SimpleNamespace(author=SimpleNamespace(address=PAY_TO))
    shop = {
        "Story": SimpleNamespace(objects=SimpleNamespace(get=lambda slug: story)),
        "sign": lambda text: f"signed {text}",
        "account": Account.create(),
        "key": Account.create().key.hex(),
        "challenge": {"challengeId": "c" * 43},
        "tx_hash": "0x" + "AB" * 32,
    }
    lists: dict[str, Any] = {"INSTALLED_APPS": [], "MIDDLEWARE": [], "urlpatterns": [], "X402": {}}
    lists["path"] = path
    django = (JsonResponse, TestCase, DetailView, IsAuthenticated, APIView, include)
    ours = (payment_required, InstantFacilitator, SettlementUnknown)
    imported = {thing.__name__: thing for thing in (*django, *ours, Decimal)}
    return {**imported, **shop, **lists, "os": os, "__name__": "documented"}
