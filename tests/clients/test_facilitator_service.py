"""Other people's servers, unmodified, settle through a live site's facilitator service."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from flask import Flask, jsonify
from werkzeug.serving import make_server
from x402 import x402Client, x402ClientSync
from x402.extensions.bazaar import with_bazaar
from x402.http import CreateHeadersAuthProvider, FacilitatorConfig, HTTPFacilitatorClientSync
from x402.http.clients import wrapHttpxWithPayment, wrapRequestsWithPayment
from x402.http.middleware.flask import PaymentMiddleware
from x402.http.types import PaymentOption, RouteConfig
from x402.mechanisms.evm.exact import ExactEvmServerScheme
from x402.schemas import AssetAmount
from x402.server import x402ResourceServerSync

from tests.clients.live import NETWORK, Server, Site, decode_header, live_site
from tests.clients.test_kill import wait_until
from tests.clients.test_python_clients import wallet
from x402_django.chain.devchain import deployment
from x402_django.models import Payment, Receipt
from x402_django.testing.payer import Payer, PayingClient, encode

PRICE = 30_000
#: A seller who has nothing to do with the site.
SELLER = "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"


def new_key(site: Site, name: str, *arguments: str) -> str:
    return site.manage("x402_facilitator_key", name, *arguments).strip()


def official_client(site: Site, secret: str, *, timeout: float = 30) -> Any:
    """The SDK's client of the service."""
    headers = {"Authorization": f"Bearer {secret}"}
    return HTTPFacilitatorClientSync(
        FacilitatorConfig(
            url=f"{site.url}/facilitator",
            timeout=timeout,
            auth_provider=CreateHeadersAuthProvider(
                lambda: {"verify": headers, "settle": headers, "supported": headers}
            ),
        )
    )


@contextmanager
def flask_shop(facilitator: Any) -> Iterator[tuple[str, list[str]]]:
    """A shop on the official middleware: its address, and the runs of its view."""
    app, runs = Flask("shop"), []

    @app.get("/weather")
    def weather() -> Any:
        runs.append("weather")
        return jsonify({"sky": "blue"})

    server = x402ResourceServerSync(facilitator)
    server.register(NETWORK, ExactEvmServerScheme())
    extra = {"name": deployment.TOKEN_NAME, "version": deployment.TOKEN_VERSION}
    price = AssetAmount(amount=str(PRICE), asset=deployment.TOKEN_ADDRESS, extra=extra)
    option = PaymentOption(scheme="exact", pay_to=SELLER, price=price, network=NETWORK)
    PaymentMiddleware(app, {"GET /weather": RouteConfig(accepts=option)}, server)
    http = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", runs
    finally:
        http.shutdown()
        thread.join()


def test_the_official_flask_middleware_sells_to_the_official_client(site: Site) -> None:
    account, earned = site.new_payer(), site.chain.dollars(SELLER)
    secret = new_key(site, "Flask shop")

    with flask_shop(official_client(site, secret)) as (url, runs):
        client = wallet(x402ClientSync(), account)
        with wrapRequestsWithPayment(requests.Session(), client) as session:
            response = session.get(f"{url}/weather", timeout=60)
        told = decode_header(response.headers["PAYMENT-RESPONSE"])
        again = requests.get(
            f"{url}/weather",
            headers={"PAYMENT-SIGNATURE": response.request.headers["PAYMENT-SIGNATURE"]},
            timeout=60,
        )

    assert (response.status_code, response.json()) == (200, {"sky": "blue"})
    assert told["success"] is True
    transfers = site.transfers(account.address)
    assert transfers == [(SELLER, PRICE, told["transaction"])]
    assert site.chain.dollars(SELLER) == earned + PRICE
    # The same payment once more buys nothing.
    assert again.status_code == 402
    assert runs == ["weather"]
    ledger = site.ledger(account.address)
    assert [payment["state"] for payment in ledger["payments"]] == ["settled"]
    assert ledger["receipts"] == []  # not this site's income


async def test_and_to_the_official_asynchronous_client(site: Site) -> None:
    account = site.new_payer()
    secret = new_key(site, "Another Flask shop")

    with flask_shop(official_client(site, secret)) as (url, runs):
        client = wallet(x402Client(), account)
        async with wrapHttpxWithPayment(client, base_url=url, timeout=60) as http:
            response = await http.get("/weather")

    assert response.status_code == 200
    assert len(site.transfers(account.address)) == 1
    assert runs == ["weather"]


