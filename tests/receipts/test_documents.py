"""Receipts as whoever holds their address sees them: page, PDF, JSON; and what is verified."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from eth_account import Account
from pypdf import PdfReader

from tests.admin.rows import make_payment, make_receipt
from x402_django import clock
from x402_django.models import Merchant, MerchantDetails, Payment, Receipt, Refund, RefundReceipt
from x402_django.testing.payer import Payer, PayingClient
from x402_django.testing.sign_in import sign_in_headers

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.receipts.urls")]

SOLD = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
HTML = {"Accept": "text/html"}
KEY = "0x" + "11" * 32


@pytest.fixture
def seller() -> Merchant:
    merchant = Merchant.objects.get(pk=1)
    merchant.name, merchant.address = "Łódź Weather & Sons", "Piotrkowska 1\n90-001 Łódź"
    merchant.tax_id, merchant.note = "PL1234567890", "Reverse charge applies."
    merchant.save()
    return merchant


@pytest.fixture
def receipt(seller: Merchant) -> Receipt:
    payment = make_payment(1, state="final", settled_at=SOLD)
    return make_receipt(
        payment, issued_at=timezone.now(), description="Weather <b>of today</b>",
        price_usd=Decimal("0.01"),
    )  # fmt: skip


def address(row: Any, name: str = "receipt") -> str:
    return reverse(f"x402:{name}", args=[row.reference])


def facts(row: Any, **query: str) -> dict[str, Any]:
    answer = Client().get(address(row), query)
    assert answer.status_code == 200
    assert answer["Cache-Control"].startswith("max-age=0")
    found: dict[str, Any] = answer.json()
    return found


def page(row: Any, **query: str) -> str:
    return Client().get(address(row), query, headers=HTML).content.decode()


def pdf_text(row: Any) -> str:
    answer = Client().get(address(row, "receipt-pdf"))
    assert answer["Content-Type"] == "application/pdf"
    text = "".join(one.extract_text() for one in PdfReader(io.BytesIO(answer.content)).pages)
    return text.replace("\n", "")


def test_the_page_and_the_pdf_say_all_that_a_bookkeeper_asks(receipt: Receipt) -> None:
    number = f"{timezone.localtime(receipt.issued_at).year}-000001"
    wanted = [
        number, "Łódź Weather & Sons", "90-001 Łódź", "PL1234567890", receipt.payer,
        "Weather <b>of today</b>", "0.01 USDC", "$0.01", "Base Sepolia", receipt.asset,
        receipt.pay_to, receipt.transaction, receipt.resource_url, receipt.reference,
        "Reverse charge applies.", "x402 version 2",
    ]  # fmt: skip
    printed = pdf_text(receipt)
    shown = page(receipt).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    for text in wanted:
        assert text.replace(" ", "") in printed.replace(" ", ""), text
        assert text in shown, text
    assert "<b>of today" not in page(receipt)
    told = facts(receipt)
    assert told["receipt"]["number"] == number
    assert told["receipt"]["seller_address"] == "Piotrkowska 1\n90-001 Łódź"
    assert told["state"] == "final"


def test_the_seller_stays_as_at_the_time_of_sale(receipt: Receipt, seller: Merchant) -> None:
    before = facts(receipt)
    later = receipt.issued_at + timedelta(seconds=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda: later)
        seller.name = "New Owners"
        seller.save()
        later += timedelta(seconds=1)
        Merchant.objects.filter(pk=1).update(tax_id="DE999")
    assert facts(receipt) == before
    assert "New Owners" not in page(receipt)
    assert "New Owners" not in pdf_text(receipt)
    new = make_receipt(
        make_payment(2, state="final"), issued_at=timezone.now() + timedelta(hours=1)
    )
    told = facts(new)["receipt"]
    assert (told["seller"], told["seller_tax_id"]) == ("New Owners", "DE999")


def test_details_are_kept_from_the_first_edit_on() -> None:
    receipt = make_receipt(make_payment(1, state="final"), issued_at=timezone.now())
    assert not MerchantDetails.objects.exists()
    assert facts(receipt)["receipt"]["seller"] == "This site"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda: receipt.issued_at + timedelta(seconds=1))
        merchant = Merchant.objects.get()
        merchant.name = "Renamed"
        merchant.save()
    assert facts(receipt)["receipt"]["seller"] == "This site"
    names = MerchantDetails.objects.order_by("since").values_list("name", flat=True)
    assert list(names) == ["This site", "Renamed"]
    merchant.save()
    assert MerchantDetails.objects.count() == 2
    with pytest.raises(TypeError, match="append-only"):
        MerchantDetails.objects.get(name="This site").save()


def test_a_copy_is_verified_by_its_digest(receipt: Receipt) -> None:
    told = facts(receipt)
    canonical = json.dumps(
        told["receipt"], sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert sha256(canonical.encode()).hexdigest() == told["digest"]
    assert told["matches"] is None
    assert facts(receipt, digest=told["digest"])["matches"] is True
    forged = sha256(canonical.replace("0.01 USDC", "9.01 USDC").encode()).hexdigest()
    assert facts(receipt, digest=forged)["matches"] is False
    assert "Verified: this is what was issued." in page(receipt, digest=told["digest"])
    assert "Not verified" in page(receipt, digest=forged)
    assert f"?digest={told['digest']}" in pdf_text(receipt)


def test_the_digest_is_the_same_in_every_language(receipt: Receipt) -> None:
    german = Client().get(address(receipt), headers={"Accept-Language": "de"}).json()
    assert german["digest"] == facts(receipt)["digest"]


@pytest.mark.parametrize("form", ["eip712", "jws"])
def test_it_is_signed_by_the_sites_key(receipt: Receipt, settings: Any, form: str) -> None:
    settings.DEBUG = True
    settings.X402 = {
        **settings.X402,
        "EXTENSIONS": {"offer-receipt": {"OPTIONS": {"KEY": KEY, "FORMAT": form}}},
    }
    told = facts(receipt)
    signed = told["signature"]
    assert signed["kid"] in page(receipt)
    if form == "eip712":
        from eth_account.messages import encode_typed_data

        names = ("reference", "number", "seller", "digest")
        message = encode_typed_data(
            {"name": "x402 receiptdocument", "version": "1", "chainId": 1},
            {"ReceiptDocument": [{"name": name, "type": "string"} for name in names]},
            signed["payload"],
        )
        signer = Account.recover_message(message, signature=signed["signature"])
        assert signer == Account.from_key(KEY).address
        assert signed["payload"]["digest"] == told["digest"]
        message = encode_typed_data(
            {"name": "x402 receiptdocument", "version": "1", "chainId": 1},
            {"ReceiptDocument": [{"name": name, "type": "string"} for name in names]},
            {**signed["payload"], "digest": "0" * 64},
        )
        assert Account.recover_message(message, signature=signed["signature"]) != signer
    else:
        assert signed["signature"].count(".") == 2


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("settled", "settled"),
        ("final", "final"),
        ("reversed", "reversed"),
        ("refunded", "refunded"),
    ],
)
def test_how_it_stands_today(receipt: Receipt, state: str, shown: str) -> None:
    Payment.objects.update(state=state)
    assert facts(receipt)["state"] == shown


def test_a_refund_has_a_receipt_of_its_own(receipt: Receipt) -> None:
    payment = receipt.payment
    refund = Refund.objects.create(
        payment=payment, merchant=payment.merchant, state="final", state_changed_at=SOLD,
        amount=4_000, price_usd=Decimal("0.004"), network=payment.network, asset=payment.asset,
        asset_symbol="USDC", asset_decimals=6, payer=payment.payer, requested_name="clerk",
        created_at=SOLD, transaction="0x" + "ab" * 32, reason="Half a page",
    )  # fmt: skip
    back = RefundReceipt.objects.create(
        refund=refund, merchant=payment.merchant, issued_at=timezone.now(),
        network=payment.network, asset=payment.asset, asset_symbol="USDC", asset_decimals=6,
        amount=4_000, price_usd=Decimal("0.004"), payer=payment.payer, sender=payment.pay_to,
        transaction=refund.transaction, resource_url=payment.resource_url, reason="Half a page",
    )  # fmt: skip
    assert facts(receipt)["state"] == "partly_refunded"
    told = facts(back)["receipt"]
    assert (told["kind"], told["amount"], told["refund_of"], told["reason"]) == (
        "refund", "0.004 USDC", receipt.reference, "Half a page",
    )  # fmt: skip
    assert told["number"].endswith("-R-000001")
    for text in ("Refund receipt", "Half a page", receipt.reference):
        assert text.replace(" ", "") in pdf_text(back).replace(" ", "")
        assert text in page(back)


def test_nobody_guesses_a_receipt(receipt: Receipt) -> None:
    for reference in ("0" * 40, receipt.reference[:-1], receipt.payment.public_id):
        assert Client().get(reverse("x402:receipt", args=[reference])).status_code == 404
        assert Client().get(reverse("x402:receipt-pdf", args=[reference])).status_code == 404


def test_without_the_library_there_is_a_sentence(receipt: Receipt, monkeypatch: Any) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "fpdf", None)
    answer = Client().get(address(receipt, "receipt-pdf"))
    assert answer.status_code == 501
    assert "pip install 'x402-django[pdf]'" in answer.json()["message"]


def test_without_a_font_other_letters_are_question_marks(receipt: Receipt, monkeypatch) -> None:
    monkeypatch.setattr("x402_django.receipts.pdf._PLACES", ())
    assert "?ód? Weather & Sons" in pdf_text(receipt)


# ------------------------------------------------------------------------ the payer's own


MINE = "/x402/receipts/"


def sign_in(account: Any) -> dict[str, str]:
    answer = Client().get(MINE)
    assert (answer.status_code, answer.json()["error"]) == (401, "sign_in_required")
    return sign_in_headers(answer.json()["extensions"]["sign-in-with-x"], account)


def test_a_payer_finds_its_receipts_by_signing() -> None:
    payer = Payer()
    for path in ("/weather/", "/metered/"):
        assert PayingClient(payer=payer).get(path).status_code == 200
    assert PayingClient(payer=Payer()).get("/weather/").status_code == 200
    answer = Client().get(MINE, headers=sign_in(payer.account))
    found = answer.json()["receipts"]
    assert [one["text"] for one in found] == ["0.10 USDC", "0.01 USDC"]
    mine = Receipt.objects.filter(payer=payer.address).order_by("-pk")
    assert [one["reference"] for one in found] == [row.reference for row in mine]
    assert facts(mine[0])["receipt"]["buyer"] == payer.address
    assert answer.json()["before"] is None


def test_a_signature_is_good_once_and_for_its_own_wallet() -> None:
    payer, thief = Payer(), Payer()
    PayingClient(payer=payer).get("/weather/")
    headers = sign_in(payer.account)
    assert len(Client().get(MINE, headers=headers).json()["receipts"]) == 1
    again = Client().get(MINE, headers=headers)
    assert (again.status_code, again.json()["error"]) == (401, "invalid_siwx_nonce")
    assert Client().get(MINE, headers=sign_in(thief.account)).json()["receipts"] == []
    declared = Client().get(MINE).json()["extensions"]["sign-in-with-x"]
    forged = sign_in_headers(declared, thief.account, address=payer.address)
    answer = Client().get(MINE, headers=forged)
    assert answer.status_code in (401, 503)
    assert "receipts" not in answer.json()
    assert Client().get(MINE, headers={"SIGN-IN-WITH-X": "nonsense"}).status_code == 400


def test_pages_of_the_list(monkeypatch) -> None:
    monkeypatch.setattr("x402_django.http.receipts._PAGE", 2)
    payer = Payer()
    for _ in range(3):
        PayingClient(payer=payer).get("/weather/")
    first = Client().get(MINE, headers=sign_in(payer.account)).json()
    second = Client().get(MINE, {"before": first["before"]}, headers=sign_in(payer.account)).json()
    references = [one["reference"] for one in first["receipts"] + second["receipts"]]
    newest = Receipt.objects.order_by("-pk").values_list("reference", flat=True)
    assert references == list(newest)
    assert second["before"] is None


# ------------------------------------------------------------------------------ the desk


def test_the_desk_shows_number_and_document(receipt: Receipt, admin_client: Client) -> None:
    change = reverse("admin:x402_django_receipt_change", args=[receipt.pk])
    shown = admin_client.get(change).content.decode()
    number = facts(receipt)["receipt"]["number"]
    assert number in shown
    assert f"{address(receipt)}receipt.pdf" in shown
    listed = reverse("admin:x402_django_receipt_changelist")
    assert number in admin_client.get(listed).content.decode()
    year = number[:4]
    for term in (number, f"{year}-1"):
        found = admin_client.get(listed, {"q": term}).context["cl"].result_list
        assert [row.pk for row in found] == [receipt.pk]
    assert list(admin_client.get(listed, {"q": f"{year}-2"}).context["cl"].result_list) == []


def test_exports_have_the_number(receipt: Receipt) -> None:
    user = User.objects.create_user("books", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_receipt"))
    client = Client()
    client.force_login(user)
    number = facts(receipt)["receipt"]["number"]
    file = client.get(
        reverse("admin:x402_django_receipt_export"),
        {
            "first": "2026-01-01", "last": "2100-01-01", "subject": "receipts",
            "file_format": "jsonl",
        },
    )  # fmt: skip
    rows = [json.loads(line) for part in file.streaming_content for line in part.splitlines()]
    assert [row["number"] for row in rows] == [number]


def test_the_status_page_leads_to_it(receipt: Receipt) -> None:
    status = reverse("x402:payment-status", args=[receipt.payment.public_id])
    assert address(receipt) in Client().get(status, headers=HTML).content.decode()
