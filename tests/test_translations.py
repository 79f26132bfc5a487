"""German and Spanish: complete, with every placeholder, and really shown."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polib
import pytest
from django.test import Client
from django.urls import reverse
from django.utils import translation

from tests.admin.rows import make_payment, make_receipt
from tests.shop.runs import runs

APP = Path(__file__).resolve().parents[1] / "x402_django"
LANGUAGES = ("de", "es")
PLACEHOLDER = re.compile(r"%\([a-z_]+\)[sd]|(?<!%)%[sd]|\{[a-z]+\}|%%|<[^>]+>")


def catalogue(language: str) -> polib.POFile:
    return polib.pofile(str(APP / "locale" / language / "LC_MESSAGES" / "django.po"))


def said(entry: polib.POEntry) -> list[tuple[str, str]]:
    """Each form with what it is a translation of."""
    if not entry.msgid_plural:
        return [(entry.msgid, entry.msgstr)]
    forms = (entry.msgid, entry.msgid_plural)
    return [(forms[min(number, 1)], text) for number, text in entry.msgstr_plural.items()]


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_is_translated(language: str) -> None:
    entries = catalogue(language)
    assert len(entries) > 900
    assert [one.msgid for one in entries if one.fuzzy or not all(t for _m, t in said(one))] == []
    # Each has the two forms that both languages have.
    plurals = [one for one in entries if one.msgid_plural]
    assert len(plurals) > 15
    assert all(set(one.msgstr_plural) == {0, 1} for one in plurals)


@pytest.mark.parametrize("language", LANGUAGES)
def test_placeholders_and_marks_are_kept(language: str) -> None:
    wrong = [
        (of, text)
        for entry in catalogue(language)
        for of, text in said(entry)
        if sorted(PLACEHOLDER.findall(of)) != sorted(PLACEHOLDER.findall(text))
        or of.endswith("\n") != text.endswith("\n")
    ]
    assert wrong == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_installed_is_what_is_written(language: str) -> None:
    """The compiled catalogue, which alone is read, has just these texts."""
    written = {one.msgid: said(one) for one in catalogue(language)}
    compiled = polib.mofile(str(APP / "locale" / language / "LC_MESSAGES" / "django.mo"))
    assert {one.msgid: said(one) for one in compiled} == written


@pytest.mark.skipif(shutil.which("xgettext") is None, reason="gettext is not here")
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_of_the_code_is_missing(language: str, tmp_path: Path) -> None:
    copy = tmp_path / "x402_django"
    shutil.copytree(APP, copy, ignore=shutil.ignore_patterns("__pycache__", "artifacts"))
    command = [sys.executable, "-m", "django", "makemessages", "-l", language]
    subprocess.run(
        [*command, "--no-location", "--no-obsolete"],
        cwd=copy,
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        check=True,
        capture_output=True,
    )
    found = polib.pofile(str(copy / "locale" / language / "LC_MESSAGES" / "django.po"))
    assert {one.msgid for one in found} == {one.msgid for one in catalogue(language)}
    assert [one.msgid for one in found if one.fuzzy or not all(t for _m, t in said(one))] == []


@pytest.fixture
def speaking(settings: Any) -> Iterator[None]:
    """A site that listens to its readers; the thread speaks English again afterwards."""
    settings.MIDDLEWARE = ["django.middleware.locale.LocaleMiddleware", *settings.MIDDLEWARE]
    settings.ROOT_URLCONF = "tests.receipts.urls"
    with translation.override("en"):
        yield


PAYWALL = {"de": "Zahlung erforderlich", "es": "Se requiere un pago"}
RECEIPT = {"de": "Bezahlt, endgültig.", "es": "Pagado, definitivamente."}
STATUS = {"de": "Bezahlt und geliefert.", "es": "Pagado y entregado."}
RULES = {"de": "Einen Preis ausprobieren", "es": "Probar un precio"}


@pytest.mark.django_db
@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_speak_the_readers_language(
    speaking: None, admin_client: Client, language: str
) -> None:
    receipt = make_receipt(make_payment(1, state="final"))
    heard = {"Accept": "text/html", "Accept-Language": language, "User-Agent": "Mozilla/5.0"}
    for path, text in (
        ("/slow/", PAYWALL[language]),
        (reverse("x402:receipt", args=[receipt.reference]), RECEIPT[language]),
        (reverse("x402:payment-status", args=[receipt.payment.public_id]), STATUS[language]),
        (reverse("admin:x402_django_pricerule_changelist"), RULES[language]),
        ("/admin/x402_django/desk/", {"de": "Umsatz", "es": "Ingresos"}[language]),
    ):
        page = admin_client.get(path, headers=heard).content.decode()
        assert text in page, path
        assert f'lang="{language}"' in page
    assert not runs


@pytest.mark.parametrize(
    ("language", "forms"),
    [("de", ["1 Tag", "2 Tage"]), ("es", ["1 día", "2 días"]), ("en", ["1 day", "2 days"])],
)
def test_one_and_many(language: str, forms: list[str]) -> None:
    with translation.override(language):
        told = [translation.ngettext("%d day", "%d days", count) % count for count in (1, 2)]
    assert told == forms
