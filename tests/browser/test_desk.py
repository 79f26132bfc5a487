"""The dashboard in a browser: light and dark, wide and narrow, by axe and by its own numbers."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.admin.rows import PAYER, USDC, make_payment
from tests.browser.conftest import PICTURES, SCREENS
from tests.browser.test_accessibility import LOOKS, violations
from tests.desk.histories import EURC, later
from tests.desk.rows import NOW, PAGE
from x402_django.desk.latency import BINS
from x402_django.models import (
    ChallengeCount,
    CountedDay,
    DailyGas,
    DailySales,
    DailyTally,
    DailyTop,
    SettlementWallet,
)

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

BASE, POLYGON = "eip155:8453", "eip155:137"
WALLET = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
#: Nothing but files of the site: no inline script, no inline style.
STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'"
)
WIDTHS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"


@pytest.fixture(scope="module", autouse=True)
def _beside_a_loop() -> Iterator[None]:
    """Playwright keeps an event loop in this thread, beside which Django would refuse to work."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    yield
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def shop() -> Iterator[None]:
    """Ninety days of a shop that grows, the tenth of March being the last."""
    dice = random.Random(402)
    rows: dict[Any, list[Any]] = {
        model: [] for model in (DailySales, DailyTally, DailyTop, DailyGas, ChallengeCount)
    }
    for ago in range(200):
        day = (NOW - timedelta(days=ago)).date()
        size = (200 - ago) * (0.55 if day.weekday() > 4 else 1)
        of = {"day": day, "merchant_id": 1}
        for network, asset, symbol, share in (
            (BASE, USDC, "USDC", 1.0),
            (POLYGON, USDC, "USDC", 0.45),
            (BASE, EURC, "EURC", 0.25),
        ):
            for rule, cents, often in (("Articles", 5, 1.0), ("Reports", 250, 0.03), ("", 1, 2.4)):
                paid = int(size * share * often * dice.uniform(0.7, 1.4))
                if paid:
                    rows[DailySales].append(
                        DailySales(
                            **of, network=network, asset=asset, asset_symbol=symbol,
                            asset_decimals=6, rule_name=rule, paid=paid, unpriced=0,
                            amount=paid * cents * 10**4, usd=paid * cents * 10**6,
                        )
                    )  # fmt: skip
        for rule, often in (("Articles", 9), ("Reports", 3), ("", 22)):
            count = int(size * often * dice.uniform(0.8, 1.2))
            rows[ChallengeCount].append(
                ChallengeCount(**of, rule_name=rule, code="payment_required", count=count)
            )
        for number, often in enumerate((0, 1, 6, 18, 30, 24, 12, 7, 4, 3, 2, 1, 1)[:BINS]):
            count = int(size * often * dice.uniform(0.08, 0.12))
            rows[DailyTally].append(
                DailyTally(**of, subject="latency", name=str(number), count=count)
            )
        for code, often in (
            ("insufficient_funds", 0.12), ("view_failed", 0.05),
            ("invalid_exact_evm_payload_authorization_valid_before", 0.03), ("reorganised", 0.01),
        ):  # fmt: skip
            count = int(size * often * dice.uniform(0.5, 1.5))
            rows[DailyTally].append(DailyTally(**of, subject="failure", name=code, count=count))
        for number, name in enumerate(
            ("/articles/bees/", "/articles/wasps/", "/reports/honey-2026/", "/weather/", "/photo/")
        ):
            rows[DailyTop].append(
                DailyTop(**of, subject="view", name=name, paid=int(size / (number + 1)),
                         usd=int(size * 5 / (number + 1)) * 10**6)
            )  # fmt: skip
        for number in range(7):
            address = f"0x{(number + 3) * 0x1F2E3D4C:08x}{'5a' * 16}"
            rows[DailyTop].append(
                DailyTop(**of, subject="payer", name=address, paid=int(size / (number + 2)),
                         usd=int(size * 4 / (number + 1)) * 10**6)
            )  # fmt: skip
        rows[DailyGas].append(
            DailyGas(day=day, network=BASE, wallet=WALLET, transactions=int(size / 4),
                     payments=int(size * 3), fee=int(size) * 7 * 10**11)
        )  # fmt: skip
    for model, made in rows.items():
        model.objects.bulk_create(made)
    CountedDay.objects.create(day=NOW.date(), is_stale=False, counted_at=NOW)
    SettlementWallet.objects.create(
        network=BASE, address=WALLET, next_nonce=9, balance=48 * 10**14, balance_at=NOW,
        low_balance=10**16,
    )  # fmt: skip
    for number in range(3):
        make_payment(number + 1, state="verified", flow="deferred", transaction="", settled_at=None)
    make_payment(9, delivered_at=None, payer=PAYER)
    with later(NOW):
        yield


