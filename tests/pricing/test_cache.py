"""Compiled rules: no query on a challenge, edits in force in time, never free."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import DatabaseError, OperationalError, connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from tests.settings import X402
from tests.shop.runs import runs
from x402_django.models import Payment, PaymentMethod, PriceRule
from x402_django.pricing import cache
from x402_django.testing.payer import decode

pytestmark = pytest.mark.django_db


def price(client, path="/articles/a/"):
    response = client.get(path)
    if response.status_code != 402:
        return response.status_code
    return int(decode(response["PAYMENT-REQUIRED"])["accepts"][0]["amount"])


@pytest.fixture
def article_rule():
    return PriceRule.objects.create(name="a", price_usd=1, url_names=["shop:article"])


@pytest.fixture
def monotonic(monkeypatch):
    """Seconds to add to the monotonic clock."""
    shift = [0.0]
    real = time.monotonic
    monkeypatch.setattr(cache.time, "monotonic", lambda: real() + shift[0])
    return shift


@pytest.mark.parametrize("path", ["/weather/", "/articles/a/", "/asking/", "/photo/", "/plan/7/"])
def test_a_challenge_asks_the_database_nothing(client, article_rule, path):
    client.get(path)
    with CaptureQueriesContext(connection) as context:
        assert client.get(path).status_code == 402
    # With ATOMIC_REQUESTS a view that asks from inside has had its transaction.
    control = ("SAVEPOINT", "ROLLBACK", "RELEASE", "BEGIN", "COMMIT")
    assert [q["sql"] for q in context if not q["sql"].startswith(control)] == []
    assert Payment.objects.count() == 0


def test_reading_the_rules_takes_five_queries(client, article_rule, django_assert_num_queries):
    method = PaymentMethod.objects.create(
        name="m",
        network="eip155:84532",
        asset="0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        asset_symbol="USDC",
        asset_name="USDC",
        asset_version="2",
        pay_to="0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    )
    article_rule.payment_methods.add(method)
    with django_assert_num_queries(5):
        assert price(client) == 1_000_000


def test_an_edit_here_is_in_force_at_once(client, article_rule):
    assert price(client) == 1_000_000
    article_rule.price_usd = 2
    article_rule.save()
    assert price(client) == 2_000_000
    article_rule.delete()
    assert price(client) == 200
    assert runs["article"] == 1


def test_an_edit_of_a_rules_methods_is_in_force_at_once(client, article_rule):
    method = PaymentMethod.objects.create(
        name="m",
        network="eip155:84532",
        asset="0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        asset_symbol="USDC",
        asset_name="USDC",
        asset_version="2",
        asset_decimals=2,
        pay_to="0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    )
    assert price(client) == 100
    article_rule.payment_methods.add(method)
    assert price(client) == 100
    method.active = False
    method.save()
    assert price(client) == 503
    article_rule.payment_methods.clear()
    assert price(client) == 1_000_000
    assert runs["article"] == 0


def test_an_edit_elsewhere_is_in_force_within_the_rules_age(client, article_rule, monotonic):
    assert price(client) == 1_000_000
    with connection.cursor() as cursor:  # another process: no signal is heard here
        cursor.execute("UPDATE x402_django_pricerule SET price_usd = 3")
    assert price(client) == 1_000_000
    monotonic[0] = 3.9
    assert price(client) == 1_000_000
    monotonic[0] = 4.1
    assert price(client) == 3_000_000


def test_an_age_of_zero_reads_the_rules_each_time(client, article_rule, monotonic):
    with override_settings(X402={**X402, "RULES_MAX_AGE": -1}):
        assert price(client) == 1_000_000
        with connection.cursor() as cursor:
            cursor.execute("UPDATE x402_django_pricerule SET price_usd = 3")
        assert price(client) == 3_000_000


def test_when_the_database_is_down_the_last_rules_stay(
    client, article_rule, monotonic, monkeypatch, caplog
):
    assert price(client) == 1_000_000
    assert price(client, "/free/") == 200

    def down(**kwargs):
        raise OperationalError("could not connect as user secret")

    monkeypatch.setattr(cache, "load_rules", down)
    monotonic[0] = 100
    assert price(client) == 1_000_000
    assert price(client, "/weather/") == 10_000
    assert price(client, "/free/") == 200
    assert runs == {"free": 2}


@pytest.mark.parametrize("error", [OperationalError, DatabaseError])
def test_rules_that_were_never_read_answer_503(client, article_rule, monkeypatch, error):
    def down(**kwargs):
        raise error("could not connect as user secret")

    monkeypatch.setattr(cache, "load_rules", down)
    for path in ("/articles/a/", "/weather/", "/report/"):
        response = client.get(path)
        assert (response.status_code, response.json()["error"]) == (
            503,
            "payment_service_unavailable",
        )
        assert response["Retry-After"] == "2"
        assert b"secret" not in response.content
    assert runs == {}


def test_an_interface_error_is_a_database_that_is_down(client, article_rule, monkeypatch):
    from django.db import InterfaceError

    def down(**kwargs):
        raise InterfaceError("connection already closed")

    monkeypatch.setattr(cache, "load_rules", down)
    assert client.get("/weather/").status_code == 503
    assert runs == {}


def test_an_edit_while_rules_are_being_read_is_not_lost(article_rule, monkeypatch):
    """The reader got the old rows; what it read must not be kept."""
    real = cache.load_rules

    def slow_read(**kwargs):
        rules = real(**kwargs)
        monkeypatch.setattr(cache, "load_rules", real)
        article_rule.price_usd = 9
        article_rule.save()
        return rules

    monkeypatch.setattr(cache, "load_rules", slow_read)
    cache.current_rules()

    assert cache.current_rules().by_url_name["shop:article"][0].price_usd == 9


def test_an_edit_that_is_rolled_back_never_was(client, article_rule):
    from django.db import transaction

    with transaction.atomic():
        article_rule.price_usd = 9
        article_rule.save()
        assert price(client) == 9_000_000
        transaction.set_rollback(True)
    cache.forget_rules()
    assert price(client) == 1_000_000


def test_many_threads_read_the_rules_once(article_rule, monkeypatch):
    reads = []
    rules = cache.load_rules(loaded_at=time.monotonic())

    def counted(**kwargs):
        reads.append(1)
        time.sleep(0.05)
        return rules

    monkeypatch.setattr(cache, "load_rules", counted)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: cache.current_rules(), range(8)))
    assert len(reads) == 1
    assert all(one is rules for one in found)
