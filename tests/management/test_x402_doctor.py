"""``x402_doctor`` finds each of many deliberately broken set-ups, and names the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import OperationalError, connections
from django.urls import clear_url_caches

from tests.chain import support
from tests.chain.support import NETWORK, SETTLER, x402_settings
from x402_django import clock
from x402_django.conf import x402
from x402_django.management.commands import x402_doctor
from x402_django.models import ChainScan, Payment, PeriodicRun, PriceRule, SettlementWallet
from x402_django.payments.periodic import TASKS
from x402_django.pricing.cache import forget_rules
from x402_django.testing.chain import dev_chain, reset_dev_chains
from x402_django.testing.facilitators import HostileFacilitator

pytestmark = pytest.mark.django_db(transaction=True)

URL = "https://shop.example"
GATE = "x402_django.http.middleware.PaymentMiddleware"


@dataclass
class Proxy(httpx.BaseTransport):
    """What stands between buyers and the site: it changes requests and answers."""

    strips: set[str] = field(default_factory=set)
    adds: dict[str, str] = field(default_factory=dict)
    removes: set[str] = field(default_factory=set)
    longest: int = 16_384
    #: Answers in the site's stead, by path or method.
    answers: dict[str, httpx.Response] = field(default_factory=dict)
    scheme: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.method, request.url.path))
        for key in (request.url.path, request.method, "*"):
            if key in self.answers:
                return self.answers[key]
        if max(len(value) for value in request.headers.values()) > self.longest:
            return httpx.Response(431)
        for name in self.strips:
            request.headers.pop(name, None)
        if self.scheme:
            request.url = request.url.copy_with(scheme=self.scheme)
        site = httpx.WSGITransport(app=get_wsgi_application())
        response = site.handle_request(request)
        response.headers.update(self.adds)
        for name in self.removes:
            response.headers.pop(name, None)
        return response


@dataclass
class Shop:
    """A shop in order, to be broken. ``settings`` is pytest-django's."""

    settings: Any
    monkeypatch: Any
    proxy: Proxy = field(default_factory=Proxy)
    #: Undoes what neither pytest nor the database would.
    mend: Callable[[], object] = lambda: None

    def change(self, **changes: Any) -> None:
        self.settings.X402 = {**self.settings.X402, **changes}
        forget_rules()

    def change_network(self, **changes: Any) -> None:
        self.change(NETWORKS={NETWORK: {**self.settings.X402["NETWORKS"][NETWORK], **changes}})

    def facilitator(self, backend: str, **options: Any) -> None:
        path = f"x402_django.facilitators.{backend}"
        self.change(FACILITATORS={"default": {"BACKEND": path, "OPTIONS": options}})


@pytest.fixture
def shop(settings, monkeypatch, capsys):
    reset_dev_chains()
    settings.DEBUG = False
    settings.ROOT_URLCONF = "tests.management.doctor_urls"
    settings.ALLOWED_HOSTS = ["shop.example"]
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:9/0"
    monkeypatch.setenv("SHOP_SETTLER_KEY", SETTLER.private_key)
    settings.X402 = {**x402_settings(), "BASE_URL": URL}
    shop = Shop(settings, monkeypatch)
    shop.facilitator("LocalFacilitator", KEY_ENV="SHOP_SETTLER_KEY")
    clear_url_caches()
    dev_chain(NETWORK).mine()
    PriceRule.objects.create(name="Report", key="report", price_usd=1)
    PriceRule.objects.create(name="Bees", url_names=["bees", "article"], price_usd=1)
    run_everything()
    monkeypatch.setattr(
        x402_doctor, "http_client", lambda timeout: httpx.Client(transport=shop.proxy)
    )
    yield shop
    support.forged.clear()
    support.down.clear()
    clear_url_caches()
    reset_dev_chains()


def run_everything():
    now = clock.now()
    for name in TASKS:
        defaults = {"started_at": now, "finished_at": now}
        PeriodicRun.objects.update_or_create(name=name, defaults=defaults)
    for network in x402.networks:
        ChainScan.objects.update_or_create(network=network, defaults={"finished_at": now})


def examine(capsys, *arguments: str) -> dict[str, dict[str, str]]:
    """The symptoms, by their names."""
    capsys.readouterr()
    forget_rules()
    code = 0
    try:
        call_command("x402_doctor", "--json", *arguments)
    except SystemExit as stop:
        code = stop.code
    document = json.loads(capsys.readouterr().out)
    assert code == (0 if document["well"] else 1)
    assert document["well"] is (document["symptoms"] == [])
    assert all(one["what"] and one["remedy"] for one in document["symptoms"])
    return {one["name"]: one for one in document["symptoms"]}


def test_a_shop_in_order(shop, capsys):
    assert examine(capsys) == {}
    paid = {path for method, path in shop.proxy.asked if method == "GET"}
    assert {"/weather/", "/report/", "/bees/"} <= paid
    assert not Payment.objects.exists()  # nothing was claimed by looking
    call_command("x402_doctor", "--path", "/articles/wasps/")
    said = capsys.readouterr().out
    assert said.endswith("All is well.\n")
    assert "because they take arguments: /articles/<slug:slug>/" in said
    assert ("GET", "/articles/wasps/") in shop.proxy.asked