def test_a_slow_chain_costs_the_buyer_of_a_flask_shop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shop is told "pending" and answers 402. The same payment then buys, once."""
    monkeypatch.setenv("SITE_SETTLEMENT_TIMEOUT", "1")
    with live_site(tmp_path) as site:
        account = site.new_payer()
        secret = new_key(site, "Slow shop", "--succeeds-once")
        site.chain.set_automine(False)
        with flask_shop(official_client(site, secret)) as (url, _runs):
            challenge = requests.get(f"{url}/weather", timeout=60)
            offer = decode_header(challenge.headers["PAYMENT-REQUIRED"])["accepts"][0]
            header = {"PAYMENT-SIGNATURE": encode(Payer(account).payload(offer))}
            slow = requests.get(f"{url}/weather", headers=header, timeout=60)
            told = decode_header(slow.headers["PAYMENT-RESPONSE"])
            (stored,) = site.ledger(account.address)["sent"]
            site.chain.set_automine(True)
            answers: list[requests.Response] = []

            def served() -> bool:
                answers.append(requests.get(f"{url}/weather", headers=header, timeout=60))
                return answers[-1].status_code == 200

            wait_until(served)
            again = requests.get(f"{url}/weather", headers=header, timeout=60)

        assert slow.status_code == 402
        assert (told["success"], told["errorReason"]) == (False, "settlement_pending")
        assert told["transaction"] == stored
        bought = decode_header(answers[-1].headers["PAYMENT-RESPONSE"])
        assert (bought["success"], bought["transaction"]) == (True, stored)
        assert again.status_code == 402
        assert site.transfers(account.address) == [(SELLER, PRICE, stored)]


def test_the_official_clients_of_facilitators_read_every_answer(site: Site) -> None:
    secret = new_key(site, "Reader")
    client = official_client(site, secret)

    kinds = client.get_supported().kinds
    resources = with_bazaar(client).extensions.bazaar.list_resources()

    assert {(kind.x402_version, kind.scheme, kind.network) for kind in kinds} == {
        (2, "exact", NETWORK),
        (2, "upto", NETWORK),
        (1, "exact", "base-sepolia"),
    }
    assert resources.items == []
    wrong = official_client(site, secret[:-1] + "x")
    payload = signed_request(site)
    with pytest.raises(ValueError, match="401"):
        wrong.settle_from_bytes(
            json.dumps(payload["paymentPayload"]).encode(),
            json.dumps(payload["paymentRequirements"]).encode(),
        )


def signed_request(site: Site) -> dict[str, Any]:
    """A call for a payment that a new payer signs now."""
    asked = {
        "scheme": "exact",
        "network": NETWORK,
        "amount": str(PRICE),
        "asset": deployment.TOKEN_ADDRESS,
        "payTo": SELLER,
        "maxTimeoutSeconds": 300,
        "extra": {"name": deployment.TOKEN_NAME, "version": deployment.TOKEN_VERSION},
    }
    payload = Payer(site.new_payer()).payload(asked)
    return {"x402Version": 2, "paymentPayload": payload, "paymentRequirements": asked}


def settle(url: str, secret: str, body: dict[str, Any]) -> httpx.Response:
    headers = {"Authorization": f"Bearer {secret}"}
    return httpx.post(f"{url}/facilitator/settle", json=body, headers=headers, timeout=60)


def payer_of(body: dict[str, Any]) -> str:
    return str(body["paymentPayload"]["payload"]["authorization"]["from"])


def test_two_processes_settle_one_payment_once_and_answer_the_same(pair: Site) -> None:
    secret, body = new_key(pair, "Impatient"), signed_request(pair)
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda url=url: answers.append(settle(url, secret, body).text))
        for url in [server.url for server in pair.servers[:2]] * 6
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(answers) == 12
    assert len(set(answers)) == 1, set(answers)
    answer = json.loads(answers[0])
    assert answer["success"] is True
    assert pair.transfers(payer_of(body)) == [(SELLER, PRICE, answer["transaction"])]
    assert pair.ledger(payer_of(body))["sent"] == [answer["transaction"]]


@pytest.mark.parametrize("forgotten", [False, True])
def test_killed_when_it_was_stored_and_perhaps_sent(pair: Site, forgotten: bool) -> None:
    """SIGKILL; ``forgotten``: before the node has kept the transaction."""
    doomed: Server = pair.start_server()
    secret, body = new_key(pair, f"Unlucky {forgotten}"), signed_request(pair)
    lost: list[Any] = []
    pair.chain.set_automine(False)
    try:
        request = threading.Thread(target=lambda: lost.append(_lost(doomed.url, secret, body)))
        request.start()
        wait_until(lambda: len(pair.chain.mempool))
        doomed.kill()
        request.join()
        if forgotten:
            assert pair.chain.drop_pending() == 1
    finally:
        pair.chain.set_automine(True)
    stored = pair.ledger(payer_of(body))["sent"]

    pair.run_periodic_tasks(seconds_from_now=120)
    answer = settle(pair.url, secret, body).json()

    assert isinstance(lost[0], httpx.HTTPError)
    assert len(stored) == 1
    assert answer["success"] is True
    assert answer["transaction"] == stored[0]
    assert pair.transfers(payer_of(body)) == [(SELLER, PRICE, stored[0])]


def _lost(url: str, secret: str, body: dict[str, Any]) -> Any:
    try:
        return settle(url, secret, body)
    except httpx.HTTPError as error:
        return error


@pytest.mark.django_db(transaction=True)
def test_another_django_site_sells_through_it(
    site: Site, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process is the other site: another database, no wallet."""
    monkeypatch.setenv("X402_FACILITATOR_KEY", new_key(site, "Django shop"))
    rpc = site.environment["SITE_RPC_URL"]
    asset = {"ADDRESS": deployment.TOKEN_ADDRESS, "NAME": deployment.TOKEN_NAME}
    settings.X402 = {
        "PAY_TO": SELLER,
        "BASE_URL": "https://other.example",
        "NETWORKS": {NETWORK: {"RPC_URLS": [rpc], "POLL_INTERVAL": 0.05, "ASSETS": [asset]}},
        "FACILITATORS": {
            "default": {
                "BACKEND": "x402_django.facilitators.presets.BearerFacilitator",
                "OPTIONS": {"URL": f"{site.url}/facilitator"},
            }
        },
    }
    buyer = PayingClient(payer=Payer(site.new_payer()))

    answer = buyer.pay("GET", "/weather/")

    assert answer.status_code == 200
    payment, receipt = Payment.objects.get(), Receipt.objects.get()
    assert (payment.kind, payment.state, payment.pay_to) == ("sale", "settled", SELLER)
    assert site.transfers(buyer.payer.address) == [(SELLER, payment.amount, receipt.transaction)]
    theirs = site.ledger(buyer.payer.address)
    assert theirs["sent"] == [receipt.transaction]
    assert theirs["receipts"] == []
