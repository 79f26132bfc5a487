"""T7: many requests at once that together cost more than the credits, or uses, that are left."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models import Sum
from django.test import Client

from tests.admin.rows import make_rule
from tests.shop.runs import runs
from x402_django.models import CreditAccount, CreditEntry, HoldingUse, Pass
from x402_django.testing.payer import Payer, PayingClient, decode

pytestmark = pytest.mark.django_db(transaction=True)

CENT = 1_000_000
THREADS = 64 if connection.vendor == "postgresql" else 16


def at_once(path: str, token: str, **headers: str) -> list[Any]:
    barrier = Barrier(THREADS)

    def send(_number: int) -> Any:
        try:
            client = Client(raise_request_exception=False)
            barrier.wait(60)
            return client.get(path, headers={"X-402-Access": token, **headers})
        finally:
            connections.close_all()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(send, range(THREADS)))


def credits(dollars: str) -> str:
    make_rule(
        name="Top-up", url_names=[], key="report", price_usd=Decimal("0.10"), grants="credits",
        credits_usd=Decimal(dollars),
    )  # fmt: skip
    for name in ("weather", "metered"):
        make_rule(
            name=name, url_names=[f"shop:{name}"], price_usd=Decimal("0.04"), takes_credits=True
        )
    bought = PayingClient(payer=Payer()).get("/report/")
    runs.clear()
    return str(bought["X-402-Access"])


def books_agree(balance: int) -> None:
    account = CreditAccount.objects.get()
    assert account.balance == balance
    assert CreditEntry.objects.aggregate(total=Sum("amount"))["total"] == balance
    assert min(CreditEntry.objects.values_list("balance", flat=True)) >= 0
    assert not HoldingUse.objects.filter(state="held").exists()


def test_t07_requests_at_once_spend_no_more_than_there_is() -> None:
    token = credits("0.39")
    answers = at_once("/weather/", token)
    assert Counter(one.status_code for one in answers) == {200: 9, 402: THREADS - 9}
    errors = {decode(one["PAYMENT-REQUIRED"])["error"] for one in answers if one.status_code == 402}
    assert errors == {"insufficient_credits"}
    assert runs["weather"] == 9
    books_agree(3 * CENT)


def test_t07_the_most_is_taken_before_a_metered_view_runs() -> None:
    """Each charges one cent of its four: never more views at once than four cents each pay for."""
    token = credits("0.40")
    answers = at_once("/metered/?charge=0.01", token)
    ran = sum(one.status_code == 200 for one in answers)
    assert 10 <= ran <= 37
    assert runs["metered"] == ran
    books_agree((40 - ran) * CENT)


def test_t07_a_pass_is_used_no_more_often_than_it_was_sold_for() -> None:
    make_rule(name="Five", grants="pass", pass_uses=5)
    token = str(PayingClient(payer=Payer()).get("/articles/a/")["X-402-Access"])
    runs.clear()
    answers = at_once("/articles/b/", token)
    assert Counter(one.status_code for one in answers) == {200: 5, 402: THREADS - 5}
    assert runs["article"] == 5
    assert Pass.objects.get().uses_taken == 5


def test_t07_copies_of_one_named_use_are_paid_once() -> None:
    token = credits("0.40")
    answers = at_once("/weather/", token, **{"Idempotency-Key": "the-same-key-for-all-of-them"})
    assert {one.status_code for one in answers} <= {200, 409}
    assert runs["weather"] == 1
    books_agree(36 * CENT)


def test_t07_top_ups_are_credited_once_by_many_at_once() -> None:
    token = credits("0.40")
    CreditEntry.objects.all()._raw_delete(connection.alias)
    CreditAccount.objects.update(balance=0)
    answers = at_once("/weather/", token)
    assert sum(one.status_code == 200 for one in answers) == 10
    books_agree(0)
