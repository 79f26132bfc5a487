"""Permissions that depend on an object, and prices that do."""

from __future__ import annotations

import pytest

from tests.rest_framework.people import token
from tests.shop.runs import runs
from x402_django.models import Payment
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import decode

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.rest_framework.urls")]


def ledger() -> list[str]:
    return list(Payment.objects.values_list("state", flat=True))


@pytest.mark.parametrize(
    ("expression", "anonymous", "owner", "other"),
    [
        ("owner-or-paid", 402, 200, 402),
        ("paid-or-owner", 402, 200, 402),
        ("member-list-owner-or-paid", 401, 200, 402),
        ("member-and-owner-or-paid", 402, 200, 402),
        ("paid-and-owner", 402, 402, 402),
        ("paid-list-owner", 402, 402, 402),
    ],
)
def test_unpaid(client, people, expression, anonymous, owner, other):
    path = f"/object/{expression}/member/"
    statuses = [
        client.get(path, headers=token(who)).status_code for who in (None, "member", "staff")
    ]

    assert statuses == [anonymous, owner, other]
    assert ledger() == []


@pytest.mark.parametrize("expression", ["owner-or-paid", "paid-or-owner"])
@pytest.mark.parametrize("who", [None, "staff"])
def test_everybody_but_the_owner_pays(buyer, people, expression, who):
    response = buyer.pay("GET", f"/object/{expression}/member/", headers=token(who))

    assert response.json() == {"username": "member", "first_name": ""}
    assert ledger() == ["settled"]


@pytest.mark.parametrize("expression", ["owner-or-paid", "paid-or-owner"])
def test_the_owner_does_not_pay_even_with_a_payment_at_hand(client, payer, member, expression):
    path = f"/object/{expression}/member/"
    payment = payer.headers_for(client.get(path))

    assert client.get(path, headers={**member, **payment}).status_code == 200
    assert ledger() == []


@pytest.mark.parametrize("expression", ["paid-and-owner", "paid-list-owner"])
def test_a_payer_who_is_not_the_owner_is_not_charged(buyer, people, expression):
    response = buyer.pay("GET", f"/object/{expression}/member/", headers=token("staff"))

    assert response.status_code == 403
    assert ledger() == ["released"]
    assert InstantFacilitator.calls["settle"] == 0


def test_one_free_object_does_not_let_the_next_one_pass(buyer, member):
    assert buyer.get("/everybody/", headers=member).status_code == 402
    assert runs["checked"] == 1

    response = buyer.pay("GET", "/everybody/", headers=member)
    assert response.json() == ["member", "staff"]
    assert ledger() == ["settled"]


def test_a_write_is_sold_too(buyer, people):
    response = buyer.pay(
        "PATCH",
        "/object/owner-or-paid/member/",
        data={"first_name": "Ada"},
        content_type="application/json",
        headers=token("staff"),
    )

    assert response.json() == {"username": "member", "first_name": "Ada"}
    assert ledger() == ["settled"]


def test_a_missing_object_is_404_where_only_objects_cost(buyer, people):
    assert buyer.pay("GET", "/object/owner-or-paid/nobody/").status_code == 404
    assert ledger() == []


class TestPricedByItsObject:
    def test_the_object_sets_the_price(self, buyer, member):
        challenge = buyer.get("/by-person/member/", headers=member)
        assert decode(challenge["PAYMENT-REQUIRED"])["accepts"][0]["amount"] == "60000"

        assert buyer.pay("GET", "/by-person/member/", headers=member).status_code == 200
        assert ledger() == ["settled"]

    def test_a_missing_object_is_404_before_anything_is_asked(self, client, member):
        assert client.get("/by-person/nobody/", headers=member).status_code == 404

    def test_a_forbidden_object_is_refused_before_anything_is_paid(self, buyer, people):
        path = "/by-person/member/"
        payment = buyer.payer.headers_for(buyer.get(path, headers=token("member")))

        assert buyer.delete(path, headers={**token("staff"), **payment}).status_code == 403
        assert buyer.delete(path, headers=payment).status_code == 401
        assert ledger() == []
        assert InstantFacilitator.calls == {}
        assert len(people) == 2


def test_an_object_that_is_asked_for_is_throttled_at_each_pass(buyer, people):
    assert buyer.pay("GET", "/throttled/member/").status_code == 200
    assert runs["throttle"] == 3  # the challenge, and both passes of the paid request
