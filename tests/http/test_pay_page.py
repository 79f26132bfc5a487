"""The pay page, where the ``Pay-URL`` of a challenge leads; wallets are in ``tests/browser``."""

from __future__ import annotations

import gzip
import json
import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from django.core.signing import Signer
from django.template.loader import render_to_string
from django.test import Client, override_settings

import x402_django
from tests.http.proving import proof_settings
from tests.settings import PAY_TO
from x402_django import clock
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS
from x402_django.models import Payment
from x402_django.testing.transfers import read_challenge

pytestmark = pytest.mark.django_db

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "User-Agent": "Mozilla/5.0"}
TEMPLATES = Path(x402_django.__file__).parent / "templates" / "x402_django"
URI = f"ethereum:{TOKEN_ADDRESS}@1337/transfer?address={PAY_TO}&uint256=10000"


@pytest.fixture(autouse=True)
def shop(settings):
    settings.X402 = proof_settings()


def pay_url(path="/weather/", method="get"):
    response = getattr(Client(), method)(path)
    assert response.status_code == 402
    return response["Pay-URL"], read_challenge(response)


def look(url, **headers):
    parts = urlsplit(url)
    return Client().get(f"{parts.path}?{parts.query}", headers={**BROWSER, **headers})


def data(response):
    return json.loads(re.search(r'application/json">(.*?)</script>', response.content.decode())[1])


def test_the_page_says_what_to_transfer():
    url, challenge = pay_url("/weather/?city=2")
    assert url == (
        f"https://shop.example/x402/pay/{challenge['challengeId']}/?for=%2Fweather%2F%3Fcity%3D2"
    )
    response = look(url)
    page = response.content.decode()
    assert response.status_code == 200
    for fact in (
        "0.01 TUSD", "(10000 of its smallest units)", TOKEN_ADDRESS, PAY_TO, "chain 1337",
        challenge["challengeId"], URI.replace("&", "&amp;"), "https://shop.example/weather/",
    ):  # fmt: skip
        assert fact in page
    assert data(response)["resource"] == "/weather/?city=2"
    assert data(response)["challenge"] == challenge
    assert data(response)["lastSending"] == challenge["expires"] - 60
    assert "city=2" not in page.replace(json.dumps("/weather/?city=2"), "").replace(
        'href="https://shop.example/weather/?city=2"', ""
    )
    assert "link.metamask.io" not in page  # a query is not put into links to others
    assert "no-store" in response["Cache-Control"]
    assert "unsafe" not in response["Content-Security-Policy"]
    assert not Payment.objects.exists()


def test_programs_get_the_challenge():
    url, challenge = pay_url()
    assert Client().get(url).json() == challenge


@pytest.mark.parametrize(
    "wanted",
    [
        "/weather/?city=3",
        "/weather",
        "//shop.example/weather/",
        "https://evil.example/",
        "javascript:",
    ],
)
def test_where_it_leads_is_not_the_visitors_to_say(wanted):
    """Only the request that the challenge was issued for is gone to, whatever the address says."""
    url, _ = pay_url()
    response = look(f"{url.partition('?')[0]}?for={quote(wanted, safe='')}")
    assert response.status_code == 200
    assert data(response)["resource"] == ""
    assert "evil.example" not in response.content.decode()
    assert quote(wanted, safe="") not in response.content.decode()


@pytest.mark.parametrize("method", ["post", "head"])
def test_what_a_browser_cannot_repeat_is_not_named(method):
    url, challenge = pay_url("/weather/", method)
    assert url == f"https://shop.example/x402/pay/{challenge['challengeId']}/"
    assert data(look(url))["resource"] == ""


def test_a_long_query_is_left_out_and_what_is_signed_stays_whole():
    url, _ = pay_url(f"/weather/?{'x' * 1100}")
    assert "?" not in url
    assert look(url).status_code == 200


