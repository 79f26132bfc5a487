"""Debian's Chromium, a live site, and a person with a wallet."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.wallet import SCRIPT, Wallet
from tests.clients.live import CHAIN_ID, Site, live_site
from tests.conftest import missing_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

#: Where the pictures in the documentation come from; written only where this is set.
PICTURES = os.environ.get("X402_PICTURES")
ARGUMENTS = [
    "--no-sandbox",  # containers and CI machines have no user namespaces
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SCREENS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 760, "height": 620}},
    "phone": {"viewport": {"width": 390, "height": 780}, "is_mobile": True, "has_touch": True},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        missing_service("Chromium", "there is no `chromium` on the PATH (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("browser-site")
    with live_site(directory, settings="tests.browser.site.settings") as site:
        yield site


@dataclass
class Person:
    """Somebody in front of a browser. ``problems`` is all that the browser complained of."""

    site: Site
    wallet: Wallet
    context: BrowserContext
    problems: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """A new tab on ``path``, or on a whole address."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._hear)
        page.goto(path if "://" in path else self.site.url + path)
        return page

    def _hear(self, message: Any) -> None:
        # 402, 409 and 503 are how paying goes; the browser reports each as an error.
        if message.type == "error" and "responded with a status of" not in message.text:
            self.problems.append(message.text)

    @property
    def address(self) -> str:
        return str(self.wallet.account.address)

    @property
    def paid(self) -> list[int]:
        """The atomic units of each transfer that left the wallet's account."""
        return [value for _, value, _ in self.site.transfers(self.address)]

    @property
    def runs(self) -> list[str]:
        return self.site.runs(self.address)

    @property
    def states(self) -> list[str]:
        """The states of this person's payments in the ledger, in order."""
        return [payment["state"] for payment in self.site.ledger(self.address)["payments"]]


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Callable[..., Person]]:
    """Make a person; their browser must not have complained of anything in the end."""
    people: list[Person] = []
    with ExitStack() as stack:

        def make(
            screen: str = "desktop", *, dollars: float = 1, has_wallet: bool = True,
            chain_id: int = CHAIN_ID, **options: Any,
        ) -> Person:  # fmt: skip
            context = browser.new_context(**SCREENS[screen], **options)
            stack.callback(context.close)
            context.set_default_timeout(30_000)
            wallet = Wallet(site.chain, site.new_payer(dollars), chain_id=chain_id)
            if has_wallet:
                context.expose_function("walletRequest", wallet.request)
                context.add_init_script(path=SCRIPT)
            people.append(Person(site, wallet, context))
            return people[-1]

        yield make
    assert [problem for person in people for problem in person.problems] == []


@pytest.fixture
def picture() -> Callable[[Page, str], None]:
    """Keep a picture of the page for the documentation, where that is asked for."""

    def take(page: Page, name: str) -> None:
        if PICTURES:
            page.evaluate("document.querySelector('.brand a').textContent = 'shop.example'")
            page.screenshot(path=Path(PICTURES) / f"{name}.png", animations="disabled")

    return take
