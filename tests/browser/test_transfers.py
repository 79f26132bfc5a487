"""A person pays by a transfer of their own, on the page that a ``Pay-URL`` leads to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import Person
from tests.browser.test_accessibility import LOOKS, violations
from tests.browser.test_buying import PRICE, alert, pay, title
from tests.browser.wallet import MAINNET
from tests.clients.live import CHAIN_ID, PAY_TO
from x402_django.testing.chain import send_transaction

pytest.importorskip("playwright.sync_api")
import httpx
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
expect.set_options(timeout=30_000)

Visit = Callable[..., Person]


def sender(visit: Visit, *args: Any, **options: Any) -> Person:
    """A person whose account can also pay the network's fee."""
    person = visit(*args, **options)
    person.site.chain.fund(person.address, 10**18)
    return person


def open_pay_page(person: Person, path: str = "/once/", method: str = "GET") -> Page:
    return person.open(httpx.request(method, person.site.url + path).headers["Pay-URL"])


@pytest.mark.parametrize("screen", ["desktop", "phone"])
def test_a_transfer_opens_what_it_pays_for(visit: Visit, screen: str) -> None:
    person = sender(visit, screen)
    page = person.open("/article/")
    page.get_by_role("link", name="Or send the transfer yourself").click()
    title(page, "Pay by a transfer")
    pay(page)
    expect(page.get_by_text("They dance.")).to_be_visible()
    assert page.url == person.site.url + "/article/"
    assert person.paid == [PRICE]
    assert person.runs == ["/article/"]
    assert person.wallet.signatures == 0
    [payment] = person.site.ledger(person.address)["payments"]
    assert (payment["state"], payment["delivered"]) == ("settled", True)
    [sent] = person.wallet.sent
    assert sent["to"] == person.site.chain.token_address
    assert sent["data"] == (
        "0xa9059cbb" + PAY_TO[2:].lower().rjust(64, "0") + hex(PRICE)[2:].rjust(64, "0")
    )
    page.reload()  # session access
    expect(page.get_by_text("They dance.")).to_be_visible()


def test_another_network_is_changed_to_first(visit: Visit) -> None:
    person = sender(visit, chain_id=MAINNET)
    page = open_pay_page(person)
    pay(page)
    expect(page.get_by_text("You have read it.")).to_be_visible()
    assert person.wallet.chain_id == CHAIN_ID
    assert person.paid == [PRICE]


def test_what_is_not_there_or_declined_is_not_sent(visit: Visit) -> None:
    person = sender(visit, dollars=0.01)
    page = open_pay_page(person)
    pay(page)
    expect(alert(page)).to_contain_text("has 0.01 TUSD on Base Sepolia; this costs 0.05 TUSD")
    person = sender(visit)
    person.wallet.declines.add("eth_sendTransaction")
    page = open_pay_page(person)
    pay(page)
    expect(alert(page)).to_have_text("You declined in your wallet. Nothing was paid.")
    page.reload()
    expect(page.get_by_role("button", name="Pay with Test Wallet")).to_be_visible()
    assert (person.paid, person.runs, person.states) == ([], [], [])


def test_a_transfer_that_waits_is_not_sent_twice(visit: Visit, picture: Any) -> None:
    person = sender(visit)
    person.site.chain.set_automine(False)
    try:
        page = open_pay_page(person)
        pay(page)
        status = page.get_by_role("status").first
        expect(status).to_contain_text("Do not pay again")
        picture(page, "pay-waiting")
        page.reload()  # goes on by itself, and asks the wallet for nothing
        expect(status).to_contain_text("Do not pay again")
        page.wait_for_timeout(1100)  # challenges of the same second are the same
        other = open_pay_page(person)  # the same request, another challenge: another purchase
        expect(other.get_by_role("button", name="Pay with Test Wallet")).to_be_visible()
    finally:
        person.site.chain.set_automine(True)
        person.site.chain.mine()
    expect(page.get_by_text("You have read it.")).to_be_visible()
    assert person.paid == [PRICE]
    assert person.wallet.asked["eth_sendTransaction"] == 1
    assert person.wallet.asked["personal_sign"] == 1


def test_who_did_not_sign_signs_later_and_pays_once(visit: Visit) -> None:
    person = sender(visit)
    person.wallet.declines.add("personal_sign")
    page = open_pay_page(person)
    pay(page)
    expect(alert(page)).to_contain_text("you have not signed for it yet")
    person.wallet.declines.clear()
    page.reload()
    expect(alert(page)).to_contain_text("you have not signed for it yet")
    page.get_by_role("button", name="Sign with Test Wallet").click()
    expect(page.get_by_text("You have read it.")).to_be_visible()
    assert person.paid == [PRICE]