# ------------------------------------------------------------------ broken, one by one


def no_middleware(shop):
    shop.settings.MIDDLEWARE = [one for one in shop.settings.MIDDLEWARE if one != GATE]


def a_cache_after_the_gate(shop):
    cache = "django.middleware.cache.UpdateCacheMiddleware"
    shop.settings.MIDDLEWARE = [*shop.settings.MIDDLEWARE, cache]


def a_misspelt_setting(shop):
    shop.change(PAYTO="0x70997970C51812dc3A010C7d01b50e0d17dc79C8")


def nobody_to_pay(shop):
    shop.change(PAY_TO=None)


def tables_of_another_version(shop):
    from django.db.migrations.recorder import MigrationRecorder

    recorder = MigrationRecorder(connections["default"])
    applied = [name for app, name in recorder.applied_migrations() if app == "x402_django"]
    for name in applied:
        recorder.record_unapplied("x402_django", name)
    shop.mend = lambda: [recorder.record_applied("x402_django", name) for name in applied]


def no_database(shop):
    def gone(*args, **kwargs):
        raise OperationalError("secret of the server")

    shop.monkeypatch.setattr(type(connections["default"]), "cursor", gone)


def a_node_that_is_gone(shop):
    support.down.add("*")


def a_node_of_another_chain(shop):
    support.forged["eth_chainId"] = "0x1"


def newest_block_of(timestamp):
    block = dev_chain(NETWORK).handle(
        {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["latest", False]}
    )["result"]
    support.forged["eth_getBlockByNumber"] = {**block, "timestamp": hex(timestamp)}


def a_node_that_stopped(shop):
    from tests.chain.support import direct

    block = dict(
        direct().provider.make_request("eth_getBlockByNumber", ["latest", False])["result"]
    )
    block["timestamp"] = hex(clock.timestamp() - 900)
    support.forged["eth_getBlockByNumber"] = block


def a_clock_that_is_behind(shop):
    from tests.chain.support import direct

    block = dict(
        direct().provider.make_request("eth_getBlockByNumber", ["latest", False])["result"]
    )
    block["timestamp"] = hex(clock.timestamp() + 300)
    support.forged["eth_getBlockByNumber"] = block


def web_servers_clock(shop):
    shop.proxy.adds["Date"] = "Mon, 01 Jan 2024 00:00:00 GMT"


def a_token_that_is_none(shop):
    asset = {**shop.settings.X402["NETWORKS"][NETWORK]["ASSETS"][0], "ADDRESS": "0x" + "9" * 40}
    shop.change_network(ASSETS=[asset])


def a_token_by_another_name(shop):
    asset = {**shop.settings.X402["NETWORKS"][NETWORK]["ASSETS"][0], "NAME": "USD Coin"}
    shop.change_network(ASSETS=[asset])


def a_facilitator_that_is_gone(shop):
    shop.facilitator("RemoteFacilitator", URL="http://127.0.0.1:9", TIMEOUT=1)


def a_facilitator_for_other_networks(shop):
    facilitator = HostileFacilitator()
    facilitator.__enter__()
    shop.mend = lambda: facilitator.__exit__(None, None, None)
    shop.facilitator("RemoteFacilitator", URL=facilitator.url)


def an_empty_wallet(shop):
    SettlementWallet.objects.create(
        network=NETWORK, address="0x" + "1" * 40, next_nonce=0, balance=0, balance_at=clock.now()
    )


def no_broker(shop):
    PeriodicRun.objects.all().delete()
    shop.monkeypatch.setattr("x402_django.management.doctor.inside._ping", lambda: None)


def no_worker(shop):
    PeriodicRun.objects.all().delete()
    shop.monkeypatch.setattr("x402_django.management.doctor.inside._ping", lambda: 0)


def no_beat(shop):
    PeriodicRun.objects.all().delete()
    shop.monkeypatch.setattr("x402_django.management.doctor.inside._ping", lambda: 2)


def chains_that_are_not_read(shop):
    ChainScan.objects.update(finished_at=clock.now() - timedelta(hours=1))


def a_host_that_is_not_allowed(shop):
    shop.settings.ALLOWED_HOSTS = ["internal.example"]


def pages_that_the_proxy_does_not_pass(shop):
    shop.proxy.answers["/x402/health/live/"] = httpx.Response(404)


def a_site_that_is_down(shop):
    def refuse(request):
        raise httpx.ConnectError("refused")

    shop.monkeypatch.setattr(shop.proxy, "handle_request", refuse)


def a_page_for_nothing(shop):
    shop.proxy.answers["/bees/"] = httpx.Response(200, text="article")


def a_page_without_a_price(shop):
    PriceRule.objects.filter(key="report").delete()


def a_login_before_the_gate(shop):
    shop.proxy.answers["/weather/"] = httpx.Response(302, headers={"Location": "/login/"})


def a_proxy_that_strips_payments(shop):
    shop.proxy.strips.add("PAYMENT-SIGNATURE")


