"""The official clients, unmodified, buy from a live server by payment channels."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from web3 import Web3
from x402 import x402ClientSync
from x402.http.clients import wrapRequestsWithPayment
from x402.mechanisms.evm.batch_settlement.client import BatchSettlementEvmScheme
from x402.mechanisms.evm.signers import EthAccountSignerWithRPC

from tests.clients.live import NETWORK, PAY_TO, Site, decode_header
from tests.clients.test_kill import wait_until
from x402_django.chain.devchain.artifacts import load_artifact
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS
from x402_django.constants import ESCROW_ADDRESS

PRICE = 10_000
HELD = 1_000_000
DEPOSIT = 10 * PRICE

ROWS = f"""
import django; django.setup()
from decimal import Decimal
from x402_django.models import PaymentMethod, PriceRule
method = PaymentMethod.objects.create(
    name="By channel", scheme="batch-settlement", transfer_method="channel", network={NETWORK!r},
    asset={TOKEN_ADDRESS!r}, asset_symbol="TUSD", asset_name="Test Dollar", asset_version="1",
    pay_to={PAY_TO!r})
PriceRule.objects.create(
    name="By channel", key="channel", price_usd=Decimal("0.01")).payment_methods.add(method)
"""


@pytest.fixture(scope="module")
def shop(site: Site) -> Site:
    """The live site, with something that is sold by channel only."""
    site._python("-c", ROWS)
    url = f"{site.url}/channel/"
    # Its process has read the rules before, and reads them again when they are old.
    wait_until(lambda: requests.get(url, timeout=60).status_code == 402)
    return site


def buy_in_python(
    shop: Site, account: Any, times: int, path: str = "/channel/"
) -> list[Mapping[str, str]]:
    """Buy with one client, and no more memory than it has by default; the answers' headers."""
    client = x402ClientSync()
    signer = EthAccountSignerWithRPC(account, shop.environment["SITE_RPC_URL"])
    client.register(NETWORK, BatchSettlementEvmScheme(signer))
    client.set_spend_controls({"allowed_assets": [{"network": NETWORK, "asset": TOKEN_ADDRESS}]})
    found: list[Mapping[str, str]] = []
    with wrapRequestsWithPayment(requests.Session(), client) as session:
        for _ in range(times):
            response = session.get(shop.url + path, timeout=60)
            assert response.status_code == 200, dict(response.headers)
            found.append({name.lower(): value for name, value in response.headers.items()})
    return found


def buy_in_typescript(shop: Site, account: Any, times: int, clients: Path) -> Any:
    """The same with ``@x402/fetch``."""
    done = subprocess.run(
        ["node", "pay_channel.mjs", f"{shop.url}/channel/", str(times)],
        cwd=clients,
        env={
            **os.environ,
            "PAYER_KEY": "0x" + bytes(account.key).hex(),
            "TOKEN": TOKEN_ADDRESS,
            "RPC_URL": shop.environment["SITE_RPC_URL"],
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["status"] for one in answers] == [200] * times, answers
    return [one["headers"] for one in answers]


@pytest.mark.parametrize("language", ["python", pytest.param("typescript", marks=pytest.mark.node)])
def test_one_deposit_three_purchases_one_claim(
    shop: Site, language: str, request: pytest.FixtureRequest
) -> None:
    shop.manage("x402_channels", "--all")  # what other tests have spent
    account, earned = shop.new_payer(), shop.chain.dollars(PAY_TO)
    if language == "python":
        answers = buy_in_python(shop, account, 3)
    else:
        answers = buy_in_typescript(shop, account, 3, request.getfixturevalue("clients"))

    told = [decode_header(headers["payment-response"]) for headers in answers]
    assert [one["success"] for one in told] == [True] * 3
    spent = [one["extra"]["channelState"]["chargedCumulativeAmount"] for one in told]
    assert spent == ["10000", "20000", "30000"]
    ((_, amount, deposit),) = shop.transfers(account.address)
    assert amount == DEPOSIT
    assert shop.chain.dollars(account.address) == HELD - DEPOSIT
    ledger = shop.ledger(account.address)
    assert [(one["state"], one["amount"], one["delivered"]) for one in ledger["payments"]] == [
        ("settled", PRICE, True)
    ] * 3
    assert {one["transaction"] for one in ledger["payments"]} == {deposit}
    assert [one["amount"] for one in ledger["receipts"]] == [PRICE] * 3
    assert shop.runs(account.address) == ["/channel/"] * 3
    assert shop.chain.dollars(PAY_TO) == earned  # it is in escrow

    shop.manage("x402_channels", "--all")

    assert shop.chain.dollars(PAY_TO) == earned + 3 * PRICE
    channel = told[0]["extra"]["channelState"]["channelId"]
    w3 = Web3(shop.chain.provider())
    escrow = w3.eth.contract(ESCROW_ADDRESS, abi=load_artifact("X402BatchSettlement").abi)  # type: ignore[call-overload]
    assert tuple(escrow.functions.channels(channel).call()) == (DEPOSIT, 3 * PRICE)


def test_a_client_that_starts_anew_goes_on_with_its_channel(shop: Site) -> None:
    account = shop.new_payer()
    buy_in_python(shop, account, 2)

    answer = buy_in_python(shop, account, 1, "/channel/?page=2")[0]

    told = decode_header(answer["payment-response"])
    assert told["extra"]["channelState"]["chargedCumulativeAmount"] == "30000"
    assert len(shop.transfers(account.address)) == 1
    assert shop.runs(account.address) == ["/channel/"] * 3
