"""402 or 401: every expression, for everybody, unpaid and paid.

402 if and only if paying would let the request in; a payment is taken if and only if it did.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.rest_framework.people import token
from tests.shop.runs import runs
from x402_django.models import Payment
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import decode, encode

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.rest_framework.urls")]

SOLD, FREE, STRANGER, DENIED = (402, "paid"), ("ok", "unused"), (401, 401), (403, 403)
HIDDEN = (404, 404)
#: What anonymous, member and staff get.
TABLE = {
    "paid": (SOLD, SOLD, SOLD),
    "member-and-paid": (STRANGER, SOLD, SOLD),
    "paid-and-member": (STRANGER, SOLD, SOLD),
    "member-or-paid": (SOLD, FREE, FREE),
    "paid-or-member": (SOLD, FREE, FREE),
    "not-paid": (FREE, FREE, FREE),
    "staff-or-member-and-paid": (STRANGER, SOLD, FREE),
    "member-and-paid-or-staff": (STRANGER, SOLD, FREE),
    "member-list-paid": (STRANGER, SOLD, SOLD),
    "paid-list-member": (STRANGER, SOLD, SOLD),
    "paid-list-closed": (STRANGER, DENIED, DENIED),
    "paid-list-hidden": (HIDDEN, HIDDEN, HIDDEN),
    "paid-or-hidden": (SOLD, SOLD, SOLD),
    "not-paid-or-hidden": (FREE, FREE, FREE),
    "paid-and-staff-or-not-paid-and-member": (STRANGER, FREE, FREE),
}
ROWS = [
    (expression, who, *outcome)
    for expression, outcomes in TABLE.items()
    for who, outcome in zip((None, "member", "staff"), outcomes, strict=True)
]


def ledger() -> list[str]:
    return list(Payment.objects.values_list("state", flat=True))


@pytest.mark.parametrize(("method", "ok"), [("get", 200), ("post", 201)])
@pytest.mark.parametrize(("expression", "who", "unpaid", "paid"), ROWS)
def test_unpaid(
    client: Any, people: Any, expression: str, who: str | None, unpaid: Any, paid: Any,
    method: str, ok: int,
) -> None:  # fmt: skip
    response = getattr(client, method)(f"/expression/{expression}/", headers=token(who))

    assert response.status_code == (ok if unpaid == "ok" else unpaid)
    assert response.has_header("PAYMENT-REQUIRED") == (unpaid == 402)
    assert response.has_header("WWW-Authenticate") == (unpaid == 401)
    assert runs["view"] == (unpaid == "ok")
    assert ledger() == []
    assert InstantFacilitator.calls == {}


@pytest.mark.parametrize(("method", "ok"), [("get", 200), ("post", 201)])
@pytest.mark.parametrize(("expression", "who", "unpaid", "paid"), ROWS)
def test_with_a_payment(
    client: Any, payer: Any, people: Any, expression: str, who: str | None, unpaid: Any,
    paid: Any, method: str, ok: int,
) -> None:  # fmt: skip
    payment = payer.headers_for(client.get("/expression/paid/"))
    headers = {**token(who), **payment}
    response = getattr(client, method)(f"/expression/{expression}/", headers=headers)

    assert response.status_code == (ok if paid in ("paid", "unused") else paid)
    assert response.has_header("WWW-Authenticate") == (paid == 401)
    assert response.has_header("PAYMENT-RESPONSE") == (paid == "paid")
    assert runs["view"] == (paid in ("paid", "unused"))
    assert ledger() == (["settled"] if paid == "paid" else [])
    assert InstantFacilitator.calls["settle"] == (paid == "paid")


def test_the_answer_to_a_payer_names_who_paid_and_who_asked(buyer, member):
    response = buyer.pay("GET", "/expression/member-and-paid/", headers=member)

    assert response.json() == {"payer": buyer.payer.address, "user": "member"}
    assert response["Cache-Control"] == "private"


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_pay(buyer, version):
    buyer.x402_version = version

    assert buyer.pay("GET", "/expression/paid/").status_code == 200
    assert ledger() == ["settled"]


def test_the_challenge_has_both_versions(client):
    response = client.get("/expression/paid/")

    v2 = decode(response["PAYMENT-REQUIRED"])
    assert v2["error"] == "payment_required"
    assert v2["resource"] == {"url": "https://shop.example/expression/paid/"}
    assert [offer["amount"] for offer in v2["accepts"]] == ["20000"]
    v1 = response.json()
    assert v1["x402Version"] == 1
    assert v1["accepts"][0]["maxAmountRequired"] == "20000"
    assert v1["accepts"][0]["maxTimeoutSeconds"] == 300
    assert response["Cache-Control"] == "no-store"


def test_a_refusal_has_the_words_of_the_permission_that_refused(client, member):
    response = client.get("/expression/paid-list-closed/", headers=member)

    assert response.json() == {"detail": "Closed on Sundays."}


def test_bad_credentials_are_401_whatever_is_paid(client, payer, people):
    payment = payer.headers_for(client.get("/expression/paid/"))
    response = client.get("/expression/paid/", headers={**payment, **token("nobody")})

    assert response.status_code == 401
    assert ledger() == []


def test_a_forged_payment_is_402_with_the_reason(client, payer):
    challenge = client.get("/expression/paid/")
    header = payer.headers_for(challenge)["PAYMENT-SIGNATURE"]
    other = type(payer)().headers_for(challenge)["PAYMENT-SIGNATURE"]
    forged = decode(header)
    forged["payload"]["signature"] = decode(other)["payload"]["signature"]
    response = client.get("/expression/paid/", headers={"PAYMENT-SIGNATURE": encode(forged)})

    assert response.status_code == 402
    assert decode(response["PAYMENT-REQUIRED"])["error"] == ("invalid_exact_evm_payload_signature")
    assert runs["view"] == 0
    assert InstantFacilitator.calls["settle"] == 0


@pytest.mark.parametrize("expression", list(TABLE))
def test_options_is_free(client, member, expression):
    response = client.options(f"/expression/{expression}/", headers=member)

    refusals = {"paid-list-closed": 403, "paid-list-hidden": 404}
    assert response.status_code == refusals.get(expression, 200)
    assert ledger() == []


def test_head_costs_what_get_costs(client, buyer):
    assert client.head("/expression/paid/").status_code == 402
    assert buyer.pay("HEAD", "/expression/paid/").status_code == 200
    assert ledger() == ["settled"]