@pytest.fixture
def look(browser: Any, live_server: Any) -> Iterator[Callable[..., Any]]:
    """``look("phone", …)``: the dashboard on that screen, of whom the browser did not complain."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def look(screen: str = "desktop", query: str = "", **options: Any) -> Any:
        client = Client()
        client.force_login(
            User.objects.filter(username="owner").first()
            or User.objects.create_superuser("owner", password="x")
        )
        size = (
            SCREENS[screen] if screen == "phone" else {"viewport": {"width": 1280, "height": 1180}}
        )
        context = browser.new_context(**{**size, **options})
        contexts.append(context)
        session = {"name": "sessionid", "value": client.cookies["sessionid"].value}
        context.add_cookies([{**session, "url": live_server.url}])
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if message.type == "error" and "favicon" not in message.location["url"]
                else None
            ),
        )
        page.route("**/x402_django/desk/**", _strictly)
        assert page.goto(f"{live_server.url}{PAGE}{query}").status == 200
        return page

    yield look
    for context in contexts:
        context.close()
    assert complaints == []


def _strictly(route: Any) -> None:
    """The answer with a strict Content-Security-Policy, as a careful site sends it."""
    answer = route.fetch()
    route.fulfill(response=answer, headers={**answer.headers, "content-security-policy": STRICT})


def keep(page: Any, name: str) -> None:
    """A picture for the documentation, where that is asked for."""
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", animations="disabled")


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(("screen", "scheme"), LOOKS)
def test_every_look(look: Callable[..., Any], screen: str, scheme: str) -> None:
    page = look(screen, "?days=90", color_scheme=scheme)
    keep(page, f"desk-{screen}-{scheme}")
    for summary in page.locator("#content-main summary").all():
        summary.click()
    assert violations(page, "#content-main") == []
    needed, there = page.evaluate(WIDTHS)
    assert needed <= there  # nothing to scroll to sideways


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("width", [320, 600, 1000, 1900])
@pytest.mark.parametrize("query", ["?days=7", "?days=365&by=day", "?days=365&by=month"])
def test_it_fits_everywhere(look: Callable[..., Any], width: int, query: str) -> None:
    page = look("desktop", query, viewport={"width": width, "height": 900})
    needed, there = page.evaluate(WIDTHS)
    assert needed <= there
    # No two names on an axis touch, and none stands out of its panel.
    for axis in page.locator(".x402-desk-x").all():
        boxes = [text.bounding_box() for text in axis.locator("text:visible").all()]
        boxes.sort(key=lambda box: box["x"])
        for left, right in pairwise(boxes):
            assert left["x"] + left["width"] <= right["x"]
        panel = axis.locator("xpath=ancestor::figure").bounding_box()
        assert boxes[-1]["x"] + boxes[-1]["width"] <= panel["x"] + panel["width"]


def test_bars_are_as_high_as_their_numbers(look: Callable[..., Any]) -> None:
    for ago, dollars in ((0, 8), (2, 4), (5, 2)):
        DailySales.objects.create(
            day=(NOW - timedelta(days=ago)).date(), merchant_id=1, network=BASE, asset=USDC,
            asset_symbol="USDC", asset_decimals=6, paid=1, unpriced=0, amount=1,
            usd=dollars * 10**8,
        )  # fmt: skip
    with later(NOW):
        page = look("desktop", "?days=7")
        plot = page.get_by_role("img", name="Revenue in US dollars")
        bars = [bar.bounding_box() for bar in plot.locator("rect.x402-c0").all()]
        assert len(bars) == 3
        lowest, middle, highest = (bar["height"] for bar in bars)
        whole = plot.bounding_box()
        assert highest == pytest.approx(whole["height"], abs=1)  # its axis ends at eight
        assert middle == pytest.approx(highest / 2, abs=1)
        assert lowest == pytest.approx(highest / 4, abs=1)
        slot = whole["width"] / 7
        for bar, place in zip(bars, (1, 4, 6), strict=True):
            assert bar["y"] + bar["height"] == pytest.approx(whole["y"] + whole["height"], abs=1)
            middle_of_bar = bar["x"] + bar["width"] / 2
            assert middle_of_bar == pytest.approx(whole["x"] + slot * (place + 0.5), abs=1)
        assert "March 10, 2026: $8.00" in plot.locator("title").all_text_contents()


@pytest.mark.usefixtures("shop")
def test_without_scripts_it_is_all_there(look: Callable[..., Any]) -> None:
    page = look("desktop", java_script_enabled=False)
    assert page.get_by_role("img", name="Revenue in US dollars").is_visible()
    page.get_by_role("link", name="90 days").click()
    assert page.get_by_role("link", name="90 days").get_attribute("aria-current") == "true"
    page.locator("summary").first.click()
    assert page.get_by_role("row", name="March 10, 2026").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_empty_shop(look: Callable[..., Any], scheme: str) -> None:
    page = look("phone", color_scheme=scheme)
    assert violations(page, "#content-main") == []
    needed, there = page.evaluate(WIDTHS)
    assert needed <= there
