"""The official Python SDK's clients, unmodified, buy from a live server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from x402 import x402Client, x402ClientSync
from x402.extensions.payment_identifier import append_payment_identifier_to_extensions
from x402.http.clients import (
    wrapHttpxWithPayment,
    wrapRequestsWithPayment,
    x402AsyncTransport,
    x402HTTPAdapter,
)
from x402.mechanisms.evm.exact.register import register_exact_evm_client

from tests.clients.live import NETWORK, PAY_TO, Site, assert_bought_once, decode_header
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS

NAME = "pay_7d5d747be160e280504c099d984bcfe0"
VIEWS = [("/counted/", 10_000), ("/counted-async/", 20_000)]


def wallet(client: Any, account: Any) -> Any:
    """``client`` with a key, allowed to spend the test dollar beside the well-known ones."""
    register_exact_evm_client(client, account)
    names = (NETWORK, "base-sepolia")
    return client.set_spend_controls(
        {"allowed_assets": [{"network": name, "asset": TOKEN_ADDRESS} for name in names]}
    )


@pytest.mark.parametrize(("path", "amount"), VIEWS)
async def test_httpx_v2(site: Site, path: str, amount: int) -> None:
    account, earned = site.new_payer(), site.chain.dollars(PAY_TO)
    client = wallet(x402Client(), account)

    async with wrapHttpxWithPayment(client, base_url=site.url, timeout=30) as http:
        response = await http.get(path)

    check(site, response, account.address, path, amount, version=2, earned_before=earned)


@pytest.mark.parametrize(("path", "amount"), VIEWS)
def test_requests_v2(site: Site, path: str, amount: int) -> None:
    account, earned = site.new_payer(), site.chain.dollars(PAY_TO)
    client = wallet(x402ClientSync(), account)

    with wrapRequestsWithPayment(requests.Session(), client) as session:
        response = session.get(site.url + path, timeout=30)

    check(site, response, account.address, path, amount, version=2, earned_before=earned)


def test_requests_v2_post_with_a_body(site: Site) -> None:
    """Unsafe methods are paid up front; the body is sent twice and read once."""
    account, earned = site.new_payer(), site.chain.dollars(PAY_TO)
    client = wallet(x402ClientSync(), account)

    with wrapRequestsWithPayment(requests.Session(), client) as session:
        response = session.post(site.url + "/counted/", data="an order", timeout=30)

    check(
        *(site, response, account.address, "/counted/", 10_000),
        version=2,
        earned_before=earned,
        body="an order",
    )


def test_two_signatures_under_one_identifier_pay_once(site: Site) -> None:
    """The extension payment-identifier, by the SDK's own client functions."""
    account, earned = site.new_payer(), site.chain.dollars(PAY_TO)

    def name(context: Any) -> None:
        append_payment_identifier_to_extensions(context.payment_required.extensions, NAME)

    client = wallet(x402ClientSync().on_before_payment_creation(name), account)
    with wrapRequestsWithPayment(requests.Session(), client) as session:
        first = session.get(f"{site.url}/counted/", timeout=30)
        again = session.get(f"{site.url}/counted/", timeout=30)

    assert again.content == first.content
    assert again.headers["PAYMENT-RESPONSE"] == first.headers["PAYMENT-RESPONSE"]
    assert site.runs(account.address) == ["/counted/"]
    assert len(site.transfers(account.address)) == 1
    assert site.chain.dollars(PAY_TO) == earned + 10_000
    state = requests.get(f"{site.url}/x402/identifiers/{account.address}/{NAME}/", timeout=30)
    assert state.json()["retry"] == "done"


class _OnlyV1(httpx.AsyncHTTPTransport):
    """A network that loses headers it does not know, so that the SDK sees a v1 server."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        response.headers.pop("PAYMENT-REQUIRED", None)
        return response


async def test_httpx_paying_a_v1_challenge(site: Site) -> None:
    account, earned = site.new_payer(), site.chain.dollars(PAY_TO)
    transport = x402AsyncTransport(wallet(x402Client(), account), _OnlyV1())

    async with httpx.AsyncClient(transport=transport, base_url=site.url, timeout=30) as http:
        response = await http.get("/counted/")

    check(site, response, account.address, "/counted/", 10_000, version=1, earned_before=earned)


def test_a_payer_without_funds_gets_a_402_and_no_content(site: Site) -> None:
    account, earned = site.new_payer(dollars=0), site.chain.dollars(PAY_TO)
    client = wallet(x402ClientSync(), account)
    session = requests.Session()
    session.mount("http://", x402HTTPAdapter(client))

    response = session.get(site.url + "/counted/", timeout=30)

    assert response.status_code == 402
    assert decode_header(response.headers["PAYMENT-REQUIRED"])["error"] == "insufficient_funds"
    assert site.runs(account.address) == []
    assert site.transfers(account.address) == []
    assert site.chain.dollars(PAY_TO) == earned


LEGACY = """
import asyncio, json, sys
from eth_account import Account
from x402.clients.httpx import x402HttpxClient
from x402.clients.requests import x402_requests

url, key, library = sys.argv[1:]
account = Account.from_key(key)


async def with_httpx():
    async with x402HttpxClient(account=account, timeout=30) as http:
        return await http.get(url)


response = asyncio.run(with_httpx()) if library == "httpx" else x402_requests(account).get(url)
header = response.headers["X-Payment-Response"]
print(json.dumps({"status": response.status_code, "body": response.json(), "header": header}))
"""


@pytest.fixture(scope="session")
def legacy_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the last x402 v1 SDK."""
    directory = tmp_path_factory.mktemp("legacy")
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    install = [directory / "bin" / "pip", "install", "-q", "x402==1.0.0"]
    subprocess.run(install, check=True, timeout=300)
    return directory / "bin" / "python"


@pytest.mark.slow
@pytest.mark.parametrize("library", ["httpx", "requests"])
def test_the_last_v1_sdk(site: Site, legacy_python: Path, library: str) -> None:
    account, earned = site.new_payer(), site.chain.dollars(PAY_TO)
    arguments = [f"{site.url}/counted/", "0x" + bytes(account.key).hex(), library]

    done = subprocess.run(
        [legacy_python, "-c", LEGACY, *arguments], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["status"] == 200
    assert answer["body"] == {"path": "/counted/", "payer": account.address, "body": ""}
    assert_bought_once(
        site,
        account.address,
        decode_header(answer["header"]),
        path="/counted/",
        amount=10_000,
        version=1,
        earned_before=earned,
    )


def check(
    site: Site,
    response: Any,
    payer: str,
    path: str,
    amount: int,
    *,
    version: int,
    earned_before: int,
    body: str = "",
) -> None:
    """The answer is the content, and what is behind it is one purchase."""
    assert response.status_code == 200, response.text
    assert response.json() == {"path": path, "payer": payer, "body": body}
    header = "PAYMENT-RESPONSE" if version == 2 else "X-PAYMENT-RESPONSE"
    assert_bought_once(
        site,
        payer,
        decode_header(response.headers[header]),
        path=path,
        amount=amount,
        version=version,
        earned_before=earned_before,
    )
