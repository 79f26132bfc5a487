"""The scenarios of the x402 project's own end-to-end suite, as one table.

How the money moves x who verifies and settles x whose client pays; the clients and the official
facilitator are unmodified.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from web3 import Web3
from x402 import x402ClientSync
from x402.http.clients import wrapRequestsWithPayment
from x402.mechanisms.evm.exact.client import ExactEvmScheme
from x402.mechanisms.evm.signers import EthAccountSignerWithRPC
from x402.mechanisms.evm.upto.client import UptoEvmScheme

from tests.clients.live import NETWORK, PAY_TO, Site, decode_header, live_site
from tests.clients.official import official_facilitator
from tests.clients.test_kill import wait_until
from x402_django.chain.devchain.deployment import PLAIN_TOKEN_ADDRESS, TOKEN_ADDRESS
from x402_django.constants import PERMIT2_ADDRESS
from x402_django.testing.chain import approve_permit2, mint_plain_dollars, token_contract

HELD = 1_000_000


@dataclass(frozen=True)
class Scenario:
    """What is bought for how much, in which token, and how its approval comes about."""

    path: str
    amount: int
    token: str = TOKEN_ADDRESS
    approval: str = ""

    @property
    def maximum(self) -> int:
        """What the payer authorizes."""
        return 50_000 if self.path.startswith("/upto") else self.amount


#: By the names of the project's suite.
SCENARIOS = {
    "exact-eip3009": Scenario("/counted/", 10_000),
    "exact-permit2": Scenario("/permit2/", 30_000, approval="made"),
    "exact-permit2-eip2612": Scenario("/permit2/", 30_000, approval="eip2612"),
    "exact-permit2-erc20": Scenario("/permit2-erc20/", 30_000, PLAIN_TOKEN_ADDRESS, "erc20"),
    "upto-permit2": Scenario("/upto/?units=42", 4_200, approval="made"),
    "upto-permit2-eip2612": Scenario("/upto/?units=42", 4_200, approval="eip2612"),
    "upto-permit2-erc20": Scenario("/upto-erc20/?units=42", 4_200, PLAIN_TOKEN_ADDRESS, "erc20"),
}

ROWS = f"""
import django; django.setup()
from decimal import Decimal
from x402_django.models import PaymentMethod, PriceRule
common = dict(network={NETWORK!r}, asset_version="1", pay_to={PAY_TO!r})
test = dict(asset={TOKEN_ADDRESS!r}, asset_symbol="TUSD", asset_name="Test Dollar", **common)
plain = dict(
    asset={PLAIN_TOKEN_ADDRESS!r}, asset_symbol="PUSD", asset_name="Plain Dollar", **common)
PaymentMethod.objects.create(name="By the token", **test)
for token, suffix, sponsoring in (
    (test, "", "eip2612GasSponsoring"), (plain, "-erc20", "erc20ApprovalGasSponsoring"),
):
    for scheme, key, price, unit in (
        ("exact", "permit2", "0.03", None), ("upto", "upto", "0.05", Decimal("0.0001")),
    ):
        method = PaymentMethod.objects.create(
            name=key + suffix, scheme=scheme, transfer_method="permit2",
            sponsoring=sponsoring, **token)
        rule = PriceRule.objects.create(
            name=key + suffix, key=key + suffix, price_usd=Decimal(price), unit_price_usd=unit)
        rule.payment_methods.add(method)
"""


@pytest.fixture(scope="module", params=["local", "service", "official"])
def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A site that settles with its own wallet, through our service, or the official facilitator."""
    with ExitStack() as stack:
        if request.param == "local":
            site = stack.enter_context(live_site(tmp_path_factory.mktemp("shop")))
        else:
            other = stack.enter_context(live_site(tmp_path_factory.mktemp("facilitator")))
            url, secret = f"{other.url}/facilitator", ""
            if request.param == "service":
                secret = other.manage("x402_facilitator_key", "Shop").strip()
            else:
                rpc_url = other.environment["SITE_RPC_URL"]
                key = other.chain.accounts[1].private_key
                url = stack.enter_context(official_facilitator(rpc_url, key))
            site = stack.enter_context(
                live_site(tmp_path_factory.mktemp("shop"), beside=other, facilitator=(url, secret))
            )
        site._python("-c", ROWS)
        # Its process has read the rules before, and reads them again when they are old.
        wait_until(lambda: requests.get(f"{site.url}/upto/", timeout=60).status_code == 402)
        yield site


