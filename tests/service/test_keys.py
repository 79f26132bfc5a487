"""API keys: hashed, shown once, rotated, revoked, and held to their budgets."""

from __future__ import annotations

import threading
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from tests.service.support import PRICE, SELLER, Caller, ask, balance
from x402_django import clock
from x402_django.exceptions import BudgetExceeded, InvalidApiKey
from x402_django.models import ChainTransaction, FacilitatorKey, FacilitatorUsage, Payment
from x402_django.payments.service import budget, keys
from x402_django.tasks import release_stale_claims


def tables() -> str:
    """Everything the database holds of keys."""
    return str(list(FacilitatorKey.objects.values()))


@pytest.mark.parametrize(
    "secret",
    [
        None,
        "",
        "wrong",
        "x402fk_" + "A" * 51,
        "x402fk_" + "é" * 51,
        "x402fk_" + "A" * 10_000,
    ],
)
def test_no_key_or_a_wrong_one_is_401(service: Any, secret: str | None) -> None:
    body = ask()
    for answer in (Caller(secret).verify(body), Caller(secret).settle(body)):
        assert answer.status_code == 401
        assert answer.json()["error"] == "invalid_api_key"
        assert answer["WWW-Authenticate"] == 'Bearer realm="x402 facilitator"'
    assert not Payment.objects.exists()


def test_a_made_up_key_costs_no_query(service: Any, django_assert_num_queries: Any) -> None:
    body, caller = ask(), Caller("x402fk_" + "A" * 51)
    caller.verify(body)  # the price rules are read once in a while
    with django_assert_num_queries(0):
        assert caller.verify(body).status_code == 401


def test_a_plausible_key_that_nobody_has_is_401(service: Any) -> None:
    made_up = keys._new_secret()
    assert Caller(made_up).verify(ask()).status_code == 401


@pytest.mark.django_db
def test_only_a_digest_is_kept() -> None:
    key, secret = keys.issue("Weather Ltd")

    assert secret not in tables()
    assert secret.removeprefix("x402fk_")[6:] not in tables()
    assert secret.startswith(key.prefix)
    assert len(key.prefix) == 13
    assert keys.authenticate(secret) == key


def test_a_revoked_key_is_refused_at_once(make_caller: Any) -> None:
    caller, key = make_caller()
    assert caller.verify(ask()).json()["isValid"] is True

    keys.revoke(key)

    assert caller.verify(ask()).status_code == 401
    assert caller.settle(ask()).status_code == 401
    assert balance(SELLER) == 0
    with pytest.raises(InvalidApiKey):
        keys.rotate(key)


@pytest.mark.django_db
def test_after_a_rotation_the_old_key_is_good_for_a_day() -> None:
    key, old = keys.issue("Weather Ltd")
    new = keys.rotate(key)

    assert keys.authenticate(old) == keys.authenticate(new) == key
    with clock.shifted(timedelta(hours=25)):
        assert keys.authenticate(new) == key
        with pytest.raises(InvalidApiKey):
            keys.authenticate(old)
    keys.revoke(key)
    for secret in (old, new):
        with pytest.raises(InvalidApiKey):
            keys.authenticate(secret)


def test_over_its_rate_a_key_is_429(make_caller: Any) -> None:
    caller, _key = make_caller(requests_per_minute=2)
    other, _key = make_caller("Another")
    body = ask()
    with clock.shifted(timedelta(0)):
        answers = [caller.verify(body).status_code for _ in range(2)]
        refused = caller.verify(body)
        settled = caller.settle(body)

    assert answers == [200, 200]
    assert (refused.status_code, settled.status_code) == (429, 429)
    assert refused.json()["error"] == "too_many_requests"
    assert 1 <= int(refused["Retry-After"]) <= 60
    assert not Payment.objects.exists()
    assert other.verify(body).json()["isValid"] is True
    with clock.shifted(timedelta(seconds=60)):
        assert caller.verify(body).status_code == 200


def test_without_gas_nothing_is_sent(make_caller: Any) -> None:
    caller, key = make_caller(gas_per_hour=500_000)
    first = ask()
    assert caller.settle(first).json()["success"] is True
    used = FacilitatorUsage.objects.get(key=key, measure="gas").used
    sent = ChainTransaction.objects.get()
    assert used == sent.gas_used > 40_000  # what was not used is given back

    body = ask()
    verified, settled = caller.verify(body), caller.settle(body)

    assert (verified.status_code, settled.status_code) == (429, 429)
    assert settled.json()["error"] == "gas_budget_exceeded"
    assert int(settled["Retry-After"]) <= 3600
    assert ChainTransaction.objects.count() == 1
    assert balance(SELLER) == PRICE
    assert Payment.objects.first().state == "released"
    assert caller.settle(first).json()["success"] is True  # an answer that is known costs no gas


def test_what_is_refused_uses_no_gas(make_caller: Any) -> None:
    from x402_django.testing.chain import dev_chain, new_payer
    from x402_django.testing.payer import Payer

    caller, key = make_caller(gas_per_hour=500_000)
    poor = Payer(new_payer(dev_chain("eip155:1337"), dollars=0))

    assert caller.settle(ask(poor)).json()["errorReason"] == "insufficient_funds"

    assert FacilitatorUsage.objects.get(key=key, measure="gas").used == 0


