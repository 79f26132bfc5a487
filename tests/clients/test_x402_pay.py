"""``manage.py x402_pay`` buys from a live site, over good networks and bad ones."""

from __future__ import annotations

import json
import stat
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command

from tests.clients.flaky import flaky
from tests.clients.live import NETWORK, PAY_TO, Site
from x402_django.chain.devchain import deployment
from x402_django.management import purchase

PRICE = 10_000
ASSET = {
    "ADDRESS": deployment.TOKEN_ADDRESS,
    "NAME": deployment.TOKEN_NAME,
    "VERSION": deployment.TOKEN_VERSION,
    "DECIMALS": deployment.TOKEN_DECIMALS,
    "SYMBOL": deployment.TOKEN_SYMBOL,
}


@pytest.fixture(autouse=True)
def _buyer(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The buyer knows the test dollar; nobody waits between tries."""
    settings.X402 = {"NETWORKS": {NETWORK: {"ASSETS": [ASSET]}}}
    monkeypatch.setattr(purchase, "_SHORTEST", 0.01)


@pytest.fixture
def account(site: Site, monkeypatch: pytest.MonkeyPatch) -> Any:
    account = site.new_payer()
    monkeypatch.setenv("X402_PAYER_KEY", account.key.hex())
    return account


def run(*arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("x402_pay", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def fail(status: int, *arguments: str) -> tuple[str, str]:
    """What it printed, and the sentence it ended with."""
    out = StringIO()
    with pytest.raises(CommandError) as failure:
        call_command("x402_pay", *arguments, stdout=out, stderr=StringIO())
    assert failure.value.returncode == status, failure.value
    return out.getvalue(), str(failure.value)


def test_it_buys_and_records_the_purchase(site: Site, account: Any, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    out, err = run(f"{site.url}/counted/", "--receipt", str(receipt))

    ((payee, amount, transaction),) = site.transfers(account.address)
    assert (payee, amount) == (PAY_TO, PRICE)
    assert json.loads(out)["payer"] == account.address
    assert f"Paying 0.01 {deployment.TOKEN_SYMBOL} on" in err
    assert transaction in err
    written = json.loads(receipt.read_text())
    assert written["state"] == "bought"
    assert written["payment"]["amount"] == str(PRICE)
    assert written["payment"]["payer"] == account.address
    assert written["settlement"]["transaction"] == transaction
    assert "header" not in written
    named = f"{site.url}/x402/identifiers/{account.address}/{written['payment']['identifier']}/"
    assert httpx.get(named).json()["transaction"] == transaction
    assert stat.S_IMODE(receipt.stat().st_mode) == 0o600
    assert account.key.hex() not in receipt.read_text()
    # A record that is closed is not paid on top of.
    fail(1, f"{site.url}/counted/", "--receipt", str(receipt))
    assert len(site.transfers(account.address)) == 1


def test_json_for_scripts(site: Site, account: Any) -> None:
    out, _err = run(f"{site.url}/counted/", "--json", "-d", "an order", "-H", "X-Trace: 7")

    answer = json.loads(out)
    ((_payee, _amount, transaction),) = site.transfers(account.address)
    assert (answer["status"], answer["paid"]) == (200, True)
    assert answer["settlement"]["transaction"] == transaction
    assert json.loads(answer["body"])["body"] == "an order"


def test_what_was_bought_can_go_into_a_file(site: Site, account: Any, tmp_path: Path) -> None:
    out, _err = run(f"{site.url}/counted/", "-o", str(tmp_path / "answer"))
    assert out == ""
    assert json.loads((tmp_path / "answer").read_text())["payer"] == account.address


def test_a_dry_run_shows_the_offers_and_pays_nothing(site: Site, account: Any) -> None:
    out, _err = run(f"{site.url}/counted/", "--dry-run")
    lines = out.splitlines()
    assert lines[0] == "A counted answer"
    assert lines[1].split() == ["price", "network", "token", "payTo", "note"]
    assert lines[2].split()[:4] == [
        "0.01",
        deployment.TOKEN_SYMBOL,
        NETWORK,
        deployment.TOKEN_ADDRESS,
    ]
    assert lines[2].endswith("would be paid")

    out, _err = run(f"{site.url}/counted/", "--dry-run", "--json", "--max", "0.001")
    (offer,) = json.loads(out)["offers"]
    assert (offer["amount"], offer["note"]) == (str(PRICE), "above the limit")
    assert site.transfers(account.address) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max", "0.0099"],
        ["--network", "base"],
        ["--asset", "EURC"],
    ],
)
def test_it_pays_no_more_and_nothing_else(site: Site, account: Any, arguments: list[str]) -> None:
    out, said = fail(3, f"{site.url}/counted/", *arguments)
    assert "No offer is within the limit" in said
    assert "price" in out
    assert site.transfers(account.address) == []


def test_a_token_it_does_not_know_needs_its_address_and_a_limit(
    site: Site, account: Any, settings: Any
) -> None:
    settings.X402 = {"NETWORKS": {}}
    url, asset = f"{site.url}/counted/", deployment.TOKEN_ADDRESS
    fail(3, url)
    fail(3, url, "--max-atomic", str(PRICE))
    fail(3, url, "--asset", asset, "--max-atomic", str(PRICE - 1))
    assert site.transfers(account.address) == []

    run(url, "--asset", asset, "--max-atomic", str(PRICE), "--network", "base-sepolia")

    assert len(site.transfers(account.address)) == 1


def test_what_is_free_costs_nothing(site: Site, account: Any) -> None:
    _out, err = run(f"{site.url}/free/")
    assert "Nothing was asked for it." in err


def test_without_a_key_nothing_is_sent(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("X402_PAYER_KEY", raising=False)
    _out, said = fail(1, f"{site.url}/counted/")
    assert "X402_PAYER_KEY is not set" in said


def test_who_has_no_money_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X402_PAYER_KEY", site.new_payer(dollars=0).key.hex())
    _out, said = fail(4, f"{site.url}/counted/")
    assert "insufficient_funds. You were not charged." in said


@pytest.mark.parametrize("plan", [["lose"], [503], [409, "lose", 502], ["lose", "lose"]])
def test_one_payment_is_sent_until_it_is_answered(
    site: Site, account: Any, plan: list[Any]
) -> None:
    with flaky(site.url, *plan) as way:
        out, err = run(f"{way.url}/counted/")

    assert json.loads(out)["payer"] == account.address
    assert len(way.payments) == len(plan) + 1
    assert len(set(way.payments)) == 1  # never a second one
    assert err.count("sending the same payment again") == len(plan)
    assert len(site.transfers(account.address)) == 1


def test_a_program_that_gave_up_goes_on_with_the_same_payment(
    site: Site, account: Any, tmp_path: Path
) -> None:
    receipt = str(tmp_path / "receipt.json")
    with flaky(site.url, "lose", 503) as way:
        url = f"{way.url}/counted/"
        out, said = fail(5, url, "--tries", "2", "--receipt", receipt, "--json")
        assert "Do not pay again" in said
        assert json.loads(out)["record"] == receipt
        assert json.loads(Path(receipt).read_text())["state"] == "unknown"
        # Not for something else.
        fail(1, f"{way.url}/counted/?other", "--receipt", receipt)

        _out, err = run(url, "--receipt", receipt)

    assert "Going on with the payment" in err
    assert len(set(way.payments)) == 1
    assert len(site.transfers(account.address)) == 1
    assert json.loads(Path(receipt).read_text())["state"] == "bought"


def test_a_lost_answer_without_a_record_leaves_one(
    site: Site, account: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with flaky(site.url, 503) as way:
        fail(5, f"{way.url}/counted/", "--tries", "1")
        (record,) = tmp_path.glob("x402-*.json")
        run(f"{way.url}/counted/", "--receipt", str(record))
    assert len(set(way.payments)) == 1
    assert len(site.transfers(account.address)) == 1


def test_a_refusal_after_a_lost_answer_is_not_taken_for_the_whole_truth(
    site: Site, account: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seller has perhaps been paid: nobody is told "you were not charged"."""
    monkeypatch.chdir(tmp_path)
    with flaky(site.url, "lose", 402) as way:
        _out, said = fail(5, f"{way.url}/counted/")
    assert "may have been charged" in said
    assert len(site.transfers(account.address)) == 1


def test_a_keystore(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eth_account import Account

    account = site.new_payer()
    keystore = tmp_path / "key.json"
    keystore.write_text(json.dumps(Account.encrypt(account.key, "sesame", iterations=2)))
    monkeypatch.setenv("SESAME", "sesame")

    run(
        f"{site.url}/counted/",
        *("--keystore", str(keystore), "--keystore-password-env", "SESAME"),
    )

    assert len(site.transfers(account.address)) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["ftp://shop.example/"],
        ["https://shop.example/", "--max", "-1"],
        ["https://shop.example/", "--max", "NaN"],
        ["https://shop.example/", "-H", "no colon"],
        ["https://shop.example/", "-d", "@/nowhere/at/all"],
        ["http://127.0.0.1:9/"],
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        run(*arguments)
