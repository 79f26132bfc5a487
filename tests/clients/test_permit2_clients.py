"""The official clients, unmodified, pay by Permit2: ``exact`` and ``upto``, with an approval that
the payer has made and with one that the site sponsors."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests
from web3 import Web3
from x402 import x402ClientSync
from x402.http.clients import wrapRequestsWithPayment
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact.client import ExactEvmScheme
from x402.mechanisms.evm.signers import EthAccountSignerWithRPC
from x402.mechanisms.evm.upto.client import UptoEvmScheme

from tests.clients.live import NETWORK, PAY_TO, Site, assert_bought_once, decode_header
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS
from x402_django.testing.chain import approve_permit2, token_contract

ROWS = f"""
import django; django.setup()
from decimal import Decimal
from x402_django.models import PaymentMethod, PriceRule
if not PaymentMethod.objects.exists():
    token = dict(network={NETWORK!r}, asset={TOKEN_ADDRESS!r}, asset_symbol="TUSD",
                 asset_name="Test Dollar", asset_version="1", pay_to={PAY_TO!r})
    PaymentMethod.objects.create(name="By the token", **token)
    for scheme, key, price, unit in (
        ("exact", "permit2", "0.03", None), ("upto", "upto", "0.05", Decimal("0.0001")),
    ):
        method = PaymentMethod.objects.create(
            name=key, scheme=scheme, transfer_method="permit2",
            sponsoring="eip2612GasSponsoring", **token)
        rule = PriceRule.objects.create(
            name=key, key=key, price_usd=Decimal(price), unit_price_usd=unit)
        rule.payment_methods.add(method)
"""


@pytest.fixture
def selling(site: Site) -> Site:
    """The site with a rule for each scheme."""
    site._python("-c", ROWS)
    return site


def buy(site: Site, signer: Any, path: str) -> Any:
    client = x402ClientSync()
    client.register("eip155:*", ExactEvmScheme(signer))
    client.register("eip155:*", UptoEvmScheme(signer))
    client.set_spend_controls({"allowed_assets": [{"network": NETWORK, "asset": TOKEN_ADDRESS}]})
    with wrapRequestsWithPayment(requests.Session(), client) as session:
        return session.get(site.url + path, timeout=60)


approvals = pytest.mark.parametrize("sponsored", [False, True], ids=["approved", "sponsored"])
goods = pytest.mark.parametrize(
    ("path", "amount"),
    [("/by-permit2/", 30_000), ("/metered/?units=42", 4_200)],
    ids=["exact", "upto"],
)


def payer_for(site: Site, *, sponsored: bool) -> Any:
    """An account that has approved Permit2, or one without gas that has not."""
    account = site.new_payer()
    if not sponsored:
        site.chain.fund(account.address, 10**17)
        approve_permit2(Web3(site.chain.provider()), account)
    return account


def assert_bought(
    site: Site, account: Any, header: str, path: str, amount: int, earned: int, *, sponsored: bool
) -> None:
    settlement = decode_header(header)
    assert settlement["amount"] == str(amount)
    assert_bought_once(
        site,
        account.address,
        settlement,
        path=path.partition("?")[0],
        amount=amount,
        version=2,
        earned_before=earned,
    )
    token = token_contract(Web3(site.chain.provider()))
    assert token.functions.nonces(account.address).call() == (1 if sponsored else 0)


@approvals
@goods
def test_the_python_client(selling: Site, path: str, amount: int, sponsored: bool) -> None:
    account, earned = payer_for(selling, sponsored=sponsored), selling.chain.dollars(PAY_TO)
    if sponsored:  # it reads the chain to find out that it has to approve
        signer: Any = EthAccountSignerWithRPC(account, selling.environment["SITE_RPC_URL"])
    else:
        signer = EthAccountSigner(account)

    response = buy(selling, signer, path)

    assert response.status_code == 200, response.headers
    header = response.headers["PAYMENT-RESPONSE"]
    assert_bought(selling, account, header, path, amount, earned, sponsored=sponsored)


@pytest.mark.node
@approvals
@goods
def test_the_typescript_client(
    clients: Path, selling: Site, path: str, amount: int, sponsored: bool
) -> None:
    account, earned = payer_for(selling, sponsored=sponsored), selling.chain.dollars(PAY_TO)
    done = subprocess.run(
        ["node", "pay_permit2.mjs", selling.url + path],
        cwd=clients,
        env={
            **os.environ,
            "PAYER_KEY": "0x" + bytes(account.key).hex(),
            "TOKEN": TOKEN_ADDRESS,
            "RPC_URL": selling.environment["SITE_RPC_URL"] if sponsored else "",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["status"] == 200, answer
    header = answer["headers"]["payment-response"]
    assert_bought(selling, account, header, path, amount, earned, sponsored=sponsored)


def test_charging_nothing_is_told_as_success(selling: Site) -> None:
    account, earned = selling.new_payer(), selling.chain.dollars(PAY_TO)
    signer = EthAccountSignerWithRPC(account, selling.environment["SITE_RPC_URL"])

    response = buy(selling, signer, "/metered/?units=0")

    assert response.status_code == 200
    settlement = decode_header(response.headers["PAYMENT-RESPONSE"])
    assert (settlement["success"], settlement["amount"]) == (True, "0")
    ledger = selling.ledger(account.address)
    assert [one["state"] for one in ledger["payments"]] == ["waived"]
    assert (ledger["receipts"], ledger["sent"], selling.transfers(account.address)) == ([], [], [])
    assert selling.chain.dollars(PAY_TO) == earned
