"""Every list, form and page of ours in the admin: in a browser, by axe, wide and narrow."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.conftest import PICTURES
from tests.browser.test_accessibility import violations
from tests.clients.live import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

WIDTHS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
LOOKS: dict[str, dict[str, Any]] = {
    "desktop-light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "phone-dark": {
        "viewport": {"width": 390, "height": 780}, "color_scheme": "dark", "is_mobile": True,
        "has_touch": True,
    },
}  # fmt: skip


#: What axe finds in Django's own parts, with what its complaint names.
OF_DJANGO = [
    ("label-title-only", 'id="searchbar"'),
    ("link-in-text-block", '<a href="?">'),  # Show all
    ("empty-table-header", "<th"),  # of inlines: each row's title, and its tick to delete
    ("label", 'class="vDateField"'),
    ("label", 'class="vTimeField"'),
    ("aria-prohibited-attr", "search-label-icon"),  # in the chooser with two boxes
    ("scrollable-region-focusable", "js-inline-admin-formset"),
]


def is_of_django(found: str) -> bool:
    return any(found.startswith(f"{rule}: ") and what in found for rule, what in OF_DJANGO)


@dataclass(frozen=True)
class Desk:
    """The demo's admin, with one of everything in it; ``pages`` are the addresses of ours."""

    url: str
    pages: list[str]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    directory = tmp_path_factory.mktemp("desk")
    environment = {
        **os.environ,
        "HOME": str(directory),  # gunicorn leaves a control socket there
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "demo_project.settings",
        "DATABASE_URL": f"sqlite:///{directory / 'desk.sqlite3'}",
        "DEMO_VAR_DIR": str(directory),
        "DEBUG": "1",
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True,
            text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("demo_project.seed", "--rows", "300")
    run("django", "collectstatic", "--no-input", "--verbosity", "0")
    pages = run("tests.browser.desk_rows").split()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "demo_project.wsgi:application"),
                *("--bind", f"fd://{listening.fileno()}", "--worker-class", "gthread"),
                *("--workers", "1", "--threads", "4", "--log-level", "error"),
            ],
            cwd=ROOT, env=environment, pass_fds=[listening.fileno()],
        )  # fmt: skip
        try:
            yield Desk(f"http://127.0.0.1:{listening.getsockname()[1]}", pages)
        finally:
            server.terminate()
            server.wait(timeout=10)


@pytest.fixture
def look(browser: Browser, desk: Desk) -> Iterator[Callable[[str], Page]]:
    """``look("phone-dark")``: a page on that screen, of who has logged in as the owner."""
    contexts: list[Any] = []

    def look(screen: str) -> Page:
        context = browser.new_context(**LOOKS[screen])
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{desk.url}/admin/login/")
        page.get_by_label("Username").fill("owner")
        page.get_by_label("Password").fill("owner")
        page.keyboard.press("Enter")
        page.wait_for_url("**/admin/")
        return page

    yield look
    for context in contexts:
        context.close()


@pytest.mark.parametrize("screen", list(LOOKS))
def test_every_page(desk: Desk, look: Callable[[str], Page], screen: str) -> None:
    page = look(screen)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    for path in desk.pages:
        answer = page.goto(desk.url + path)
        assert answer is not None
        assert (answer.status, page.url) == (200, desk.url + path)
        is_ours = not path.endswith(("/history/", "/delete/"))
        if PICTURES and is_ours:
            name = re.sub(r"/\d+/", "/", path.removeprefix("/admin")).replace("x402_django/", "")
            name = f"{name.strip('/').replace('/', '-') or 'index'}-{screen}"
            page.screenshot(
                path=Path(PICTURES) / "admin" / f"{name}.jpg", type="jpeg", quality=60,
                animations="disabled",
            )  # fmt: skip
        if is_ours:
            found = violations(page, "#content")
            complaints += [f"{path} {one}" for one in found if not is_of_django(one)]
        needed, there = page.evaluate(WIDTHS)
        if needed > there:
            complaints.append(f"{path} is {needed} wide on {there}")
    assert len(desk.pages) > 80
    assert not complaints, "\n".join(complaints)
