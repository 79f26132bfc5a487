"""The table that the demo prints, and the comparison that decides its exit status."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from demo_project import books, shopping, wallets
from demo_project.agent import FREE, NOT_CHARGED, Errand, Purchase
from demo_project.books import Movement, ReceiptFacts
from demo_project.children import Children
from x402_django.protocol.assets import KnownAsset

PAYER = "0x1234567890123456789012345678901234567890"
ERRANDS = (
    Errand("GET", "/free/", FREE),
    Errand("GET", "/weather/"),
    Errand("POST", "/api/forecast/"),
    Errand("GET", "/broken/", NOT_CHARGED),
)
PURCHASES = [
    Purchase("GET /free/", 200, "", "", 0, 0.01),
    Purchase("GET /weather/", 200, PAYER, "0xaa" + "0" * 62, 10_000, 0.25),
    Purchase("POST /api/forecast/", 201, PAYER, "0xbb" + "0" * 62, 20_000, 0.5),
    Purchase("GET /broken/", 500, "", "", 0, 0.02),
]
RECEIPTS = [
    ReceiptFacts("f" * 40, "0xaa" + "0" * 62, 10_000, "$0.01"),
    ReceiptFacts("e" * 40, "0xbb" + "0" * 62, 20_000, "$0.02"),
]
RECEIVED, SPENT = Movement(5, 30_005), Movement(100_000, 70_000)


def complaints(
    purchases: list[Purchase] = PURCHASES,
    receipts: list[ReceiptFacts] = RECEIPTS,
    payee: Movement = RECEIVED,
    payer: Movement = SPENT,
) -> list[str]:
    return books.complaints(ERRANDS, purchases, receipts, payee, payer)


def with_purchase(index: int, **changes: Any) -> list[Purchase]:
    changed = list(PURCHASES)
    changed[index] = replace(changed[index], **changes)
    return changed


def test_books_in_order() -> None:
    assert complaints() == []


def test_a_missing_receipt_is_noticed() -> None:
    assert complaints(receipts=RECEIPTS[:1]) == [
        "The agent was told of 2 payments of 30000 units in all, the ledger has 1 receipts of "
        "10000.",
        "The payee received 30000 units, the receipts say 10000.",
        "The agent spent 30000 units, the receipts say 10000.",
    ]


def test_a_receipt_of_nothing_the_agent_knows_is_noticed() -> None:
    stray = ReceiptFacts("d" * 40, "0xcc" + "0" * 62, 0, "$0.00")
    assert len(complaints(receipts=[*RECEIPTS, stray])) == 1


def test_the_receipt_of_another_transaction_is_noticed() -> None:
    other = [RECEIPTS[0], replace(RECEIPTS[1], transaction="0xcc" + "0" * 62)]
    assert len(complaints(receipts=other)) == 1


@pytest.mark.parametrize("off_by", [-1, 1])
def test_one_unit_too_much_or_too_little_is_noticed(off_by: int) -> None:
    received = replace(RECEIVED, after=RECEIVED.after + off_by)
    assert complaints(payee=received) == [
        f"The payee received {30_000 + off_by} units, the receipts say 30000."
    ]
    spent = replace(SPENT, after=SPENT.after - off_by)
    assert complaints(payer=spent) == [
        f"The agent spent {30_000 + off_by} units, the receipts say 30000."
    ]


def test_a_charge_for_the_broken_page_is_noticed() -> None:
    charged = with_purchase(3, transaction="0xcc" + "0" * 62, amount=10_000)
    assert complaints(charged)[0] == (
        "GET /broken/ should have been not charged; it was paid, and answered 500."
    )


def test_content_without_payment_is_noticed() -> None:
    for_nothing = with_purchase(1, transaction="", amount=0)
    assert complaints(for_nothing)[0] == (
        "GET /weather/ should have been paid; it was free, and answered 200."
    )


def test_a_payment_without_content_is_noticed() -> None:
    assert complaints(with_purchase(1, status=503))[0] == (
        "GET /weather/ should have been paid; it was paid, and answered 503."
    )


def test_an_error_of_the_client_is_passed_on() -> None:
    failed = with_purchase(0, status=0, error="ConnectError: refused")
    assert complaints(failed) == ["GET /free/: ConnectError: refused."]


def test_an_agent_that_gave_up_is_noticed() -> None:
    assert complaints(PURCHASES[:3]) == ["GET /broken/ was never asked for."]


def test_the_table() -> None:
    receipts = {receipt.transaction: receipt for receipt in RECEIPTS}
    rows = [books.row(purchase, receipts.get(purchase.transaction)) for purchase in PURCHASES]
    assert [row.split() for row in rows] == [
        ["GET", "/free/", "free", "—", "—", "—", "0.01", "s"],
        ["GET", "/weather/", "$0.01", "0x1234…7890", "0xaa00…0000", "f" * 12, "0.25", "s"],
        ["POST", "/api/forecast/", "$0.02", "0x1234…7890", "0xbb00…0000", "e" * 12, "0.50", "s"],
        ["GET", "/broken/", "not", "charged", "(500)", "—", "—", "—", "0.02", "s"],
    ]
    titles, rule = books.heading().splitlines()
    assert titles.split() == ["what", "price", "payer", "transaction", "receipt", "time"]
    for line in (rule, *rows):
        assert len(line) <= 100
        assert line[titles.index("time")] in "─0"  # the columns stand under their titles


def test_what_was_paid_and_has_no_receipt_shows_in_the_table() -> None:
    assert "no receipt" in books.row(PURCHASES[1], None)
    assert "no answer" in books.row(Purchase("GET /free/", 0, "", "", 0, 1.0, "gone"), None)


@pytest.mark.django_db
def test_shopping_fails_when_the_ledger_has_no_receipts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asset = KnownAsset("eip155:84532", "0x" + "1" * 40, "USDC", "2", 6, "USDC")
    monkeypatch.setattr(shopping, "_purchases", lambda *arguments: iter(PURCHASES))
    monkeypatch.setattr(shopping, "balance", lambda asset, address: 1_000_000)
    purse = wallets.Purse("0x" + "1" * 64, PAYER, "a test")
    assert shopping.go_shopping(Children(tmp_path), "http://shop", asset, purse) is False
    printed = capsys.readouterr().out
    assert "WRONG     The agent was told of 2 payments of 30000 units" in printed
