"""A merchant's working day in a browser: sells, is paid, prints a receipt, gives money back.

On an embedded chain, with real signatures, and a second person for the refund; at desktop and at
phone width, where no page on the way may scroll sideways.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection
from django.urls import reverse
from pypdf import PdfReader

from tests.browser.conftest import PICTURES, SCREENS
from tests.browser.test_accessibility import violations
from tests.chain.support import NETWORK, x402_settings
from tests.settings import PAY_TO
from x402_django.chain.devchain.accounts import dev_accounts
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS
from x402_django.models import (
    Membership,
    Merchant,
    Payment,
    PaymentMethod,
    PriceRule,
    Receipt,
    Refund,
)
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.refunds.requesting import request_refund
from x402_django.payments.refunds.sending import send_refunds
from x402_django.pricing.cache import forget_rules
from x402_django.testing.chain import dev_chain, new_payer, reset_dev_chains
from x402_django.testing.payer import Payer, PayingClient

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.receipts.urls"),
    pytest.mark.skipif(
        connection.vendor == "sqlite",
        reason="a server's threads and Playwright's loop in one process crash SQLite 3.40",
    ),
]

PRICE = 50_000
MERCHANT = next(one for one in dev_accounts() if one.address == PAY_TO)
WIDTHS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"


@pytest.fixture(scope="module", autouse=True)
def _beside_a_loop() -> Iterator[None]:
    """Playwright keeps an event loop in this thread, beside which Django would refuse to work."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    yield
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def chain(settings: Any) -> Iterator[Any]:
    reset_dev_chains()
    settings.X402 = {
        **x402_settings(CONFIRMATIONS=2),
        "CONFIRMATION_INTERVAL": 0,
        "SETTLEMENT_TIMEOUT": 5,
        "BASE_URL": None,
        "REFUND_WALLETS": [{"KEY": MERCHANT.private_key}],
        "REFUND_APPROVAL_ABOVE": "0.01",
        "CHALLENGE_COUNT_INTERVAL": 0.0,
    }
    chain = dev_chain(NETWORK)
    chain.fund(PAY_TO, 10**18)
    yield chain
    reset_dev_chains()


def person(name: str, *codes: str) -> User:
    user = User.objects.create_user(name, password="let me in", is_staff=True)
    ours = Permission.objects.filter(content_type__app_label="x402_django")
    user.user_permissions.set(ours.filter(codename__in=codes) if codes else ours)
    return user


class Desk:
    """Somebody at the desk. ``problems`` is all that the browser complained of."""

    def __init__(self, browser: Any, url: str, name: str, screen: str) -> None:
        size = {"viewport": {"width": 1280, "height": 900}}
        self.context = browser.new_context(
            **(SCREENS["phone"] if screen == "phone" else size), accept_downloads=True
        )
        self.url, self.name, self.screen = url, name, screen
        self.problems: list[str] = []
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))

    def log_in(self) -> None:
        self.go("/admin/")
        self.page.get_by_label("Username").fill(self.name)
        self.page.get_by_label("Password").fill("let me in")
        self.page.get_by_role("button", name="Log in").click()
        expect(self.page.get_by_role("heading", name="Site administration")).to_be_visible()

    def go(self, path: str) -> Any:
        return self.page.goto(f"{self.url}{path}")

    def look(self, name: str) -> None:
        """The page as it is now: there is nothing to scroll to sideways."""
        needed, there = self.page.evaluate(WIDTHS)
        assert needed <= there, (name, needed, there)
        if PICTURES:
            path = Path(PICTURES) / f"{name}-{self.screen}.png"
            self.page.screenshot(path=path, animations="disabled", full_page=True)

    def save(self) -> None:
        self.page.get_by_role("button", name="Save", exact=True).click()
        expect(self.page.locator(".messagelist .success")).to_be_visible()


@pytest.fixture
def at_desk(browser: Any, live_server: Any) -> Iterator[Callable[..., Desk]]:
    desks: list[Desk] = []

    def at(name: str, screen: str = "desktop") -> Desk:
        desk = Desk(browser, live_server.url, name, screen)
        desks.append(desk)
        desk.log_in()
        return desk

    yield at
    for desk in desks:
        desk.context.close()
        assert desk.problems == []


def blocks(chain: Any, work: Callable[[], object], count: int = 3) -> None:
    for _ in range(count):
        chain.mine()
        work()


