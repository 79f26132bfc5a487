"""Many copies of one payment, on two server processes at once: one purchase."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.clients.live import PAY_TO, Site, assert_bought_once, decode_header, signed_header

COPIES = 32
PRICE = 10_000


def present_at_once(
    site: Site, method: str, path: str, headers: dict[str, str]
) -> list[httpx.Response]:
    """Send ``COPIES`` of one request at one moment, half of them to each process."""
    start = threading.Barrier(COPIES)

    def present(number: int) -> httpx.Response:
        server = site.servers[number % len(site.servers)]
        with httpx.Client(timeout=60) as http:
            http.get(f"{server.url}/free/")  # the connection is open when the race begins
            start.wait(timeout=30)
            return http.request(method, server.url + path, headers=headers)

    with ThreadPoolExecutor(COPIES) as pool:
        return list(pool.map(present, range(COPIES)))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_one_payment_presented_many_times_buys_once(pair: Site, method: str) -> None:
    path = "/counted/?seconds=0.3"
    payer, headers = signed_header(pair, method, path)
    earned = pair.chain.dollars(PAY_TO)

    answers = present_at_once(pair, method, path, headers)

    statuses = Counter(answer.status_code for answer in answers)
    assert statuses.keys() <= {200, 409}, (statuses, pair.logs())
    assert statuses[200] >= 1
    served = [answer for answer in answers if answer.status_code == 200]
    assert {answer.content for answer in served} == {served[0].content}
    assert len({answer.headers["PAYMENT-RESPONSE"] for answer in served}) == 1
    assert served[0].json() == {"path": "/counted/", "payer": payer.address, "body": ""}
    for refused in (answer for answer in answers if answer.status_code == 409):
        assert int(refused.headers["Retry-After"]) > 0
        assert "PAYMENT-RESPONSE" not in refused.headers

    def assert_one_purchase() -> None:
        assert_bought_once(
            pair,
            payer.address,
            decode_header(served[0].headers["PAYMENT-RESPONSE"]),
            path="/counted/",
            amount=PRICE,
            version=2,
            earned_before=earned,
        )

    assert_one_purchase()
    for server in pair.servers:  # afterwards every process gives the stored answer
        replayed = httpx.request(method, server.url + path, headers=headers)
        assert replayed.status_code == 200
        assert replayed.content == served[0].content
        assert replayed.headers["PAYMENT-RESPONSE"] == served[0].headers["PAYMENT-RESPONSE"]
    assert_one_purchase()


def test_many_payers_at_once_are_all_served(pair: Site) -> None:
    """The race above is not won by serving nobody else."""
    path = "/counted/"
    purchases = [signed_header(pair, "GET", path) for _ in range(COPIES // 2)]
    earned = pair.chain.dollars(PAY_TO)

    def buy(number: int) -> Any:
        server = pair.servers[number % len(pair.servers)]
        headers = purchases[number][1]
        deadline = time.monotonic() + 60
        while True:
            answer = httpx.get(server.url + path, headers=headers, timeout=60)
            if answer.status_code not in (409, 503) or time.monotonic() > deadline:
                return answer
            time.sleep(0.5)

    with ThreadPoolExecutor(len(purchases)) as pool:
        answers = list(pool.map(buy, range(len(purchases))))

    assert [answer.status_code for answer in answers] == [200] * len(purchases)
    for payer, _ in purchases:
        assert pair.runs(payer.address) == [path]
        assert [value for _, value, _ in pair.transfers(payer.address)] == [PRICE]
    assert pair.chain.dollars(PAY_TO) == earned + PRICE * len(purchases)