@pytest.mark.django_db(transaction=True)
def test_no_number_of_requests_at_once_goes_over_the_budget() -> None:
    key, _secret = keys.issue("Weather Ltd", requests_per_minute=5, gas_per_hour=700)
    told: list[str] = []

    def spend() -> None:
        try:
            for take in (lambda: budget.count_request(key), lambda: budget.reserve_gas(key, 100)):
                try:
                    take()
                    told.append("yes")
                except BudgetExceeded:
                    told.append("no")
        finally:
            connection.close()

    with clock.shifted(timedelta(0)):
        threads = [threading.Thread(target=spend) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    used = {row.measure: row.used for row in FacilitatorUsage.objects.filter(key=key)}
    assert used == {"requests": 5, "gas": 700}
    assert told.count("yes") == 12


@pytest.mark.django_db
def test_old_counters_are_forgotten() -> None:
    key, _secret = keys.issue("Weather Ltd")
    budget.count_request(key)
    with clock.shifted(timedelta(days=31)):
        release_stale_claims()
    assert not FacilitatorUsage.objects.exists()


# --------------------------------------------------------------------------- the command


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("x402_facilitator_key", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


@pytest.mark.django_db
def test_the_command_makes_rotates_lists_and_revokes() -> None:
    secret = run("Weather Ltd", "--gas-per-hour", "0", "--origin", "https://api.example")
    key = keys.authenticate(secret)
    assert (key.requests_per_minute, key.gas_per_hour) == (600, None)
    assert key.origins == ["https://api.example"]

    rotated = run("Weather Ltd", "--rotate", "--grace-hours", "0")
    assert keys.authenticate(rotated) == key
    with pytest.raises(InvalidApiKey):
        keys.authenticate(secret)
    assert rotated not in run("--list")
    assert '"name": "Weather Ltd"' in run("--list")

    assert run("Weather Ltd", "--revoke") == ""
    with pytest.raises(InvalidApiKey):
        keys.authenticate(rotated)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "Say whose key it is"),
        (["Taken"], "already exists"),
        (["New", "--origin", "api.example/path"], "list of origins"),
        (["New", "--origin", "http://api.example"], "list of origins"),
        (["Nobody", "--rotate"], "no key named"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: list[str], why: str) -> None:
    keys.issue("Taken")
    with pytest.raises(CommandError, match=why):
        run(*arguments)
    assert FacilitatorKey.objects.count() == 1


# ----------------------------------------------------------------------------- the admin


@pytest.fixture
def desk(db: None, settings: Any) -> Client:
    from django.contrib.auth.models import User

    settings.ROOT_URLCONF = "tests.service.urls"
    client = Client()
    client.force_login(User.objects.create_superuser("merchant", password="x"))
    return client


ADD = "/admin/x402_django/facilitatorkey/"


def shown_secret(page: Any) -> str:
    return str(page.context["secret"])


def test_the_admin_shows_a_new_key_once(desk: Client) -> None:
    form = {"name": "Weather Ltd", "requests_per_minute": "60", "gas_per_hour": "", "origins": "[]"}
    page = desk.post(ADD + "add/", form)

    assert page.status_code == 200
    secret = shown_secret(page)
    assert secret in page.content.decode()
    assert "no-store" in page["Cache-Control"]
    key = keys.authenticate(secret)
    assert (key.name, key.requests_per_minute, key.gas_per_hour) == ("Weather Ltd", 60, None)
    for url in (ADD, f"{ADD}{key.pk}/change/"):
        later = desk.get(url)
        assert later.status_code == 200
        assert secret not in later.content.decode()
        assert key.digest not in later.content.decode()


def test_the_admin_rotates_and_revokes_and_never_deletes(desk: Client) -> None:
    key, old = keys.issue("Weather Ltd")
    page = desk.post(ADD, {"action": "rotate", "_selected_action": [key.pk]})
    new = shown_secret(page)
    assert keys.authenticate(new) == keys.authenticate(old) == key

    desk.post(ADD, {"action": "revoke", "_selected_action": [key.pk]})
    with pytest.raises(InvalidApiKey):
        keys.authenticate(new)
    assert desk.post(f"{ADD}{key.pk}/delete/", {"post": "yes"}).status_code == 403
    assert FacilitatorKey.objects.get().revoked_at is not None


def test_the_admin_keeps_the_books_apart(desk: Client) -> None:
    from tests.admin.rows import new_payment

    key, _secret = keys.issue("Weather Ltd")
    sale, service = new_payment(1), new_payment(2, kind="service", service_key=key)
    for payment in (sale, service):
        payment.save(force_insert=True)

    sales = desk.get("/admin/x402_django/payment/")
    others = desk.get("/admin/x402_django/servicepayment/")

    assert [row.pk for row in sales.context["cl"].result_list] == [sale.pk]
    assert [row.pk for row in others.context["cl"].result_list] == [service.pk]
    assert desk.get(f"/admin/x402_django/payment/{service.pk}/change/").status_code == 302
    page = desk.get(f"/admin/x402_django/servicepayment/{service.pk}/change/")
    assert page.status_code == 200
    assert "Weather Ltd" in page.content.decode()
    for url in ("add/", f"{service.pk}/delete/"):
        assert desk.post(f"/admin/x402_django/servicepayment/{url}").status_code == 403
