"""The paywall page and the cookie that opens what was bought on it; the browser is in
``tests/browser``.
"""

from __future__ import annotations

import gzip
import json
import re
from datetime import timedelta
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from django.core.signing import Signer
from django.template.loader import render_to_string
from django.test import Client, override_settings
from django.urls import include, path
from django.utils import translation

import x402_django
from tests.http import views
from tests.shop.runs import runs
from x402_django import clock
from x402_django.exceptions import ConfigurationError, PaymentRequired, SettlementUnknown
from x402_django.http.access import COOKIE_PREFIX, cookie_path
from x402_django.http.decorators import payment_required
from x402_django.models import Payment, PriceRule
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import Payer, decode

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.http.test_paywall")]

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "User-Agent": "Mozilla/5.0"}
SCRIPT = {**BROWSER, "X-402-Paywall": "1"}
TEMPLATES = Path(x402_django.__file__).parent / "templates" / "x402_django"


@payment_required("$0.01", description="An hour", session_access=3600)
def hour(request):
    runs["hour"] += 1
    request.payment.on_settled(lambda: runs.update(["settled"]))
    response = views.HttpResponse(f"run {runs['hour']} for {request.payment.payer}")
    response.set_cookie("own", "kept")
    return response


@payment_required("$0.01", description="Long", flow="upfront", session_access=3600)
def long(request):
    runs["long"] += 1
    request.payment.on_settled(lambda: runs.update(["settled"]))
    return views.HttpResponse("x" * 70_000)


def asking(request):
    runs["asking"] += 1
    if request.payment is None:
        raise PaymentRequired("$0.01", session_access=3600)
    return views.HttpResponse("asked")


urlpatterns = [
    path("hour/", hour, name="hour"),
    path("hour/more/", hour, name="more"),
    path("long/", long, name="long"),
    path("asks/", asking, name="asks"),
    path("", include("tests.http.views")),
]


class Reader(Client):
    """A browser with a person who pays."""

    def __init__(self) -> None:
        super().__init__(raise_request_exception=False)
        self.payer = Payer()

    def look(self, url, **headers):
        return self.get(url, headers={**BROWSER, **headers})

    def sign(self, url):
        challenge = self.look(url)
        assert challenge.status_code == 402
        self.paying = self.payer.headers_for(challenge)
        return self.paying

    def buy(self, url):
        """What the script does: sign, and present it until it is done."""
        self.sign(url)
        return self.get(url, headers={**SCRIPT, **self.paying})


@pytest.fixture
def reader():
    return Reader()


def test_what_was_bought_is_fetched_by_the_browser_and_was_made_once(reader):
    paid = reader.buy("/hour/")
    payment = Payment.objects.get()
    assert paid.status_code == 200
    assert paid.json() == {"paid": True, "receipt": f"/x402/payments/{payment.public_id}/"}
    assert decode(paid["PAYMENT-RESPONSE"])["success"] is True
    assert "no-store" in paid["Cache-Control"]
    assert paid.cookies["own"].value == "kept"
    assert payment.delivered_at is None  # it has not left yet

    page = reader.look("/hour/")
    assert page.content.decode() == f"run 1 for {reader.payer.address}"
    assert "private" in page["Cache-Control"]
    assert Payment.objects.get().delivered_at is not None
    assert runs == {"hour": 1, "settled": 1}


def test_the_cookie_is_for_this_page_and_not_for_scripts(reader):
    cookie: SimpleCookie = reader.buy("/hour/").cookies
    [name] = [name for name in cookie if name.startswith(COOKIE_PREFIX)]
    morsel = cookie[name]
    assert (morsel["path"], morsel["max-age"]) == ("/hour/", 3600)
    assert (morsel["samesite"], morsel["httponly"], morsel["secure"]) == ("Lax", True, "")
    # The same payment once more, as after a lost answer.
    secure = reader.get("/hour/", headers={**SCRIPT, **reader.paying}, secure=True).cookies
    assert secure[name]["secure"] is True


def test_session_access_ends_when_the_rule_said(reader):
    reader.buy("/hour/")
    reader.look("/hour/")
    settled = Payment.objects.get().settled_at
    again = reader.look("/hour/")
    assert (again.status_code, runs["hour"]) == (200, 2)
    assert "private" in again["Cache-Control"]
    assert "Cookie" in again["Vary"]
    assert runs["settled"] == 1  # effects belong to the purchase
    last = settled + timedelta(seconds=3599) - clock.now()
    with clock.shifted(last):
        assert reader.look("/hour/").status_code == 200
    with clock.shifted(last + timedelta(seconds=2)):
        assert reader.look("/hour/").status_code == 402
    assert Payment.objects.count() == 1


