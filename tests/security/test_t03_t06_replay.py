"""T3 to T6: one payment, many grants."""

from __future__ import annotations

import base64
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connections
from django.test import Client

from tests.security.conftest import Untouched
from tests.shop.runs import runs
from x402_django.models import Payment, Receipt
from x402_django.testing.instant import InstantFacilitator
from x402_django.testing.payer import decode, encode


@pytest.mark.django_db
@pytest.mark.parametrize("again", ["/weather/", "/async-weather/", "/weather/?x=1", "/hidden/"])
def test_t03_replay_is_refused(buyer, again):
    first = buyer.pay("GET", "/weather/")
    untouched = Untouched()
    for _ in range(5):
        response = buyer.get(again, headers=buyer.last_headers)
        if again == "/weather/":
            assert response.content == first.content  # the same thing again, not another
        else:
            assert decode(response["PAYMENT-REQUIRED"])["error"] == "payment_already_used"
            assert response.status_code == 402
    untouched.verify()


@pytest.mark.django_db
def test_t03_replay_by_somebody_else_on_another_resource_is_refused(buyer):
    buyer.pay("GET", "/weather/")
    untouched = Untouched()
    thief = Client()
    assert thief.get("/async-weather/", headers=buyer.last_headers).status_code == 402
    untouched.verify()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/slow/", "/order/"])
def test_t04_thirty_two_copies_at_once_buy_one(payer, path):
    method = "POST" if path == "/order/" else "GET"
    headers = payer.headers_for(Client().generic(method, path))
    barrier = Barrier(32)

    def send(_):
        try:
            client = Client(raise_request_exception=False)
            barrier.wait(30)
            return client.generic(method, path, headers=headers)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(32) as pool:
        responses = list(pool.map(send, range(32)))

    told = Counter(response.status_code for response in responses)
    served = {r.content for r in responses if r.status_code in (200, 201)}
    assert set(told) <= {200, 201, 409}, told
    assert len(served) == 1
    assert runs[path.strip("/")] == 1
    assert InstantFacilitator.calls == {"verify": 1, "settle": 1}
    assert (Payment.objects.count(), Receipt.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_t04_copies_for_different_resources_at_once_buy_one(payer):
    headers = payer.headers_for(Client().get("/slow/"))
    paths = [f"/slow/?n={n}" for n in range(16)]
    barrier = Barrier(16)

    def send(path):
        try:
            barrier.wait(30)
            return Client().get(path, headers=headers).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(16) as pool:
        told = Counter(pool.map(send, paths))

    assert told[200] == 1
    assert set(told) <= {200, 402, 409}
    assert (runs["slow"], InstantFacilitator.calls["settle"]) == (1, 1)


def twisted(payload):
    """The same payment in other words: order, spaces, case, unknown keys, escapes."""
    a = payload["payload"]["authorization"]
    upper = {
        **payload,
        "payload": {
            "authorization": {
                **a,
                "from": a["from"].lower(),
                "to": "0x" + a["to"][2:].upper(),
                "nonce": "0x" + a["nonce"][2:].upper(),
            },
            "signature": "0x" + payload["payload"]["signature"][2:].upper(),
        },
    }
    reordered = dict(reversed(list(payload.items())))
    more = {**payload, "unknown": 1, "extensions": {"x": {}}}
    texts = [
        json.dumps(upper),
        json.dumps(reordered),
        json.dumps(payload, indent=2),
        json.dumps(more, sort_keys=True),
        json.dumps(payload).replace("exact", "\\u0065xact"),
        "\n\t" + json.dumps(payload) + "  ",
    ]
    return [base64.b64encode(text.encode()).decode() for text in texts]


@pytest.mark.django_db
@pytest.mark.parametrize("index", range(6))
def test_t05_another_encoding_is_the_same_payment(buyer, index):
    first = buyer.pay("GET", "/weather/")
    value = twisted(decode(buyer.last_headers["PAYMENT-SIGNATURE"]))[index]
    assert value != buyer.last_headers["PAYMENT-SIGNATURE"]
    untouched = Untouched()

    same = buyer.get("/weather/", headers={"PAYMENT-SIGNATURE": value})
    other = buyer.get("/hidden/", headers={"PAYMENT-SIGNATURE": value})

    assert same.status_code in (200, 400)
    if same.status_code == 200:
        assert same.content == first.content
        assert decode(other["PAYMENT-REQUIRED"])["error"] == "payment_already_used"
    assert other.status_code in (400, 402)
    untouched.verify(rows=False)
    assert (Payment.objects.count(), Receipt.objects.count()) == (1, 1)
    assert InstantFacilitator.calls["settle"] == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.rstrip("="),
        lambda v: v.replace("+", "-").replace("/", "_") + "\n",
        lambda v: v[:40] + "\n" + v[40:],
        lambda v: v + "====",
    ],
)
def test_t05_another_base64_is_no_payment(buyer, change):
    buyer.pay("GET", "/weather/")
    value = change(buyer.last_headers["PAYMENT-SIGNATURE"])
    untouched = Untouched()
    if value != buyer.last_headers["PAYMENT-SIGNATURE"]:
        assert buyer.get("/hidden/", headers={"PAYMENT-SIGNATURE": value}).status_code == 400
    untouched.verify()


@pytest.mark.django_db
def test_t05_the_other_protocol_version_is_the_same_payment(buyer):
    first = buyer.pay("GET", "/weather/")
    payload = decode(buyer.last_headers["PAYMENT-SIGNATURE"])["payload"]
    v1 = {"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": payload}
    untouched = Untouched()
    same = buyer.get("/weather/", headers={"X-PAYMENT": encode(v1)})
    other = buyer.get("/hidden/", headers={"X-PAYMENT": encode(v1)})
    assert (same.content, other.status_code) == (first.content, 402)
    untouched.verify()


@pytest.mark.django_db
@pytest.mark.parametrize("first", ["/weather/", "/async-weather/", "/hidden/"])
@pytest.mark.parametrize("second", ["/weather/", "/async-weather/", "/hidden/", "/public-cache/"])
def test_t06_a_payment_buys_only_the_resource_it_was_first_used_on(buyer, first, second):
    if first == second:
        second += "?again"
    buyer.pay("GET", first)
    untouched = Untouched()
    response = buyer.get(second, headers=buyer.last_headers)
    assert response.status_code == 402
    assert decode(response["PAYMENT-REQUIRED"])["error"] == "payment_already_used"
    if second != "/hidden/":
        untouched.verify()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "other",
    [
        {"data": "coffee"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"query_params": {"table": "2"}},
    ],
)
def test_t06_body_type_and_query_are_part_of_what_is_bought(buyer, other):
    order = {"data": "tea", "content_type": "text/plain"}
    assert buyer.pay("POST", "/order/", **order).status_code == 201
    untouched = Untouched()
    response = buyer.post("/order/", headers=buyer.last_headers, **{**order, **other})
    assert response.status_code == 402
    untouched.verify()
