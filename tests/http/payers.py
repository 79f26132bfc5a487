"""Payers of every kind on Anvil, each with one test dollar and able to buy by HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eth_abi import encode
from eth_account import Account

from tests.chain.anvil import Anvil
from tests.chain.support import SETTLER, x402_settings
from x402_django.chain.devchain.artifacts import load_artifact
from x402_django.chain.devchain.deployment import FACTORY_ADDRESS
from x402_django.models import ChainTransaction, SettlementWallet
from x402_django.testing.chain import (
    deploy_contract,
    deploy_smart_wallet,
    smart_wallet_address,
)
from x402_django.testing.payer import Payer, PayingClient

#: What a ``Delegate`` does with signatures.
ACCEPTS, REFUSES, BURNS = range(3)
#: What a ``LyingFactory`` does.
HONEST, NOTHING, REVERTS, PRETENDS = range(4)

_MAGIC = bytes.fromhex("6492" * 16)


class CounterfactualPayer(Payer):
    """A wallet that is not deployed yet: its signatures say how to deploy it (ERC-6492)."""

    def __init__(self, anvil: Anvil, factory: str = FACTORY_ADDRESS) -> None:
        owner = Account.create()
        super().__init__(owner, address=smart_wallet_address(anvil.w3, owner.address))
        self.factory = factory
        contract = anvil.w3.eth.contract(
            address=factory,  # type: ignore[call-overload]
            abi=load_artifact("SmartWalletFactory").abi,
        )
        data = contract.encode_abi("create", [owner.address, bytes(32)])
        self.deployment = bytes.fromhex(data[2:])

    def sign(self, offer: Mapping[str, Any], authorization: Mapping[str, Any]) -> str:
        inner = bytes.fromhex(super().sign(offer, authorization)[2:])
        wrapped = encode(["address", "bytes", "bytes"], [self.factory, self.deployment, inner])
        return "0x" + (wrapped + _MAGIC).hex()


def plain(anvil: Anvil) -> Payer:
    return Payer()


def contract_wallet(anvil: Anvil) -> Payer:
    owner = Account.create()
    return Payer(owner, address=deploy_smart_wallet(anvil.w3, owner.address))


def delegated(anvil: Anvil, mode: int = ACCEPTS) -> Payer:
    payer = Payer()
    anvil.delegate(payer.account, delegate_code(anvil, mode))
    return payer


#: Payers whose payments settle, by kind.
KINDS = {
    "eoa": plain,
    "eip-1271": contract_wallet,
    "erc-6492": CounterfactualPayer,
    "eip-7702": delegated,
}


def delegate_code(anvil: Anvil, mode: int) -> str:
    return deploy_contract(anvil.w3, "Delegate", [mode])


def lying_factory(anvil: Anvil, mode: int = HONEST) -> str:
    factory = deploy_contract(anvil.w3, "LyingFactory", [FACTORY_ADDRESS])
    set_mode(anvil, factory, mode)
    return factory


def set_mode(anvil: Anvil, factory: str, mode: int) -> None:
    contract = anvil.w3.eth.contract(
        address=factory,  # type: ignore[call-overload]
        abi=load_artifact("LyingFactory").abi,
    )
    anvil.send(factory, contract.encode_abi("setMode", [mode]))


def buyer(anvil: Anvil, payer: Payer) -> PayingClient:
    """``payer`` with a dollar and a browser."""
    anvil.mint(payer.address)
    return PayingClient(payer=payer, automatic=False, raise_request_exception=False)


def configure(settings: Any, url: str, factories: list[str], **options: Any) -> None:
    """A site on the node at ``url`` that lets ``factories`` deploy its payers' wallets."""
    options = {"ALLOWED_FACTORIES": factories, **options}
    settings.X402 = {
        **x402_settings(options, PROVIDER=None, RPC_URLS=[url], CONFIRMATIONS=3),
        "CONFIRMATION_INTERVAL": 0,
        "SETTLEMENT_TIMEOUT": 20,
        "DEFERRED_MIN_SETTLED": 0,
    }


def wallet_is_in_step(anvil: Anvil) -> None:
    """Every nonce has one transaction, and the chain has them all."""
    rows = ChainTransaction.objects.exclude(status="dropped").order_by("nonce")
    nonces = list(rows.values_list("nonce", flat=True))
    assert nonces == list(range(anvil.count(SETTLER.address)))
    for wallet in SettlementWallet.objects.all():
        assert wallet.next_nonce == len(nonces)