def test_the_ledger_keeps_what_was_promised_when_the_rule_changes(reader):
    rule = PriceRule.objects.create(name="r", price_usd=1, url_names=["hour"], session_access=7200)
    reader.buy("/hour/")
    reader.look("/hour/")
    PriceRule.objects.filter(pk=rule.pk).update(session_access=0)
    PriceRule.objects.get(pk=rule.pk).save()  # drops what is compiled
    assert Payment.objects.get().session_access == 7200
    with clock.shifted(timedelta(seconds=7000)):
        assert reader.look("/hour/").status_code == 200
        assert Reader().look("/hour/").content.decode().count("stays open") == 0


def test_a_rule_may_turn_off_what_the_code_says(reader):
    PriceRule.objects.create(name="r", price_usd=1, url_names=["hour"], session_access=0)
    reader.buy("/hour/")
    assert Payment.objects.get().session_access == 0


@pytest.mark.parametrize("state", ["reversed", "refunded", "failed"])
def test_money_that_is_gone_opens_nothing(reader, state):
    reader.buy("/hour/")
    reader.look("/hour/")
    Payment.objects.update(state=state)
    InstantFacilitator.script["settle"] = [SettlementUnknown()] * 5
    response = reader.look("/hour/")
    assert response.status_code in (402, 503)
    assert b"run " not in response.content
    assert runs["hour"] == 1


@pytest.mark.parametrize("url", ["/hour/more/", "/hour/?page=2", "/weather/"])
def test_it_opens_no_other_page(reader, url):
    cookie = reader.buy("/hour/").cookies
    for name, morsel in cookie.items():
        reader.cookies[name] = morsel.value  # sent everywhere, whatever its path was
    assert reader.look(url).status_code == 402


def test_it_opens_nothing_but_get(reader):
    reader.buy("/hour/")
    assert reader.head("/hour/", headers=BROWSER).status_code == 402
    assert reader.post("/hour/", headers=BROWSER).status_code == 402
    assert runs["hour"] == 1


def test_a_cookie_is_believed_only_if_we_signed_it_and_the_ledger_agrees(reader):
    reader.buy("/hour/")
    reader.look("/hour/")
    [name] = [name for name in reader.cookies if name.startswith(COOKIE_PREFIX)]
    genuine = reader.cookies[name].value
    public_id = Payment.objects.get().public_id
    other = Signer(salt="x402_django.http.access").sign("0" * 40)
    for forged in (public_id, f"{public_id}:x", Signer().sign(public_id), other, genuine[:-1]):
        reader.cookies[name] = forged
        assert reader.look("/hour/").status_code == 402
    reader.cookies[name] = genuine
    assert reader.look("/hour/").status_code == 200


def test_an_unpaid_payments_cookie_is_never_given(reader):
    InstantFacilitator.script["settle"] = [SettlementUnknown()]
    waiting = reader.buy("/hour/")
    assert (waiting.status_code, waiting.json()["error"]) == (503, "settlement_outcome_unknown")
    assert not waiting.cookies


def test_what_is_too_large_to_store_is_owed_and_its_effects_happen_once(reader):
    paid = reader.buy("/long/")
    assert paid.status_code == 200
    assert b"xxx" not in paid.content
    again = reader.get("/long/", headers={**SCRIPT, **reader.paying})  # a lost answer
    assert again.status_code == 200
    assert runs == {"long": 1, "settled": 1}  # the script cannot make it run for nothing
    page = reader.look("/long/")
    assert len(b"".join(page)) == 70_000
    assert runs == {"long": 2, "settled": 1}


def test_a_view_that_asks_from_inside_lets_its_buyer_back_in(reader):
    reader.buy("/asks/")
    assert reader.look("/asks/").content == b"asked"
    assert reader.look("/asks/").content == b"asked"
    assert Payment.objects.count() == 1


def test_a_view_that_fails_is_not_charged_and_gives_no_cookie(reader):
    response = reader.buy("/broken/")
    assert response.status_code == 500
    assert not response.cookies
    assert Payment.objects.get().state == "released"


def test_a_redirect_that_was_bought_is_followed_by_the_browser_alone(reader):
    PriceRule.objects.create(name="r", price_usd=1, url_names=["redirect"])
    assert reader.buy("/redirect/").status_code == 200
    assert reader.look("/redirect/")["Location"] == "/secret-target/"


def test_errors_are_pages_for_people_and_json_for_programs(reader):
    PriceRule.objects.create(name="r", key="gone", price_usd=1, url_names=["nothing"])
    page = reader.look("/report/")
    program = reader.get("/report/")
    assert (page.status_code, program.status_code) == (503, 503)
    assert program.json()["error"] == "price_not_configured"
    assert page["Content-Type"].startswith("text/html")
    assert "has no price at the moment" in page.content.decode()
    assert int(page["Refresh"]) >= 5
    assert page["Retry-After"] == program["Retry-After"]
    assert "unsafe" not in page["Content-Security-Policy"]


# ------------------------------------------------------------------ the page itself


