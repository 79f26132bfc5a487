"""Exports of receipts and gas: the page, the command, and every format to the letter."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from beancount.core.data import Transaction
from beancount.parser.parser import parse_string
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from openpyxl import load_workbook

from tests.admin.rows import NETWORK, PAY_TO, PAYER, USDC, make_payment, make_receipt
from x402_django.models import ChainTransaction, Membership, Merchant
from x402_django.reporting.records import whole

pytestmark = pytest.mark.django_db

DAYS = {"first": "2026-03-01", "last": "2026-03-01", "subject": "receipts"}
HEADING = (
    "kind,reference,issued_at,merchant,network,token,token_contract,amount,amount_atomic,"
    "price_usd,payer,pay_to,transaction,description,resource_url,number"
)


def url(file_format: str, **changes: str) -> str:
    query = {**DAYS, "file_format": file_format, **changes}
    path = reverse("admin:x402_django_receipt_export")
    return f"{path}?{'&'.join(f'{name}={value}' for name, value in query.items())}"


def content(answer: Any) -> bytes:
    assert answer.status_code == 200, answer.content
    return b"".join(answer.streaming_content)


@pytest.fixture
def sold() -> None:
    """A receipt in the period, and one on either side of it."""
    for number, when in enumerate(["2026-02-28T23:59:59", "2026-03-01T12:01", "2026-03-02T00:00"]):
        payment = make_payment(number + 1, description="Today's weather")
        make_receipt(
            payment,
            reference=f"{number:040x}",
            issued_at=datetime.fromisoformat(when).replace(tzinfo=UTC),
            transaction=f"0x{number:064x}",
        )


@pytest.fixture
def gas() -> None:
    ChainTransaction.objects.create(
        network=NETWORK,
        wallet=PAYER,
        nonce=1,
        hash="0x" + "ab" * 32,
        raw=b"\x02",
        to=USDC,
        gas_limit=100_000,
        max_fee_per_gas=2_000_000_000,
        max_priority_fee_per_gas=1,
        status="mined",
        payments_count=3,
        created_at=datetime(2026, 3, 1, 8, tzinfo=UTC),
        gas_used=84_000,
        effective_gas_price=1_000_000_001,
    )


def test_csv(desk: Client, sold: None) -> None:
    answer = desk.get(url("csv"))
    lines = content(answer).decode().split("\r\n")
    assert lines == [
        HEADING,
        f"sale,{1:040x},2026-03-01T12:01:00Z,This site,{NETWORK},USDC,{USDC},0.01,10000,0.01000000,"
        f"{PAYER},{PAY_TO},0x{1:064x},Today's weather,https://shop.example/weather/,",
        "",
    ]
    assert answer["Content-Disposition"] == (
        'attachment; filename="receipts-2026-03-01-2026-03-01.csv"'
    )
    assert "no-store" in answer["Cache-Control"]


def test_json_lines_hold_numbers_exactly(desk: Client, sold: None) -> None:
    lines = content(desk.get(url("jsonl"))).decode().splitlines()
    assert len(lines) == 1
    record = json.loads(lines[0])
    assert (record["amount"], record["amount_atomic"]) == ("0.01", "10000")
    assert list(record) == HEADING.split(",")


def test_workbook(desk: Client, sold: None) -> None:
    sheet = load_workbook(io.BytesIO(content(desk.get(url("xlsx"))))).active
    rows = list(sheet.values)
    assert rows[0] == tuple(HEADING.split(","))
    assert len(rows) == 2
    assert dict(zip(rows[0], rows[1], strict=True)) | {} == {
        **dict(zip(rows[0], rows[1], strict=True)),
        "amount": 0.01,
        "amount_atomic": 10_000,
        "token": "USDC",
        "reference": f"{1:040x}",
    }


def test_beancount_is_understood_by_beancount(desk: Client, sold: None, gas: None) -> None:
    text = content(desk.get(url("beancount"))).decode()
    entries, errors, _options = parse_string(text)
    assert errors == []
    (sale,) = [entry for entry in entries if isinstance(entry, Transaction)]
    assert (sale.payee, sale.narration) == (PAYER, "Today's weather")
    assert [(one.account, one.units.number, one.units.currency) for one in sale.postings] == [
        (f"Assets:X402:Eip155-84532:{PAY_TO}", Decimal("0.01"), "USDC"),
        ("Income:X402:Sales", Decimal("-0.01"), "USDC"),
    ]
    assert sale.meta["usd"] == Decimal("0.01")
    text = content(desk.get(url("beancount", subject="gas"))).decode()
    entries, errors, _options = parse_string(text)
    assert errors == []
    (paid,) = [entry for entry in entries if isinstance(entry, Transaction)]
    assert [(one.account, one.units.number, one.units.currency) for one in paid.postings] == [
        ("Expenses:X402:Gas", Decimal("0.000084000000084"), "ETH"),
        (f"Assets:X402:Eip155-84532:{PAYER}", Decimal("-0.000084000000084"), "ETH"),
    ]


def test_gas(desk: Client, gas: None) -> None:
    lines = content(desk.get(url("csv", subject="gas"))).decode().splitlines()
    assert lines == [
        "kind,transaction,signed_at,network,wallet,coin,fee,fee_wei,gas_used,gas_price_wei,status,"
        "payments",
        f"gas,0x{'ab' * 32},2026-03-01T08:00:00Z,{NETWORK},{PAYER},ETH,0.000084000000084,"
        "84000000084000,84000,1000000001,mined,3",
    ]


def test_days_are_those_of_the_sites_time_zone(desk: Client, sold: None, settings: Any) -> None:
    settings.TIME_ZONE = "Pacific/Auckland"  # 13 hours ahead: the first and half of the second
    lines = content(desk.get(url("csv", first="2026-03-02", last="2026-03-02"))).decode()
    assert [line[5:45] for line in lines.splitlines()[1:]] == [f"{1:040x}", f"{2:040x}"]


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "xlsx", "beancount"])
def test_nothing_is_exported_as_nothing(desk: Client, file_format: str) -> None:
    got = content(desk.get(url(file_format)))
    if file_format == "xlsx":
        assert list(load_workbook(io.BytesIO(got)).active.values) == [tuple(HEADING.split(","))]
    else:
        assert (
            got.decode().strip()
            == {
                "csv": HEADING,
                "jsonl": "",
                "beancount": 'option "title" "Sales by x402"',
            }[file_format]
        )


def test_the_number_of_queries_does_not_grow(
    desk: Client, django_assert_max_num_queries: Any
) -> None:
    for number in range(1, 60):
        make_receipt(make_payment(number))
    desk.get(url("csv"))  # reads the price rules
    with django_assert_max_num_queries(3):  # session, user, receipts
        assert content(desk.get(url("csv"))).count(b"\n") == 60


def test_the_page_is_reached_from_the_list_and_says_what_is_wrong(desk: Client) -> None:
    page = reverse("admin:x402_django_receipt_export")
    assert page in desk.get(reverse("admin:x402_django_receipt_changelist")).content.decode()
    assert desk.get(page).status_code == 200
    answer = desk.get(url("csv", first="2026-03-02"))
    assert answer.status_code == 400
    assert "The last day is before the first." in answer.content.decode()
    assert desk.get(url("exe")).status_code == 400


def test_who_may_not_see_receipts_exports_none(staff: Any, sold: None) -> None:
    assert staff("view_payment").get(url("csv")).status_code == 403


def test_gas_is_for_who_may_see_transactions(staff: Any, gas: None) -> None:
    assert staff("view_receipt").get(url("csv", subject="gas")).status_code == 400


def test_t26_members_export_what_is_theirs(sold: None, gas: None) -> None:
    bakery = Merchant.objects.create(name="Bakery")
    user = User.objects.create_user("baker", password="x", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=["view_receipt", "view_chaintransaction"])
    )
    Membership.objects.create(merchant=bakery, user=user)
    client = Client()
    client.force_login(user)
    assert content(client.get(url("csv"))).decode() == HEADING + "\r\n"
    assert client.get(url("csv", subject="gas")).status_code == 400


def test_command(sold: None, tmp_path: Any, desk: Client) -> None:
    file = tmp_path / "march.csv"
    days = ("--from", "2026-03-01", "--to", "2026-03-01")
    call_command("x402_export", *days, "--output", str(file))
    assert file.read_bytes() == content(desk.get(url("csv")))
    book = tmp_path / "march.xlsx"
    call_command("x402_export", *days, "--format", "xlsx", "--output", str(book))
    assert load_workbook(book).active.max_row == 2
    call_command("x402_export", *days, "--merchant", "1", "--output", str(file))
    assert len(file.read_bytes().splitlines()) == 2
    call_command("x402_export", *days, "--merchant", "2", "--output", str(file))
    assert len(file.read_bytes().splitlines()) == 1
    with pytest.raises(CommandError, match="--to is before --from"):
        call_command("x402_export", "--from", "2026-03-02", "--to", "2026-03-01")
    with pytest.raises(CommandError, match="leave --merchant out"):
        call_command("x402_export", *days, "--what", "gas", "--merchant", "1")


@pytest.mark.parametrize(
    ("amount", "decimals", "expected"),
    [
        (10_000, 6, "0.01"),
        (10_000_000, 6, "10"),
        (0, 6, "0"),
        (7, 0, "7"),
        (2**256 - 1, 18, f"{(2**256 - 1) // 10**18}.{(2**256 - 1) % 10**18}"),
        (120 * 10**30, 30, "120"),
    ],
)
def test_amounts_are_exact(amount: int, decimals: int, expected: str) -> None:
    assert f"{whole(amount, decimals):f}" == expected
