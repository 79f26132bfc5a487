"""axe-core looks at every page of ours, in each state, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import Person
from tests.browser.test_buying import pay

pytest.importorskip("axe_playwright_python.sync_playwright")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
expect.set_options(timeout=30_000)

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
LOOKS = [("desktop", "light"), ("desktop", "dark"), ("phone", "light"), ("phone", "dark")]


def violations(page: Page, within: str | None = None) -> list[str]:
    """What axe finds on the page; or in what the selector ``within`` finds there."""
    found = Axe().run(page, context=within, options=RULES).response
    assert len(found["passes"]) > 2  # it did look
    return [
        f"{rule['id']}: {node['html']} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize(("screen", "scheme"), LOOKS)
def test_the_paywall_page(
    visit: Callable[..., Person], picture: Any, screen: str, scheme: str
) -> None:
    page = visit(screen, color_scheme=scheme).open("/article/")
    button = page.get_by_role("button", name="Pay with Test Wallet")
    expect(button).to_be_visible()
    picture(page, f"paywall-{screen}-{scheme}")
    for summary in page.locator("summary").all():
        if summary.locator("..").get_attribute("open") is None:
            summary.click()
    assert violations(page) == []
    width = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    needed, there = page.evaluate(width)
    assert needed <= there  # nothing to scroll to sideways


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_paywall_page_with_an_error(visit: Callable[..., Person], scheme: str) -> None:
    person = visit("phone", color_scheme=scheme, dollars=0)
    page = person.open("/article/")
    pay(page)
    expect(page.get_by_role("alert")).to_contain_text("this costs 0.05 TUSD")
    expect(page.get_by_role("button", name="Pay with Test Wallet")).to_be_focused()
    assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_paywall_page_while_it_waits(visit: Callable[..., Person], scheme: str) -> None:
    person = visit(color_scheme=scheme)
    person.site.chain.set_automine(False)
    try:
        page = person.open("/article/")
        pay(page)
        expect(page.get_by_role("status")).to_contain_text("Do not pay again")
        expect(page.get_by_role("status")).to_be_focused()
        assert violations(page) == []
    finally:
        person.site.chain.set_automine(True)
        person.site.chain.mine()
    expect(page.get_by_text("They dance.")).to_be_visible()


@pytest.mark.parametrize(("screen", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_the_page_without_a_wallet_and_the_receipt(
    visit: Callable[..., Person], screen: str, scheme: str
) -> None:
    page = visit(screen, color_scheme=scheme, has_wallet=False).open("/article/")
    expect(page.get_by_text("No wallet was found in this browser.")).to_be_visible()
    assert violations(page) == []
    buyer = visit(screen, color_scheme=scheme)
    page = buyer.open("/article/")
    pay(page)
    expect(page.get_by_text("They dance.")).to_be_visible()
    page.get_by_role("link", name="Receipt").click()
    expect(page.get_by_role("heading", name="Receipt")).to_be_visible()
    assert violations(page) == []


def test_it_is_bought_with_the_keyboard_alone(visit: Callable[..., Person]) -> None:
    person = visit()
    page = person.open("/article/")
    button = page.get_by_role("button", name="Pay with Test Wallet")
    expect(button).to_be_visible()
    for _ in range(5):
        page.keyboard.press("Tab")
        if button.evaluate("button => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_text("They dance.")).to_be_visible()
    assert person.paid == [50_000]