def a_proxy_that_strips_challenges(shop):
    shop.proxy.removes.add("PAYMENT-REQUIRED")


def a_proxy_for_short_headers(shop):
    shop.proxy.longest = 4096


def a_proxy_that_writes_cache_control(shop):
    shop.proxy.adds["Cache-Control"] = "public, max-age=60"


def a_cdn_that_caches(shop):
    shop.proxy.adds["CF-Cache-Status"] = "HIT"


def a_preflight_that_is_refused(shop):
    shop.proxy.answers["OPTIONS"] = httpx.Response(403)


def cors_that_hides_the_challenge(shop):
    shop.proxy.adds["Access-Control-Allow-Origin"] = "*"
    shop.proxy.adds["Access-Control-Expose-Headers"] = "X-Request-Id"
    shop.proxy.adds["Access-Control-Allow-Headers"] = "*"


def cors_that_keeps_payments_out(shop):
    shop.proxy.adds["Access-Control-Allow-Origin"] = "*"
    shop.proxy.adds["Access-Control-Allow-Headers"] = "content-type"


def tls_that_django_does_not_know_of(shop):
    shop.change(BASE_URL=None)
    shop.proxy.scheme = "http"


BROKEN = {
    no_middleware: ("check_E001", "MIDDLEWARE"),
    a_cache_after_the_gate: ("check_E013", "to the top of MIDDLEWARE"),
    a_misspelt_setting: ("check_E002", "PAY_TO"),
    nobody_to_pay: ("check_W011", "PAY_TO"),
    tables_of_another_version: ("migrations", "migrate"),
    no_database: ("database", "DATABASES"),
    a_node_that_is_gone: ("node_unreachable", "RPC_URLS"),
    a_node_of_another_chain: ("node_of_another_chain", "RPC_URLS"),
    a_node_that_stopped: ("node_behind", "node that keeps up"),
    a_clock_that_is_behind: ("clock", "NTP"),
    web_servers_clock: ("clock", "NTP"),
    a_token_that_is_none: ("no_token", "address"),
    a_token_by_another_name: ("token_domain", "NAME and VERSION"),
    a_facilitator_that_is_gone: ("facilitator_unreachable", "URL"),
    a_facilitator_for_other_networks: ("facilitator_unsuitable", "FACILITATOR"),
    an_empty_wallet: ("wallet", "Send it coin"),
    no_broker: ("broker", "Celery's broker"),
    no_worker: ("worker", "worker"),
    no_beat: ("beat", "one beat"),
    chains_that_are_not_read: ("scans", "RPC_URLS"),
    a_host_that_is_not_allowed: ("host_refused", "ALLOWED_HOSTS"),
    pages_that_the_proxy_does_not_pass: ("pages_missing", "proxy"),
    a_site_that_is_down: ("site_unreachable", "server running"),
    a_page_for_nothing: ("served_free", "off the net"),
    a_page_without_a_price: ("no_price", "price rules"),
    a_login_before_the_gate: ("not_asked", "behind the payment"),
    a_proxy_that_strips_payments: ("header_stripped", "PAYMENT-SIGNATURE"),
    a_proxy_that_strips_challenges: ("challenge_lost", "response headers"),
    a_proxy_for_short_headers: ("header_too_long", "16 KB"),
    a_proxy_that_writes_cache_control: ("cache_control", "Cache-Control"),
    a_cdn_that_caches: ("cached", "CDN"),
    a_preflight_that_is_refused: ("preflight", "OPTIONS"),
    cors_that_hides_the_challenge: ("cors_exposed", "CORS_EXPOSE_HEADERS"),
    cors_that_keeps_payments_out: ("cors_allowed", "CORS_ALLOW_HEADERS"),
    tls_that_django_does_not_know_of: ("other_address", "SECURE_PROXY_SSL_HEADER"),
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda function: function.__name__)
def test_what_is_broken_is_found_and_the_remedy_named(broken, shop, capsys):
    name, remedy = BROKEN[broken]
    broken(shop)
    try:
        found = examine(capsys, "--url", URL)
    finally:
        shop.mend()
    assert name in found, found
    assert remedy in found[name]["remedy"]
    told = json.dumps(found)
    assert "secret" not in told  # of nobody's errors


def test_more_than_twenty_are_known():
    assert len(BROKEN) >= 20


def test_plain_http(shop, capsys):
    shop.change(BASE_URL="http://shop.example")
    assert "plain_http" in examine(capsys)


def test_without_an_address_the_outside_is_not_looked_at(shop, capsys):
    shop.change(BASE_URL=None)
    call_command("x402_doctor")
    assert "outside: not looked at" in capsys.readouterr().out
    assert shop.proxy.asked == []


def test_a_probe_that_breaks_off_is_a_symptom(shop, capsys, monkeypatch):
    def broken():
        raise RuntimeError("a secret")
        yield

    monkeypatch.setitem(x402_doctor.inside.PROBES, "books", broken)
    found = examine(capsys)
    assert set(found) == {"books_unknown"}
    assert "secret" not in json.dumps(found)