def test_a_wallet_that_is_unsure_is_not_asked_again(visit: Visit) -> None:
    """It sent, and said that it had not: the person looks, and enters the hash."""
    person = sender(visit)
    person.wallet.is_unsure = True
    page = open_pay_page(person)
    pay(page)
    expect(alert(page)).to_contain_text("You may have sent this transfer already")
    page.reload()
    expect(alert(page)).to_contain_text("You may have sent this transfer already")
    field = page.get_by_label("Hash of the transaction")
    field.fill("0x12")
    page.get_by_role("button", name="Sign with Test Wallet").click()
    expect(alert(page)).to_contain_text("64 hexadecimal digits")
    [(_, _, transaction)] = person.site.transfers(person.address)
    field.fill(transaction)
    page.get_by_role("button", name="Sign with Test Wallet").click()
    expect(page.get_by_text("You have read it.")).to_be_visible()
    assert person.paid == [PRICE]


def test_another_transfer_than_asked_for_is_refused_and_the_hash_stays(visit: Visit) -> None:
    from web3 import Web3

    from x402_django.testing.chain import token_contract

    person = sender(visit)
    w3 = Web3(person.site.chain.provider())
    token = token_contract(w3)
    call = token.encode_abi("transfer", [PAY_TO, PRICE - 1])
    receipt = send_transaction(w3, person.wallet.account, {"to": token.address, "data": call})
    page = open_pay_page(person)
    page.get_by_role("button", name="I have sent it already").click()
    field = page.get_by_label("Hash of the transaction")
    transaction = "0x" + bytes(receipt["transactionHash"]).hex()
    field.fill(transaction)
    page.get_by_role("button", name="Sign with Test Wallet").click()
    expect(alert(page)).to_contain_text("holds no transfer of this token, to this payee, of at")
    expect(field).to_have_value(transaction)
    assert (person.runs, person.states) == ([], [])
    page.get_by_role("button", name="Nothing was sent: start anew").click()
    expect(page.get_by_role("button", name="Pay with Test Wallet")).to_be_visible()


def test_a_program_gets_the_proof_that_it_needs(visit: Visit, picture: Any) -> None:
    """Of a POST, which a browser cannot repeat: the person pays, and the program comes back."""
    person = sender(visit)
    page = open_pay_page(person, "/order/", "POST")
    pay(page)
    proof = page.get_by_label("Proof")
    expect(proof).to_have_value(re.compile(r"^X-402-Proof: \{"))
    picture(page, "pay-proof")
    assert violations(page) == []
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#x402-copied")).not_to_be_empty()
    header = proof.input_value().removeprefix("X-402-Proof: ")
    assert json.loads(header).keys() == {"txHash", "chainId", "challengeId", "signature"}
    response = httpx.post(person.site.url + "/order/", headers={"X-402-Proof": header})
    assert response.status_code == 201
    assert (person.states, person.paid) == (["settled"], [PRICE])


@pytest.mark.parametrize(("screen", "scheme"), LOOKS)
def test_everybody_can_use_it(visit: Visit, picture: Any, screen: str, scheme: str) -> None:
    page = open_pay_page(sender(visit, screen, color_scheme=scheme))
    expect(page.get_by_role("button", name="Pay with Test Wallet")).to_be_visible()
    picture(page, f"pay-{screen}-{scheme}")
    page.get_by_text("Use a wallet app", exact=True).click()
    assert violations(page) == []
    page.get_by_role("button", name="I have sent it already").click()
    assert violations(page) == []
    width = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    needed, there = page.evaluate(width)
    assert needed <= there


def test_without_javascript_it_says_what_to_do(visit: Visit, picture: Any) -> None:
    person = visit(java_script_enabled=False)
    page = open_pay_page(person)
    title(page, "Pay by a transfer")
    expect(page.get_by_text("0.05 TUSD").first).to_be_visible()
    expect(page.get_by_role("heading", name="Without JavaScript")).to_be_visible()
    for fact in (PAY_TO, person.site.chain.token_address, f"chain {CHAIN_ID}"):
        expect(page.get_by_text(fact).first).to_be_visible()
    expect(page.get_by_text("x402 transfer proof")).to_be_visible()
    expect(page.get_by_role("img", name="QR code with the address of this page")).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)
    picture(page, "pay-without-javascript")


def test_a_forged_address_is_a_clear_page(visit: Visit) -> None:
    page = visit().open("/x402/pay/WyJmb3JnZWQiXQ:x/")
    title(page, "This cannot be paid")
    assert violations(page) == []
