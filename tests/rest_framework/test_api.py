"""The merchant's API: what it shows, to whom, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from jsonschema import Draft202012Validator

from tests.admin.rows import (
    NETWORK,
    PAY_TO,
    PAYER,
    SIGNATURE,
    USDC,
    make_event,
    make_method,
    make_payment,
    make_receipt,
    make_rule,
)
from x402_django import clock
from x402_django.admin.routes import named_routes
from x402_django.models import Membership, Merchant, Payment
from x402_django.payments.refunds.requesting import request_refund

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.rest_framework.api_urls")]

KINDS = ("rule", "payment", "receipt")
OTHER = "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"


def client_with(*codenames: str) -> Client:
    user = User.objects.create_user("program", password="x")
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="x402_django", codename__in=codenames)
    )
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def program(db: None) -> Client:
    return client_with("view_pricerule", "view_payment", "view_receipt", "view_refund")


def listed(kind: str, **query: Any) -> str:
    pairs = "&".join(f"{name}={value}" for name, value in query.items())
    return f"/x402-api/{kind}s/?{pairs}"


def ids(client: Client, kind: str, **query: Any) -> list[str]:
    answer = client.get(listed(kind, **query))
    assert answer.status_code == 200, answer.content
    name = {"rule": "name", "payment": "public_id", "receipt": "reference"}[kind]
    return [row[name] for row in answer.json()["results"]]


def test_payments_and_one_with_its_history(program: Client) -> None:
    rule = make_rule()
    payment = make_payment(7, rule=rule, rule_name=rule.name, payment_identifier="order-1")
    make_event(payment, reason="The transfer is on chain.")
    row = {
        "public_id": f"{7:040x}",
        "state": "settled",
        "paid": True,
        "x402_version": 2,
        "scheme": "exact",
        "network": NETWORK,
        "asset": USDC,
        "asset_symbol": "USDC",
        "asset_decimals": 6,
        "amount": "10000",
        "price_usd": "0.01000000",
        "payer": PAYER,
        "pay_to": PAY_TO,
        "flow": "authorization",
        "request_method": "GET",
        "resource_url": "https://shop.example/weather/",
        "description": payment.description,
        "transaction": payment.transaction,
        "block_number": payment.block_number,
        "failure_code": "",
        "created_at": "2026-03-01T12:07:00Z",
        "settled_at": "2026-03-01T12:07:00Z",
        "delivered_at": "2026-03-01T12:07:00Z",
        "merchant": 1,
        "rule": rule.pk,
        "rule_name": "Articles",
        "facilitator": "default",
        "payment_identifier": "order-1",
    }
    answer = program.get(listed("payment"))
    assert answer.json() == {"next": None, "previous": None, "results": [row]}
    assert answer["Cache-Control"] == "private, no-store"
    detail = program.get(f"/x402-api/payments/{payment.public_id}/").json()
    assert detail == {
        **row,
        "events": [
            {
                "at": "2026-03-01T12:07:00Z",
                "from_state": "settling",
                "to_state": "settled",
                "code": "",
                "reason": "The transfer is on chain.",
                "actor": "request",
            }
        ],
    }


def test_no_secret_is_shown(program: Client) -> None:
    payment = make_payment(1, response_body=b"the paid content")
    for url in (listed("payment"), f"/x402-api/payments/{payment.public_id}/"):
        text = program.get(url).content.decode()
        for secret in (SIGNATURE, payment.nonce, "the paid content"):
            assert secret not in text


def test_receipts_and_rules(program: Client) -> None:
    method = make_method()
    rule = make_rule()
    rule.payment_methods.add(method)
    receipt = make_receipt(make_payment(3))
    shown = program.get(f"/x402-api/receipts/{receipt.reference}/").json()
    assert (shown["payment"], shown["amount"], shown["merchant"]) == (f"{3:040x}", "10000", 1)
    shown = program.get(f"/x402-api/rules/{rule.pk}/").json()
    assert (shown["price_usd"], shown["token_amount"], shown["payment_methods"]) == (
        "0.01000000",
        None,
        ["USDC on Base Sepolia"],
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"state": "settled"}, [3, 1]),
        ({"state": "failed"}, [2]),
        ({"payer": PAYER.lower()}, [2, 1]),
        ({"payer": OTHER}, [3]),
        ({"network": "eip155:8453"}, []),
        ({"transaction": f"0x{3:064X}".replace("X", "x")}, [3]),
        ({"created_since": "2026-03-01T12:02:00Z"}, [3, 2]),
        ({"created_before": "2026-03-01T13:02:00%2B01:00"}, [1]),
        ({"created_since": "2026-03-01T12:02:00Z", "state": "settled", "limit": 1}, [3]),
        ({"merchant": 1}, [3, 2, 1]),
        ({"merchant": 2}, []),
    ],
)
def test_filters(program: Client, query: dict[str, Any], expected: list[int]) -> None:
    make_payment(1)
    make_payment(2, state="failed")
    make_payment(3, payer=OTHER, transaction=f"0x{3:064x}")
    assert ids(program, "payment", **query) == [f"{number:040x}" for number in expected]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"stat": "settled"}, "There is no such filter."),
        ({"state": "paid"}, "Choose one of:"),
        ({"payer": "0x12"}, "Write an address:"),
        ({"network": "base"}, "Write a CAIP-2 name"),
        ({"created_since": "yesterday"}, "Write a date and time"),
        ({"created_since": "2026-13-01T00:00:00Z"}, "Write a date and time"),
        ({"rule": "x"}, "Write a number."),
        ({"rule": "٣"}, "Write a number."),
        ({"rule": "9" * 30}, "Write a number."),
        ({"state": "settled&state=failed"}, "Give this filter once."),
    ],
)
def test_what_is_not_understood_is_refused(
    program: Client, query: dict[str, Any], message: str
) -> None:
    make_payment(1)
    answer = program.get(listed("payment", **query))
    assert answer.status_code == 400
    ((name, said),) = answer.json().items()
    assert name == next(iter(query))
    assert message in str(said)


def test_pages_by_cursor_show_each_row_once(program: Client) -> None:
    for number in range(1, 8):
        make_payment(number)
    url, seen = listed("payment", limit=3), []
    while url:
        page = program.get(url).json()
        seen += [row["public_id"] for row in page["results"]]
        make_payment(100 + len(seen))  # what is sold meanwhile moves nothing
        url = page["next"]
    assert seen == [f"{number:040x}" for number in range(7, 0, -1)]
    assert program.get(listed("payment", cursor="x")).status_code == 404
    assert program.get(listed("payment", limit=10**9)).status_code == 200


@pytest.mark.parametrize("kind", KINDS)
def test_who_may_not_view_sees_nothing(kind: str) -> None:
    payment = make_payment(1)
    row = {"rule": make_rule().pk, "payment": payment.public_id}
    row["receipt"] = make_receipt(payment).reference
    stranger, clerk = Client(), client_with("change_pricerule", "view_paymentevent")
    for url in (listed(kind), f"/x402-api/{kind}s/{row[kind]}/"):
        assert stranger.get(url).status_code in (401, 403)
        assert clerk.get(url).status_code == 403


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_written(kind: str, method: str, program: Client) -> None:
    payment = make_payment(1)
    row = {"rule": make_rule().pk, "payment": payment.public_id}
    row["receipt"] = make_receipt(payment).reference
    before = Payment.objects.values().get()
    send = getattr(program, method)
    for url in (listed(kind), f"/x402-api/{kind}s/{row[kind]}/"):
        answer = send(url, {"state": "failed"}, content_type="application/json")
        assert answer.status_code == 405
    assert Payment.objects.values().get() == before


def test_what_was_settled_for_others_is_no_sale(program: Client) -> None:
    from x402_django.models import FacilitatorKey

    key = FacilitatorKey.objects.create(name="k", prefix="p", digest="d", created_at=clock.now())
    payment = make_payment(1, kind="service", service_key=key)
    assert ids(program, "payment") == []
    assert program.get(f"/x402-api/payments/{payment.public_id}/").status_code == 404


def test_t26_members_see_what_is_theirs(program: Client) -> None:
    bakery = Merchant.objects.create(name="Bakery")
    make_rule(name="Own")
    make_rule(name="Bread", merchant=bakery, url_names=["shop:plan"])
    own, bread = make_payment(1), make_payment(2, merchant=bakery)
    receipts = {"own": make_receipt(own), "bread": make_receipt(bread, merchant=bakery)}
    assert [ids(program, kind) for kind in KINDS] == [[], [], []]
    Membership.objects.create(merchant=bakery, user=User.objects.get(username="program"))
    assert [ids(program, kind) for kind in KINDS] == [
        ["Bread"],
        [bread.public_id],
        [receipts["bread"].reference],
    ]
    assert ids(program, "payment", merchant=1) == []
    for url in (f"payments/{own.public_id}/", f"receipts/{receipts['own'].reference}/"):
        assert program.get(f"/x402-api/{url}").status_code == 404


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_queries_does_not_grow(kind: str, program: Client) -> None:
    for number in range(1, 30):
        make_rule(name=f"rule {number}", url_names=["shop:free"])
        make_receipt(make_payment(number))
    program.get(listed(kind))  # reads the price rules
    # Session, user, permissions of the user and of its groups, merchants, rows, methods of rules.
    with CaptureQueriesContext(connection) as ran:
        assert len(ids(program, kind)) == 29
    queries = [one["sql"] for one in ran.captured_queries if "SAVEPOINT" not in one["sql"]]
    assert len(queries) <= 7, queries  # savepoints are ATOMIC_REQUESTS' own


@pytest.fixture
def document(program: Client) -> Any:
    return program.get(reverse("x402-api:schema")).json()


def test_the_schema_describes_every_filter_and_every_answer(
    document: dict[str, Any], program: Client
) -> None:
    payment = make_payment(1)
    make_event(payment)
    rows = {"rules": make_rule().pk, "payments": payment.public_id}
    rows["receipts"] = make_receipt(payment).reference
    user = User.objects.create_user("clerk")
    rows["refunds"] = request_refund(payment, 1, user=user).public_id
    assert len(document["paths"]) == 8
    for path, operations in document["paths"].items():
        kind = path.split("/")[2]
        field = path.partition("{")[2].partition("}")[0]
        answer = program.get(path.replace(f"{{{field}}}", str(rows[kind])))
        assert answer.status_code == 200
        said = operations["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        Draft202012Validator.check_schema(said)
        validator = Draft202012Validator(said, format_checker=Draft202012Validator.FORMAT_CHECKER)
        assert [str(error) for error in validator.iter_errors(answer.json())] == []
        described = said["properties"].get("results", {}).get("items", said)["properties"]
        body = answer.json()
        assert set(described) == set(body["results"][0] if "results" in body else body)
    parameters = document["paths"]["/x402-api/payments/"]["get"]["parameters"]
    assert [one["name"] for one in parameters] == [
        *("state", "network", "payer", "rule", "transaction", "merchant"),
        *("created_since", "created_before", "limit", "cursor"),
    ]


def test_its_pages_are_not_for_sale() -> None:
    """No price rule is offered them: whoever sells would pay for a look at the own books."""
    assert [one.name for one in named_routes() if "x402-api" in one.name] == []
    assert "desk-list" in [one.name for one in named_routes()]
