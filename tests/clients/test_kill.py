"""A web process is killed at the worst moments; nobody loses money and nobody pays twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import httpx
import pytest

from tests.clients.live import PAY_TO, Server, Site, signed_header

PRICE = 10_000
WITHIN_SECONDS = 15


@pytest.fixture
def doomed(pair: Site) -> Server:
    """A third process of the site, to be killed."""
    return pair.start_server()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def kill_while_serving(
    server: Server, path: str, headers: dict[str, str], when: Callable[[], object]
) -> None:
    """Present the payment to ``server`` and kill it as soon as ``when()``: no answer comes."""
    answers: list[httpx.Response | httpx.HTTPError] = []

    def present() -> None:
        try:
            answers.append(httpx.get(server.url + path, headers=headers, timeout=60))
        except httpx.HTTPError as error:
            answers.append(error)

    request = threading.Thread(target=present)
    request.start()
    wait_until(when)
    server.kill()
    request.join(timeout=WITHIN_SECONDS)
    assert isinstance(answers[0], httpx.HTTPError), answers


def states(site: Site, payer: str) -> list[str]:
    return [payment["state"] for payment in site.ledger(payer)["payments"]]


def assert_paid_once(site: Site, payer: str, earned_before: int) -> None:
    ledger = site.ledger(payer)
    assert [payment["delivered"] for payment in ledger["payments"]] == [True]
    assert len(ledger["receipts"]) == 1
    transaction = ledger["receipts"][0]["transaction"]
    assert site.transfers(payer) == [(PAY_TO, PRICE, transaction)]
    assert site.chain.dollars(PAY_TO) == earned_before + PRICE


def test_killed_while_the_view_runs(pair: Site, doomed: Server) -> None:
    """Nothing was charged; when the claim has timed out the same payment buys the answer."""
    path = "/counted/?seconds=1"
    payer, headers = signed_header(pair, "GET", path)
    earned = pair.chain.dollars(PAY_TO)

    kill_while_serving(doomed, path, headers, lambda: pair.runs(payer.address))

    assert states(pair, payer.address) == ["claimed"]
    early = httpx.get(pair.url + path, headers=headers)
    assert (early.status_code, early.headers["Retry-After"]) == (409, "2")
    assert pair.transfers(payer.address) == []

    pair.run_periodic_tasks(seconds_from_now=901)
    assert states(pair, payer.address) == ["released"]
    answer = httpx.get(pair.url + path, headers=headers, timeout=30)

    assert answer.status_code == 200, answer.text
    assert_paid_once(pair, payer.address, earned)
    assert pair.runs(payer.address) == ["/counted/"] * 2  # the killed run, and the sold one


def test_killed_after_the_broadcast(pair: Site, doomed: Server) -> None:
    """The money is under way and nobody has written down that it arrived."""
    path = "/counted/"
    payer, headers = signed_header(pair, "GET", path)
    earned = pair.chain.dollars(PAY_TO)
    pair.chain.set_automine(False)
    try:
        kill_while_serving(doomed, path, headers, lambda: len(pair.chain.mempool))
    finally:
        pair.chain.set_automine(True)

    assert len(pair.transfers(payer.address)) == 1
    assert states(pair, payer.address) == ["settling"]
    early = httpx.get(pair.url + path, headers=headers)
    assert early.status_code == 409  # never "pay again"

    pair.run_periodic_tasks(seconds_from_now=120)
    assert states(pair, payer.address) in (["settled"], ["final"])
    answer = httpx.get(pair.url + path, headers=headers, timeout=30)

    assert answer.status_code == 200, answer.text
    assert answer.json()["payer"] == payer.address
    assert_paid_once(pair, payer.address, earned)


def test_killed_before_the_broadcast_was_mined_and_forgotten_by_the_node(
    pair: Site, doomed: Server
) -> None:
    """The node loses the transaction too: the stored bytes are sent again, not new ones."""
    path = "/counted/"
    payer, headers = signed_header(pair, "GET", path)
    earned = pair.chain.dollars(PAY_TO)
    pair.chain.set_automine(False)
    try:
        kill_while_serving(doomed, path, headers, lambda: len(pair.chain.mempool))
        assert pair.chain.drop_pending() == 1
    finally:
        pair.chain.set_automine(True)
    stored = pair.ledger(payer.address)["sent"]
    assert len(stored) == 1

    pair.run_periodic_tasks(seconds_from_now=120)
    answer = httpx.get(pair.url + path, headers=headers, timeout=30)

    assert answer.status_code == 200, answer.text
    assert_paid_once(pair, payer.address, earned)
    assert [transaction for _, _, transaction in pair.transfers(payer.address)] == stored
    assert pair.ledger(payer.address)["sent"] == stored