def pay_in_python(shop: Site, account: Any, scenario: Scenario, clients: Any) -> dict[str, str]:
    """The headers of the answer."""
    signer = EthAccountSignerWithRPC(account, shop.environment["SITE_RPC_URL"])
    client = x402ClientSync()
    client.register("eip155:*", ExactEvmScheme(signer))
    client.register("eip155:*", UptoEvmScheme(signer))
    client.set_spend_controls({"allowed_assets": [{"network": NETWORK, "asset": scenario.token}]})
    with wrapRequestsWithPayment(requests.Session(), client) as session:
        response = session.get(shop.url + scenario.path, timeout=60)
    assert response.status_code == 200, [
        decode_header(response.headers[name])
        for name in ("PAYMENT-REQUIRED", "PAYMENT-RESPONSE")
        if name in response.headers
    ]
    return {name.lower(): value for name, value in response.headers.items()}


def pay_in_typescript(shop: Site, account: Any, scenario: Scenario, clients: Any) -> dict[str, str]:
    """The headers of the answer."""
    done = subprocess.run(
        ["node", "pay_scenario.mjs", shop.url + scenario.path],
        cwd=clients(),
        env={
            **os.environ,
            "PAYER_KEY": "0x" + bytes(account.key).hex(),
            "TOKEN": scenario.token,
            "RPC_URL": shop.environment["SITE_RPC_URL"],
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["status"] == 200, answer
    headers: dict[str, str] = answer["headers"]
    return headers


def payer_for(shop: Site, scenario: Scenario) -> Any:
    """An account with a dollar in the scenario's token, and gas only where it must approve."""
    w3 = Web3(shop.chain.provider())
    account = shop.new_payer(1)
    if scenario.token == PLAIN_TOKEN_ADDRESS:
        mint_plain_dollars(w3, account.address, HELD)
    if scenario.approval == "made":
        shop.chain.fund(account.address, 10**17)
        approve_permit2(w3, account)
    return account


@pytest.mark.parametrize(
    "pay", [pay_in_python, pytest.param(pay_in_typescript, marks=pytest.mark.node)]
)
@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(
    shop: Site, name: str, pay: Callable[..., dict[str, str]], request: pytest.FixtureRequest
) -> None:
    scenario = SCENARIOS[name]
    account = payer_for(shop, scenario)
    token = token_contract(Web3(shop.chain.provider()), scenario.token).functions
    earned = token.balanceOf(PAY_TO).call()

    headers = pay(shop, account, scenario, lambda: request.getfixturevalue("clients"))

    told = decode_header(headers["payment-response"])
    ledger = shop.ledger(account.address)
    assert (told["success"], told["payer"]) == (True, account.address)
    assert told.get("amount") == str(scenario.amount)
    assert ledger["payments"] == [
        {
            "state": "settled",
            "amount": scenario.amount,
            "transaction": told["transaction"],
            "version": 2,
            "delivered": True,
        }
    ]
    assert ledger["receipts"] == [
        {"amount": scenario.amount, "pay_to": PAY_TO, "transaction": told["transaction"]}
    ]
    assert shop.runs(account.address) == [scenario.path.partition("?")[0]]
    assert token.balanceOf(PAY_TO).call() == earned + scenario.amount
    assert token.balanceOf(account.address).call() == HELD - scenario.amount
    if scenario.approval == "eip2612":  # of just the maximum, and used
        assert token.nonces(account.address).call() == 1
        allowed = token.allowance(account.address, PERMIT2_ADDRESS).call()
        assert allowed == scenario.maximum - scenario.amount
    elif scenario.token == TOKEN_ADDRESS:
        assert token.nonces(account.address).call() == 0


def test_charging_nothing_is_told_as_success(shop: Site) -> None:
    account, earned = shop.new_payer(), shop.chain.dollars(PAY_TO)
    headers = pay_in_python(shop, account, Scenario("/upto/?units=0", 0), None)
    settlement = decode_header(headers["payment-response"])
    assert (settlement["success"], settlement["amount"]) == (True, "0")
    ledger = shop.ledger(account.address)
    assert [one["state"] for one in ledger["payments"]] == ["waived"]
    assert (ledger["receipts"], ledger["sent"], shop.transfers(account.address)) == ([], [], [])
    assert shop.chain.dollars(PAY_TO) == earned