def test_the_page_weighs_less_than_20_kilobytes(reader):
    sources = b"".join(
        (TEMPLATES / name).read_bytes()
        for name in ("base.html", "paywall.html", "paywall.css", "wallet.js", "paywall.js")
    )
    page = reader.look("/hour/").content
    assert len(gzip.compress(sources)) < 20_000
    assert len(gzip.compress(page)) < 20_000
    assert not re.search(rb'(src|href)="(https?:)?//(?!link\.|go\.|sepolia\.)', page)


@pytest.mark.parametrize("name", ["wallet.js", "paywall.js", "paywall.css"])
def test_script_and_style_are_sent_as_they_are_written(name):
    assert render_to_string(f"x402_django/{name}") == (TEMPLATES / name).read_text()


def test_no_message_of_the_script_is_missing(reader):
    page = reader.look("/hour/").content.decode()
    script = "".join((TEMPLATES / name).read_text() for name in ("wallet.js", "paywall.js"))
    there = set(re.findall(r'data-key="([^"]+)"', page))
    used = set(re.findall(r'(?:message|progress|Problem)\("([a-z_]+)"', script))
    assert len(used) > 15
    assert used <= there


def test_a_site_overrides_the_page_block_by_block(reader, tmp_path, settings):
    (tmp_path / "x402_django").mkdir()
    (tmp_path / "x402_django" / "paywall.html").write_text(
        '{% extends "x402_django/paywall.html" %}'
        "{% block brand %}The Bee{% endblock %}"
        '{% block footer %}<script nonce="{{ nonce }}">1</script>{% endblock %}'
    )
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    response = reader.look("/hour/")
    page = response.content.decode()
    assert "The Bee" in page
    assert "An hour" in page
    nonce = re.search(r"'nonce-([^']+)'", response["Content-Security-Policy"])[1]
    assert f'<script nonce="{nonce}">1</script>' in page


def test_the_page_is_translated_right_to_left(reader):
    with translation.override("ar"):
        page = render_to_string("x402_django/base.html", {"host": "x", "nonce": "n"})
    assert '<html lang="ar" dir="rtl">' in page


def page_data(response):
    return json.loads(re.search(r'application/json">(.*?)</script>', response.content.decode())[1])


def test_a_wallet_is_told_public_endpoints_and_never_the_sites_own(reader, settings):
    network = {"RPC_URLS": ["https://rpc.example/secret-key"]}
    settings.X402 = {**settings.X402, "NETWORKS": {"eip155:84532": network}}
    response = reader.look("/hour/")
    assert b"secret-key" not in response.content
    [offer] = page_data(response)["offers"]
    assert offer["accepted"] == decode(response["PAYMENT-REQUIRED"])["accepts"][0]
    assert offer["chain"] == {
        "chainId": "0x14a34",
        "chainName": "Base Sepolia",
        "nativeCurrency": {"name": "Ether", "symbol": "ETH", "decimals": 18},
        "rpcUrls": ["https://sepolia.base.org"],
        "blockExplorerUrls": ["https://sepolia.basescan.org"],
    }
    network["WALLET_RPC_URLS"] = ["https://open.example"]
    settings.X402 = {**settings.X402, "NETWORKS": {"eip155:84532": network}}
    assert page_data(reader.look("/hour/"))["offers"][0]["chain"]["rpcUrls"] == [
        "https://open.example"
    ]


def test_a_query_is_not_put_into_links_to_others(reader):
    page = reader.look("/hour/?name=ann").content.decode()
    assert "name=ann" not in page
    assert "link.metamask.io" not in page
    assert "Copy the address of this page" in page
    assert 'class="qr"' in page


def test_a_long_address_makes_no_code_that_cannot_be_read(reader):
    page = reader.look(f"/hour/?{'x' * 500}").content.decode()
    assert 'class="qr"' not in page
    assert "your wallet’s own browser" in page


@override_settings(X402={"NETWORKS": {}})
def test_no_way_to_pay_is_an_error_page_not_an_empty_one(reader):
    assert reader.look("/hour/").status_code == 503


@pytest.mark.parametrize(
    ("path", "cookies_path"),
    [
        ("/articles/a-b_c.d~1/", "/articles/a-b_c.d~1/"),
        ("/articles/käse brot/", "/articles/k%C3%A4se%20brot/"),
        ("/articles/a;b/c/", "/articles/"),
        ("/articles/a|b", "/articles/"),
        ("/a%20b/", "/"),
        ("/", "/"),
    ],
)
def test_the_cookies_path_is_what_browsers_send(path, cookies_path):
    assert cookie_path(path) == cookies_path


@pytest.mark.parametrize("seconds", [-1, 366 * 24 * 3600 + 1])
def test_session_access_that_makes_no_sense_is_refused_at_import(seconds):
    with pytest.raises(ConfigurationError, match="session_access"):
        payment_required("$0.01", session_access=seconds)
