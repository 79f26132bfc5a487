"""Free requests: so many, for each of whom they are for, in each period."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client

from tests.admin.rows import make_rule
from tests.shop.runs import runs
from x402_django import clock
from x402_django.models import FreeQuota, Payment
from x402_django.payments.housekeeping import tidy_up
from x402_django.pricing.cache import forget_rules
from x402_django.testing.payer import Payer, PayingClient, decode
from x402_django.testing.sign_in import sign_in_headers

pytestmark = pytest.mark.django_db

PAGE = "/articles/a/"


def rule(requests: int, **changes: Any) -> None:
    make_rule(price_usd=Decimal("0.05"), free_requests=requests, **changes)
    forget_rules()


def get(client: Client | None = None, path: str = PAGE, **extra: Any) -> Any:
    return (client or Client(raise_request_exception=False)).get(path, **extra)


def statuses(count: int, client: Client | None = None, **extra: Any) -> list[int]:
    return [get(client, **extra).status_code for _ in range(count)]


def test_two_a_day_for_each_address() -> None:
    rule(2)
    first = get()
    assert (first.status_code, first["X-402-Remaining"]) == (200, "1 free")
    assert "private" in first["Cache-Control"]
    assert statuses(2) == [200, 402]
    assert runs["article"] == 2
    assert statuses(3, REMOTE_ADDR="203.0.113.9") == [200, 200, 402]
    assert not Payment.objects.exists()
    bought = PayingClient(payer=Payer()).get(PAGE)
    assert "PAYMENT-RESPONSE" in bought


def test_a_payment_is_taken_all_the_same() -> None:
    rule(1)
    statuses(1)
    headers = Payer().headers_for(get())
    answer = get(headers=headers, REMOTE_ADDR="203.0.113.2")
    assert "PAYMENT-RESPONSE" in answer
    assert FreeQuota.objects.get().taken == 1


def test_a_new_day_begins_at_midnight_of_the_site(settings: Any, monkeypatch: Any) -> None:
    settings.TIME_ZONE = "America/New_York"
    rule(1)
    evening = datetime(2026, 11, 28, 4, 59, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: evening)
    assert statuses(2) == [200, 402]
    monkeypatch.setattr(clock, "now", lambda: evening + timedelta(minutes=1))
    assert statuses(2) == [200, 402]


@pytest.mark.parametrize(("period", "hours"), [("hour", 1), ("month", 31 * 24)])
def test_other_periods(monkeypatch: Any, period: str, hours: int) -> None:
    rule(1, free_period=period)
    start = datetime(2026, 10, 1, 0, 30, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: start)
    assert statuses(2) == [200, 402]
    monkeypatch.setattr(clock, "now", lambda: start + timedelta(hours=hours))
    assert statuses(2) == [200, 402]


def test_users_have_theirs_and_visitors_none() -> None:
    rule(1, free_per="user")
    assert statuses(1) == [402]
    for name in ("ann", "bob"):
        client = Client()
        client.force_login(User.objects.create_user(name))
        answer = get(client)
        assert (answer.status_code, answer["X-402-Remaining"]) == (200, "0 free")
        assert "Cookie" in answer["Vary"]
        assert statuses(1, client) == [402]


def test_wallets_have_theirs_by_signing_in(settings: Any) -> None:
    settings.X402 = {**settings.X402, "EXTENSIONS": {"sign-in-with-x": {}}}
    rule(1, free_per="payer")
    payer = Payer()

    def sign_in() -> Any:
        extension = decode(get()["PAYMENT-REQUIRED"])["extensions"]["sign-in-with-x"]
        return get(headers=sign_in_headers(extension, payer.account))

    assert statuses(1) == [402]
    assert sign_in().status_code == 200
    assert sign_in().status_code == 402
    payer = Payer()
    assert sign_in().status_code == 200


def test_a_view_that_fails_uses_none_up() -> None:
    rule(1, url_names=["shop:missing"])
    assert [get(path="/missing/").status_code for _ in range(3)] == [404] * 3
    assert FreeQuota.objects.get().taken == 0


def test_the_address_is_the_proxys_word_only_where_it_is_named(settings: Any) -> None:
    rule(1)
    assert statuses(1, headers={"X-Real-IP": "203.0.113.1"}) == [200]
    assert statuses(1, headers={"X-Real-IP": "203.0.113.2"}) == [402]
    settings.X402 = {**settings.X402, "CLIENT_ADDRESS_HEADER": "X-Real-IP"}
    assert statuses(2, headers={"X-Real-IP": "203.0.113.1"}) == [200, 402]
    assert statuses(1, headers={"X-Real-IP": "203.0.113.2"}) == [200]
    for nobody in ({}, {"X-Real-IP": "nonsense"}, {"X-Real-IP": "203.0.113.3, 10.0.0.1"}):
        assert statuses(1, headers=nobody) == [402]


def test_one_client_of_ipv6_has_one_quota() -> None:
    rule(1)
    assert statuses(1, REMOTE_ADDR="2001:db8:1:2::1") == [200]
    assert statuses(1, REMOTE_ADDR="2001:db8:1:2:ffff::9") == [402]
    assert statuses(1, REMOTE_ADDR="2001:db8:1:3::1") == [200]
    assert statuses(1, REMOTE_ADDR="::ffff:203.0.113.7") == [200]
    assert statuses(1, REMOTE_ADDR="203.0.113.7") == [402]


def test_t23_whose_it_was_is_not_stored() -> None:
    rule(1)
    get(REMOTE_ADDR="203.0.113.9")
    row = FreeQuota.objects.get()
    assert "203.0.113.9" not in row.subject
    assert len(row.subject) == 64


def test_old_periods_are_forgotten(monkeypatch: Any) -> None:
    rule(1)
    get()
    later = clock.now() + timedelta(days=41)
    monkeypatch.setattr(clock, "now", lambda: later)
    tidy_up()
    assert not FreeQuota.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_t07_many_at_once_get_no_more_than_there_are() -> None:
    rule(3)
    get(path="/free/")
    barrier = Barrier(16)

    def send(_number: int) -> int:
        try:
            barrier.wait(30)
            return int(get().status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(16) as pool:
        told = Counter(pool.map(send, range(16)))
    assert told == {200: 3, 402: 13}
    assert FreeQuota.objects.get().taken == 3