def test_what_the_site_has_not_signed_is_an_unknown_page():
    _, challenge = pay_url()
    real = challenge["challengeId"]
    forged = Signer(salt="other").sign_object([1, 2, 3])
    for bad in ("x", real[:-1], real.replace(":", "A"), forged, "<script>alert(1)"):
        response = look(f"/x402/pay/{bad}/")
        assert response.status_code == 404
        assert "Do not send money for it" in response.content.decode()
        assert PAY_TO not in response.content.decode()
        assert "<script>alert" not in response.content.decode()
    assert Client().get("/x402/pay/x/").json()["error"] == "invalid_challenge"


@pytest.mark.parametrize(
    ("seconds", "status", "can_prove"),
    [(3530, 200, True), (3550, 200, True), (3610, 410, True), (3601 + 24 * 3600 + 10, 410, False)],
)
def test_an_expired_price_is_not_paid_any_more(seconds, status, can_prove):
    url, _ = pay_url()
    with clock.shifted(timedelta(seconds=seconds)):
        response = look(url)
        program = Client().get(url)
    page = response.content.decode()
    assert (response.status_code, program.status_code) == (status, status)
    can_send = seconds == 3530
    assert ("Do not send money for it any more" in page) is not can_send
    assert ('href="ethereum:' in page) is can_send  # nothing is left that would send it
    assert ('id="x402-hash"' in page) is can_prove  # what was sent in time can be proven for a day
    if can_prove:
        assert bool(data(response)["lastSending"]) is can_send
    else:
        assert "application/json" not in page
    if status == 410:
        assert program.json()["error"] == "challenge_expired"
        assert 'href="https://shop.example/weather/"' in page


@override_settings(ROOT_URLCONF="tests.shop.urls")
def test_without_our_urls_it_is_the_transfer_itself():
    response = Client().get("/weather/")
    assert response["Pay-URL"] == read_challenge(response)["paymentUri"] == URI


def test_the_paywall_leads_here():
    response = Client().get("/weather/", headers=BROWSER)
    page = response.content.decode()
    link = re.search(r'href="([^"]+)">Or send the transfer yourself', page)[1]
    assert look(link).status_code == 200
    assert link.partition("/x402/pay/")[2].endswith("/?for=%2Fweather%2F")
    with override_settings(X402=proof_settings(TRANSFER_PROOFS=False)):
        assert "send the transfer yourself" not in (
            Client().get("/weather/", headers=BROWSER).content.decode()
        )


def test_all_scripts_together_weigh_less_than_20_kilobytes():
    names = ("wallet.js", "paywall.js", "pay.js")
    scripts = b"".join((TEMPLATES / name).read_bytes() for name in names)
    assert len(gzip.compress(scripts)) < 20_000
    assert len(gzip.compress(look(pay_url()[0]).content)) < 20_000
    assert render_to_string("x402_django/pay.js") == (TEMPLATES / "pay.js").read_text()


def test_no_message_of_the_script_is_missing():
    page = look(pay_url()[0]).content.decode()
    scripts = "".join((TEMPLATES / name).read_text() for name in ("wallet.js", "pay.js"))
    there = set(re.findall(r'data-key="([^"]+)"', page))
    used = set(re.findall(r'(?:message|progress|Problem)\("([a-z_]+)"', scripts))
    used |= set(re.findall(r'addButton\("[a-z]+", "([a-z_]+)"', scripts))
    assert len(used) > 20
    assert used <= there


def test_a_site_overrides_the_page_block_by_block(tmp_path, settings):
    (tmp_path / "x402_django").mkdir()
    (tmp_path / "x402_django" / "pay.html").write_text(
        '{% extends "x402_django/pay.html" %}{% block what %}<h1>To the Bee</h1>{% endblock %}'
    )
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    page = look(pay_url()[0]).content.decode()
    assert "<h1>To the Bee</h1>" in page
    assert PAY_TO in page
