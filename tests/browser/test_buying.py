"""A person buys a page with a browser and a wallet, and what may go wrong on the way."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import Person
from tests.browser.wallet import MAINNET
from tests.clients.live import CHAIN_ID, PAY_TO, Site

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
expect.set_options(timeout=30_000)  # never waited out but by a failure

PRICE = 50_000  # atomic units: five cents
Visit = Callable[..., Person]


def pay(page: Page) -> None:
    page.get_by_role("button", name="Pay with Test Wallet").click()


def title(page: Page, text: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(text)


def alert(page: Page) -> Any:
    return page.get_by_role("alert")


@pytest.mark.parametrize("screen", ["desktop", "phone"])
def test_an_article_is_bought_and_stays_open(visit: Visit, picture: Any, screen: str) -> None:
    person = visit(screen)
    page = person.open("/article/")
    title(page, "How bees find their way home")
    expect(page.get_by_text("$0.05")).to_be_visible()
    expect(page.get_by_text("0.05 TUSD on Base Sepolia").first).to_be_visible()
    expect(page.get_by_text("stays open in this browser for 1 hour")).to_be_visible()

    pay(page)
    expect(page.get_by_text("They dance.")).to_be_visible()
    assert page.url == person.site.url + "/article/"
    assert page.get_by_role("heading", level=1).evaluate("e => getComputedStyle(e).color") == (
        "rgb(1, 2, 3)"  # the page's own style: the paywall's policy does not govern it
    )
    assert person.paid == [PRICE]
    assert person.runs == ["/article/"]  # what was paid for is what is shown: no second run

    page.reload()
    expect(page.get_by_text("They dance.")).to_be_visible()
    assert person.runs == ["/article/", "/article/"]  # session access: run anew, and free
    assert person.paid == [PRICE]
    assert person.wallet.signatures == 1
    assert person.site.ledger(person.address)["payments"][0]["delivered"] is True

    page.get_by_role("link", name="Receipt").click()
    title(page, "Receipt")
    expect(page.get_by_text("Paid and delivered.")).to_be_visible()
    expect(page.get_by_text(PAY_TO)).to_be_visible()
    picture(page, f"receipt-{screen}")


def test_what_is_signed_is_this_payment_and_nothing_else(visit: Visit) -> None:
    person = visit()
    page = person.open("/once/")
    pay(page)
    expect(page.get_by_text("You have read it.")).to_be_visible()
    [typed] = person.wallet.signed
    message = typed["message"]
    assert typed["primaryType"] == "TransferWithAuthorization"
    assert (message["from"], message["to"]) == (person.address, PAY_TO)
    assert int(message["value"]) == PRICE
    assert int(message["validBefore"]) - int(message["validAfter"]) == 300 + 600
    assert re.fullmatch("0x[0-9a-f]{64}", message["nonce"])
    assert typed["domain"] == {
        "name": "Test Dollar",
        "version": "1",
        "chainId": CHAIN_ID,
        "verifyingContract": person.site.chain.token_address,
    }


def test_without_session_access_a_reload_shows_what_was_bought(visit: Visit) -> None:
    person = visit()
    page = person.open("/once/")
    pay(page)
    expect(page.get_by_text("You have read it.")).to_be_visible()
    page.reload()
    expect(page.get_by_text("You have read it.")).to_be_visible()
    assert person.runs == ["/once/"]
    assert person.paid == [PRICE]


def test_a_page_too_large_to_store_is_shown_for_one_payment(visit: Visit) -> None:
    person = visit()
    page = person.open("/large/")
    pay(page)
    title(page, "A long read")
    assert len(page.get_by_text("long long").inner_text()) > 65_536
    assert person.paid == [PRICE]
    page.reload()  # what was delivered is not delivered again
    expect(page.get_by_role("button", name="Pay with Test Wallet")).to_be_visible()
    assert person.wallet.signatures == 1


def test_another_browser_has_to_pay(visit: Visit) -> None:
    buyer, other = visit(), visit()
    page = buyer.open("/article/")
    pay(page)
    expect(page.get_by_text("They dance.")).to_be_visible()
    assert other.open("/article/").get_by_text("$0.05").is_visible()
    assert buyer.open("/once/").get_by_text("$0.05").is_visible()  # and so does another page


def test_the_owner_declines(visit: Visit) -> None:
    person = visit()
    person.wallet.declines = {"eth_signTypedData_v4"}
    page = person.open("/article/")
    pay(page)
    expect(alert(page)).to_have_text("You declined in your wallet. Nothing was paid.")
    assert person.states == []
    person.wallet.declines = set()
    pay(page)
    expect(page.get_by_text("They dance.")).to_be_visible()
    assert person.paid == [PRICE]


def test_a_wallet_on_another_network_is_changed(visit: Visit) -> None:
    person = visit(chain_id=MAINNET)
    page = person.open("/article/")
    pay(page)
    expect(page.get_by_text("They dance.")).to_be_visible()
    assert person.wallet.chain_id == CHAIN_ID
    assert person.wallet.added == []


def test_a_network_that_the_wallet_does_not_know_is_added(visit: Visit) -> None:
    person = visit(chain_id=MAINNET)
    person.wallet.known = {MAINNET}
    page = person.open("/article/")
    pay(page)
    expect(page.get_by_text("They dance.")).to_be_visible()
    [added] = person.wallet.added
    assert added["chainId"] == hex(CHAIN_ID)
    assert added["chainName"] == "Base Sepolia"
    assert added["rpcUrls"] == [person.site.environment["SITE_RPC_URL"]]


def test_a_wallet_that_stays_on_another_network(visit: Visit) -> None:
    person = visit(chain_id=MAINNET)
    person.wallet.declines = {"wallet_switchEthereumChain"}
    page = person.open("/article/")
    pay(page)
    expect(alert(page)).to_contain_text("did not change to Base Sepolia")
    assert person.wallet.signatures == 0


def test_not_enough_money(visit: Visit, picture: Any) -> None:
    person = visit(dollars=0.02)
    page = person.open("/article/")
    pay(page)
    address = person.address
    expect(alert(page)).to_have_text(
        f"Your account {address[:6]}…{address[-4:]} has 0.02 TUSD on Base Sepolia; "
        "this costs 0.05 TUSD. Nothing was paid."
    )
    picture(page, "paywall-no-funds")
    assert person.wallet.signatures == 0
    assert person.states == []


def test_not_enough_money_and_a_wallet_that_cannot_look(visit: Visit) -> None:
    person = visit(dollars=0)
    person.wallet.declines = {"eth_call"}
    page = person.open("/article/")
    pay(page)
    expect(alert(page)).to_contain_text("There is not enough money in your account")
    assert person.paid == []


@pytest.fixture
def stopped_chain(site: Site) -> Any:
    """Transactions wait until ``set_automine(True)``."""
    site.chain.set_automine(False)
    yield site.chain
    site.chain.set_automine(True)
    site.chain.mine()


def test_a_slow_network_is_waited_for(visit: Visit, stopped_chain: Any, picture: Any) -> None:
    person = visit()
    page = person.open("/article/")
    pay(page)
    expect(page.get_by_role("status")).to_contain_text("Do not pay again")
    picture(page, "paywall-waiting")
    assert person.states == ["settling"]
    assert person.paid == []
    stopped_chain.set_automine(True)
    stopped_chain.mine()
    expect(page.get_by_text("They dance.")).to_be_visible()
    assert person.paid == [PRICE]
    assert person.wallet.signatures == 1
    assert person.runs == ["/article/"]


def test_a_reload_while_the_network_is_slow_pays_once(visit: Visit, stopped_chain: Any) -> None:
    person = visit()
    page = person.open("/article/")
    pay(page)
    expect(page.get_by_role("status")).to_contain_text("Do not pay again")
    page.reload()
    expect(page.get_by_role("status")).to_contain_text("Do not pay again")
    stopped_chain.set_automine(True)
    stopped_chain.mine()
    expect(page.get_by_text("They dance.")).to_be_visible()
    assert person.paid == [PRICE]
    assert person.wallet.signatures == 1


def test_a_reload_while_the_view_runs_pays_once(visit: Visit) -> None:
    """The second request of the same payment is told 409 until the first is done."""
    person = visit()
    page = person.open("/slow/")
    answers: list[int] = []
    page.on("response", lambda response: answers.append(response.status))
    with page.expect_request(lambda request: "payment-signature" in request.headers):
        pay(page)
    page.reload()
    title(page, "Here at last")
    assert 409 in answers
    assert person.paid == [PRICE]
    assert person.wallet.signatures == 1
    assert person.runs == ["/slow/"]


def test_a_lost_answer_is_asked_for_again(visit: Visit) -> None:
    person = visit()
    page = person.open("/article/")
    lost = []

    def lose(route: Any) -> None:
        if "payment-signature" in route.request.headers and not lost:
            route.fetch()  # the site gets the request, and answers; the browser never hears of it
            lost.append(route)
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/article/", lose)
    pay(page)
    expect(page.get_by_text("They dance.")).to_be_visible()
    assert len(lost) == 1
    assert person.paid == [PRICE]
    assert person.wallet.signatures == 1
    person.problems = [problem for problem in person.problems if "ERR_CONNECTION" not in problem]


def test_a_settlement_that_fails(visit: Visit) -> None:
    """The money leaves the account while the page is made."""
    from web3 import Web3

    from x402_django.testing.chain import DOLLAR, send_transaction, token_contract

    person = visit()
    site = person.site
    site.chain.fund(person.address, 10**18)
    page = person.open("/slow/")
    with page.expect_request(lambda request: "payment-signature" in request.headers):
        pay(page)
    while not person.runs:  # verified, and the view has begun
        page.wait_for_timeout(50)
    w3 = Web3(site.chain.provider())
    token = token_contract(w3)
    call = token.encode_abi("transfer", ["0x" + "11" * 20, DOLLAR])
    send_transaction(w3, person.wallet.account, {"to": token.address, "data": call})
    expect(alert(page)).to_have_text("The payment failed on the network. You were not charged.")
    assert person.paid == [DOLLAR]  # the person's own transfer, and no other
    assert person.states == ["failed"]
    expect(page.get_by_role("button", name="Pay with Test Wallet")).to_be_focused()


def test_a_page_that_fails_is_not_charged_and_tried_again_with_the_same_payment(
    visit: Visit,
) -> None:
    person = visit()
    page = person.open("/failing/")
    pay(page)
    again = page.get_by_role("button", name="Try again with the same payment")
    expect(again).to_be_visible()
    expect(alert(page)).to_contain_text("error 500")
    assert person.states == ["released"]
    with page.expect_response("**/failing/"):
        again.click()
    expect(again).to_be_visible()
    assert person.runs == ["/failing/", "/failing/"]
    assert person.paid == []
    assert person.wallet.signatures == 1


def test_a_reversed_payment_opens_nothing(visit: Visit) -> None:
    person = visit()
    page = person.open("/article/")
    pay(page)
    expect(page.get_by_text("They dance.")).to_be_visible()
    person.site._python(
        "-c",
        "import django; django.setup()\n"
        "from x402_django.models import Payment\n"
        f"Payment.objects.filter(payer='{person.address}').update(state='refunded')",
    )
    page.reload()
    expect(page.get_by_role("button", name="Pay with Test Wallet")).to_be_visible()


def test_a_browser_without_a_wallet(visit: Visit) -> None:
    page = visit(has_wallet=False).open("/article/")
    expect(page.get_by_text("No wallet was found in this browser.")).to_be_visible()
    expect(page.get_by_role("img", name="QR code with the address of this page")).to_be_visible()


def test_a_phone_without_a_wallet_opens_the_page_in_one(visit: Visit, picture: Any) -> None:
    page = visit("phone", has_wallet=False).open("/article/")
    expect(page.get_by_text("No wallet was found in this browser.")).to_be_visible()
    expect(page.get_by_role("img", name="QR code")).to_be_hidden()
    link = page.get_by_role("link", name="MetaMask")
    expect(link).to_have_attribute(
        "href", re.compile(r"^https://link\.metamask\.io/dapp/\S+/article/$")
    )
    picture(page, "paywall-phone-no-wallet")


def test_a_wallet_of_the_old_kind(visit: Visit) -> None:
    """One that is only ``window.ethereum``."""
    person = visit(has_wallet=False)
    person.context.expose_function("walletRequest", person.wallet.request)
    person.context.add_init_script(
        "window.ethereum = {request: async ({method, params}) => {"
        "const {result, error} = await walletRequest(method, params ?? []);"
        "if (error) throw error; return result; }}"
    )
    page = person.open("/article/")
    page.get_by_role("button", name="Pay with Browser wallet").click()
    expect(page.get_by_text("They dance.")).to_be_visible()
    assert person.paid == [PRICE]


def test_without_javascript_the_page_says_what_to_do(visit: Visit, picture: Any) -> None:
    page = visit(java_script_enabled=False).open("/article/")
    title(page, "How bees find their way home")
    expect(page.get_by_text("$0.05")).to_be_visible()
    expect(page.get_by_role("heading", name="Paying here needs JavaScript")).to_be_visible()
    expect(page.get_by_text("allow JavaScript for this site")).to_be_visible()
    expect(page.get_by_role("img", name="QR code with the address of this page")).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)
    picture(page, "paywall-without-javascript")


def test_a_form_that_was_sent_is_no_dead_end(visit: Visit) -> None:
    page = visit().open("/form/")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("it belongs to a form that was sent")).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)


def test_no_cookies_no_payment(visit: Visit) -> None:
    person = visit()
    person.context.add_init_script(
        "Object.defineProperty(Navigator.prototype, 'cookieEnabled', {get: () => false})"
    )
    page = person.open("/article/")
    expect(alert(page)).to_contain_text("Your browser keeps no cookies")
    pay(page)
    expect(alert(page)).to_contain_text("Your browser keeps no cookies")
    assert person.wallet.asked == {}


def test_a_browser_that_drops_the_cookie_is_told_and_not_charged_twice(visit: Visit) -> None:
    person = visit()
    page = person.open("/article/")

    def drop(route: Any) -> None:
        answer = route.fetch()
        headers = {k: v for k, v in answer.headers.items() if k.lower() != "set-cookie"}
        person.context.clear_cookies()
        route.fulfill(status=answer.status, headers=headers, body=answer.body())

    page.route("**/article/", drop)
    pay(page)
    expect(alert(page)).to_contain_text("it seems to keep no cookies")
    page.unroute("**/article/")
    page.get_by_role("button", name="Try again with the same payment").click()
    expect(page.get_by_text("They dance.")).to_be_visible()
    assert person.paid == [PRICE]
    assert person.wallet.signatures == 1
