"""For whom and when a price rule applies; of those that apply, the first by priority."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.db import DatabaseError
from django.test import AsyncClient, Client
from django.utils import timezone
from rest_framework.test import APIClient

from tests.admin.rows import make_rule
from tests.shop.runs import runs
from x402_django import clock
from x402_django.models import Payment
from x402_django.pricing.cache import forget_rules
from x402_django.testing.payer import Payer, decode

pytestmark = pytest.mark.django_db

PAGE = "/articles/a/"


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ann")


@pytest.fixture
def logged_in(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def rule(price: str, priority: int = 0, **changes: Any) -> Any:
    made = make_rule(
        name=f"{price} {priority}", price_usd=Decimal(price), priority=priority, **changes
    )
    forget_rules()
    return made


def free(priority: int = 9, **changes: Any) -> Any:
    made = make_rule(
        name=f"free {priority}", price_usd=None, effect="free", priority=priority, **changes
    )
    forget_rules()
    return made


def price(client: Client | None = None, path: str = PAGE, **headers: str) -> str:
    """What a page costs in cents; "free" where it answers, and the status else."""
    runs.clear()
    answer = (client or Client(raise_request_exception=False)).get(path, headers=headers)
    if answer.status_code == 200:
        assert sum(runs.values()) == 1
        return "free"
    assert not runs
    if answer.status_code != 402:
        return str(answer.status_code)
    return str(int(decode(answer["PAYMENT-REQUIRED"])["accepts"][0]["amount"]) // 10_000)


def test_who_is_logged_in_pays_less(logged_in: Client) -> None:
    rule("0.05")
    rule("0.02", 1, audience="users")
    assert (price(), price(logged_in)) == ("5", "2")


def test_the_first_that_applies_by_priority(logged_in: Client) -> None:
    rule("0.05")
    rule("0.03", 2, audience="users")
    rule("0.02", 1, audience="users")
    assert price(logged_in) == "3"


def test_only_visitors_pay(logged_in: Client) -> None:
    rule("0.05", audience="anonymous")
    assert (price(), price(logged_in)) == ("5", "free")


def test_members_of_a_group(logged_in: Client, user: User) -> None:
    group = Group.objects.create(name="press")
    rule("0.05")
    rule("0.01", 1, groups=[group.pk])
    assert price(logged_in) == "5"
    user.groups.add(group)
    assert price(logged_in) == "1"


def test_a_deleted_group_lets_nobody_in(logged_in: Client, user: User) -> None:
    group = Group.objects.create(name="press")
    user.groups.add(group)
    rule("0.05")
    free(groups=[group.pk])
    assert price(logged_in) == "free"
    group.delete()
    assert (price(logged_in), price()) == ("5", "5")


def test_a_page_is_not_free_because_the_group_that_pays_was_deleted(
    logged_in: Client, user: User
) -> None:
    group = Group.objects.create(name="subscribers")
    user.groups.add(group)
    rule("0.05", groups=[group.pk])
    assert (price(logged_in), price()) == ("5", "free")
    group.delete()
    forget_rules()
    assert (price(logged_in), price()) == ("503", "503")


def test_a_permission(logged_in: Client, user: User) -> None:
    rule("0.05")
    rule("0.01", 1, permission="x402_django.view_receipt")
    assert (price(logged_in), price()) == ("5", "5")
    user.user_permissions.add(Permission.objects.get(codename="view_receipt"))
    assert price(logged_in) == "1"


def test_a_header_and_a_secret_one() -> None:
    rule("0.05")
    rule("0.03", 1, header_name="X-Partner", header_values=["acme", "initech"])
    digest = hashlib.sha256(b"letmein").hexdigest()
    free(2, header_name="X-Test-Key", header_values=[f"sha256:{digest}"])
    assert price() == "5"
    assert price(**{"X-Partner": "initech"}) == "3"
    assert price(**{"X-Partner": "acme corp"}) == "5"
    assert price(**{"X-Test-Key": "letmein"}) == "free"
    assert price(**{"X-Test-Key": digest}) == "5"
    assert price(**{"X-Test-Key": f"sha256:{digest}"}) == "5"


def test_a_country_only_as_the_proxy_says(settings: Any) -> None:
    rule("0.05")
    rule("0.02", 1, countries=["PL", "DE"])
    assert price(**{"CF-IPCountry": "DE"}) == "503"  # nobody says which header it is
    settings.X402 = {**settings.X402, "COUNTRY_HEADER": "CF-IPCountry"}
    assert price(**{"CF-IPCountry": "de"}) == "2"
    assert price(**{"CF-IPCountry": "FR"}) == "5"
    assert price(**{"X-Country": "DE"}) == "5"
    assert price() == "5"


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (datetime(2026, 11, 27, 21, 59, tzinfo=UTC), "5"),  # a Friday
        (datetime(2026, 11, 27, 22, 0, tzinfo=UTC), "1"),
        (datetime(2026, 11, 28, 5, 59, tzinfo=UTC), "1"),  # of Friday's night
        (datetime(2026, 11, 28, 6, 0, tzinfo=UTC), "5"),
        (datetime(2026, 11, 28, 23, 0, tzinfo=UTC), "5"),  # Saturday's is not in it
    ],
)
def test_hours_over_midnight(monkeypatch: Any, when: datetime, expected: str) -> None:
    rule("0.05")
    rule("0.01", 1, hours_from=time(22), hours_until=time(6), weekdays=[4])
    monkeypatch.setattr(clock, "now", lambda: when)
    assert price() == expected


def test_all_conditions_must_hold(logged_in: Client) -> None:
    rule("0.05")
    rule("0.01", 1, audience="users", header_name="X-App")
    assert price(logged_in) == "5"
    assert price(**{"X-App": "1"}) == "5"
    assert price(logged_in, **{"X-App": "1"}) == "1"


# ----------------------------------------------------------------------------- free of charge


@pytest.mark.parametrize(
    "path", ["/weather/", "/asking/", "/photo/", "/async-weather/", "/hidden/"]
)
def test_staff_is_let_in_by_rule(path: str) -> None:
    """Views that are sold by code, of every kind, run as if paid."""
    names = ["shop:weather", "shop:asking", "shop:photo", "shop:async-weather", "shop:hidden"]
    free(url_names=names, audience="staff")
    boss = Client(raise_request_exception=False)
    boss.force_login(User.objects.create_user("boss", is_staff=True))
    answer = boss.get(path)
    assert answer.status_code == 200, answer.content
    assert "private" in answer["Cache-Control"]
    assert "PAYMENT-RESPONSE" not in answer
    assert Client().get(path).status_code == 402
    assert not Payment.objects.exists()


def test_a_metered_view_charges_nobody() -> None:
    free(url_names=["shop:metered"], header_name="X-Test", header_values=["yes"])
    answer = Client().get("/metered/?charge=0.01", headers={"X-Test": "yes"})
    assert answer.json()["due"] == 0


def test_who_is_let_in_and_pays_all_the_same_is_not_charged() -> None:
    rule("0.05")
    headers = Payer().headers_for(Client().get(PAGE))
    free(header_name="X-Test", header_values=["yes"])
    answer = Client().get(PAGE, headers={**headers, "X-Test": "yes"})
    assert answer.status_code == 200
    assert not Payment.objects.exists()


def test_a_rest_view_knows_the_users_of_its_own_authentication(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.http.condition_urls"
    free(url_names=["forecast"], audience="users")
    client = APIClient()
    assert client.get("/forecast/").status_code == 402
    client.force_authenticate(User.objects.create_user("token"))
    assert client.get("/forecast/").status_code == 200


# ------------------------------------------------------------------------------- attackers


def test_a_cheaper_rules_payment_is_refused_of_whom_it_is_not_for(logged_in: Client) -> None:
    """T12: what was asked of somebody else is not the price of this one."""
    rule("0.05")
    rule("0.01", 1, audience="users")
    headers = Payer().headers_for(logged_in.get(PAGE))
    runs.clear()
    answer = Client().get(PAGE, headers=headers)
    assert answer.status_code == 402
    assert decode(answer["PAYMENT-REQUIRED"])["accepts"][0]["amount"] == "50000"
    assert not runs
    assert logged_in.get(PAGE, headers=headers).status_code == 200


def test_what_was_asked_for_a_moment_ago_is_taken(monkeypatch: Any) -> None:
    """The hours end between the challenge and the payment."""
    now = timezone.now()
    end = now + timedelta(seconds=5)
    rule("0.05")
    rule("0.01", 1, hours_from=(now - timedelta(hours=1)).time(), hours_until=end.time())
    headers = Payer().headers_for(Client().get(PAGE))
    monkeypatch.setattr(clock, "now", lambda: end + timedelta(seconds=10))
    assert price() == "5"
    runs.clear()
    assert Client().get(PAGE, headers=headers).status_code == 200
    assert Payment.objects.get().amount == 10_000


def test_t16_what_depends_on_who_asks_is_not_for_a_shared_cache(logged_in: Client) -> None:
    rule("0.05", audience="anonymous")
    answer = logged_in.get(PAGE)
    assert "private" in answer["Cache-Control"]
    assert {"Cookie", "Authorization"} <= set(answer["Vary"].split(", "))
    challenge = Client().get(PAGE)
    assert challenge["Cache-Control"] == "no-store"
    rule("0.02", 5, header_name="X-App", header_values=["1"])
    assert "X-App" in logged_in.get(PAGE)["Vary"]


def test_t16_a_page_that_is_free_by_the_hour_is_not_for_a_shared_cache(monkeypatch: Any) -> None:
    rule("0.05", hours_from=time(8), hours_until=time(20))
    now = datetime(2026, 11, 27, 21, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: now)
    answer = Client().get(PAGE)
    assert answer.status_code == 200
    assert "private" in answer["Cache-Control"]


def test_a_page_without_conditions_stays_as_cacheable_as_it_was() -> None:
    rule("0.05", url_names=["shop:report"], key="other")
    assert "Cache-Control" not in Client().get("/free/")


def test_a_condition_that_cannot_be_judged_is_no_way_in(
    logged_in: Client, monkeypatch: Any
) -> None:
    rule("0.05", groups=[1])
    monkeypatch.setattr(
        "x402_django.pricing.conditions.Asker.groups",
        lambda self: (_ for _ in ()).throw(DatabaseError("gone")),
    )
    assert price(logged_in) == "503"


def test_without_users_a_rule_about_them_sells_nothing(settings: Any) -> None:
    settings.MIDDLEWARE = [
        name for name in settings.MIDDLEWARE
        if "Authentication" not in name and "Message" not in name
    ]  # fmt: skip
    rule("0.05", audience="anonymous")
    assert price() == "503"


def test_rules_without_conditions_ask_for_no_user(
    logged_in: Client, django_assert_num_queries
) -> None:
    rule("0.05")
    Client().get(PAGE)  # reads the rules
    with django_assert_num_queries(0):
        assert logged_in.get(PAGE).status_code == 402
        Client().get(PAGE)


@pytest.mark.asyncio
@pytest.mark.django_db(transaction=True)
async def test_async_sites_judge_the_same() -> None:
    from asgiref.sync import sync_to_async

    await sync_to_async(rule)("0.05", audience="anonymous")
    await sync_to_async(forget_rules)()
    assert (await AsyncClient().get(PAGE)).status_code == 402
    client = AsyncClient()
    user = await sync_to_async(User.objects.create_user)("ann")
    await sync_to_async(client.force_login)(user)
    answer = await client.get(PAGE)
    assert answer.status_code == 200
    assert "private" in answer["Cache-Control"]