@pytest.mark.parametrize("screen", ["desktop", "phone"])
def test_from_the_first_price_to_a_refund(
    chain: Any, at_desk: Callable[..., Desk], screen: str
) -> None:
    person("mara")
    person("boss")
    desk = at_desk("mara", screen)
    page = desk.page

    # A way of being paid: a token by its name, and the address that is filled in already.
    desk.go(reverse("admin:x402_django_paymentmethod_add"))
    page.locator("#id_name").fill("Test dollars")
    page.locator("#id_known_token").select_option(f"{NETWORK}/{TOKEN_ADDRESS}")
    expect(page.locator("#id_pay_to")).to_have_value(PAY_TO)
    desk.look("desk-payment-method")
    desk.save()
    assert PaymentMethod.objects.get().asset == TOKEN_ADDRESS

    # A price for a route.
    desk.go(reverse("admin:x402_django_pricerule_add"))
    page.locator("#id_name").fill("Articles")
    page.locator("#id_url_names_from").select_option("shop:article")
    page.locator("#id_url_names_add, #id_url_names_add_link").first.click()
    page.locator("#id_price_usd").fill("0.05")
    page.locator("#id_description").fill("An article")
    desk.look("desk-price-rule")
    desk.save()
    assert PriceRule.objects.get().url_names == ["shop:article"]
    forget_rules()

    # What would it cost?
    desk.go(reverse("admin:x402_django_pricerule_try"))
    page.get_by_label("Address").fill("/articles/bees/")
    page.get_by_role("button", name="Try", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("$0.05")
    expect(page.get_by_role("status")).to_contain_text("0.05 TUSD")
    desk.look("desk-try-out")

    # Somebody buys.
    account = new_payer(chain, 1)
    assert PayingClient(payer=Payer(account)).get("/articles/bees/").status_code == 200
    blocks(chain, confirm_pending_payments)
    assert Payment.objects.get().state == "final"

    # The receipt is there, and its PDF.
    desk.go(reverse("admin:x402_django_receipt_changelist"))
    page.locator("#result_list tbody tr a").first.click()
    desk.look("desk-receipt")
    with page.expect_download() as download:
        page.get_by_role("link", name="PDF").click()
    content = Path(download.value.path()).read_bytes()
    printed = "".join(one.extract_text() for one in PdfReader(io.BytesIO(content)).pages)
    assert "0.05 TUSD" in printed
    assert account.address in printed.replace("\n", "")
    page.get_by_role("link", name="Receipt", exact=True).last.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Receipt 20")
    desk.look("receipt-document")
    assert violations(page) == []

    # A refund, which waits for somebody else.
    payment = Payment.objects.get()
    desk.go(reverse("admin:x402_django_payment_change", args=[payment.pk]))
    page.get_by_role("link", name="Refund…").click()
    expect(page.get_by_label("Amount")).to_have_value("0.05")
    page.get_by_label("Reason").fill("The bees were gone")
    desk.look("desk-refund")
    page.get_by_role("button", name="Refund").click()
    expect(page.locator(".messagelist")).to_contain_text("waits for a second person")
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    refund = Refund.objects.get()
    send_refunds()
    assert chain.dollars(account.address) == 1_000_000 - PRICE

    boss = at_desk("boss", screen)
    boss.go(reverse("admin:x402_django_refund_change", args=[refund.pk]))
    boss.look("desk-refund-approval")
    boss.page.get_by_role("button", name="Approve").click()
    expect(boss.page.locator(".messagelist")).to_contain_text("The refund is now: to be sent.")
    blocks(chain, send_refunds, 4)
    assert chain.dollars(account.address) == 1_000_000
    boss.go(reverse("admin:x402_django_refund_change", args=[refund.pk]))
    expect(boss.page.locator(".x402-badge")).to_have_text("arrived")

    # The payer reads of it, and the dashboard shows both.
    page.goto(desk.url + reverse("x402:payment-status", args=[payment.public_id]))
    expect(page.get_by_role("main")).to_contain_text("The bees were gone")
    call_command("x402_desk", verbosity=0)
    desk.go("/admin/x402_django/desk/")
    expect(page.locator("#content")).to_contain_text("$0.05")
    desk.look("desk-after-refund")


def test_nobody_elses_member_reaches_any_of_it(
    chain: Any, at_desk: Callable[..., Desk], live_server: Any
) -> None:
    PaymentMethod.objects.create(
        name="Test dollars", network=NETWORK, asset=TOKEN_ADDRESS, asset_symbol="TUSD",
        asset_name="Test Dollar", asset_version="1", pay_to=PAY_TO,
    )  # fmt: skip
    PriceRule.objects.create(name="Articles", url_names=["shop:article"], price_usd="0.05")
    forget_rules()
    assert PayingClient(payer=Payer(new_payer(chain, 1))).get("/articles/a/").status_code == 200
    blocks(chain, confirm_pending_payments)
    clerk = person("clerk")
    payment, receipt = Payment.objects.get(), Receipt.objects.get()
    refund = request_refund(payment, 20_000, user=clerk)
    Membership.objects.create(merchant=Merchant.objects.get(pk=1), user=clerk)
    bakery = Merchant.objects.create(name="Bakery")
    baker = person("baker")
    baker.user_permissions.remove(Permission.objects.get(codename="all_merchants"))
    Membership.objects.create(merchant=bakery, user=baker)

    desk = at_desk("baker")
    for name, row in (
        ("paymentmethod", PaymentMethod.objects.get()), ("pricerule", PriceRule.objects.get()),
        ("payment", payment), ("receipt", receipt), ("refund", refund),
    ):  # fmt: skip
        answer = desk.go(reverse(f"admin:x402_django_{name}_change", args=[row.pk]))
        expect(desk.page.locator(".messagelist")).to_contain_text("doesn’t exist")
        assert answer.url.endswith("/admin/")
        desk.go(reverse(f"admin:x402_django_{name}_changelist"))
        expect(desk.page.locator("#result_list tbody tr")).to_have_count(0)
    assert desk.go(reverse("admin:x402_django_payment_refund", args=[payment.pk])).status == 404
    desk.go("/admin/x402_django/desk/")
    expect(desk.page.locator("#content")).not_to_contain_text("$0.05")
    # By the address alone, without a form.
    cookies = {one["name"]: one["value"] for one in desk.context.cookies()}
    decide = reverse("admin:x402_django_refund_decide", args=[refund.pk])
    answer = desk.context.request.post(
        f"{live_server.url}{decide}",
        form={"decision": "approve"},
        headers={"X-CSRFToken": cookies["csrftoken"]},
    )
    assert answer.status == 404
    refund.refresh_from_db()
    assert refund.state == "requested"
