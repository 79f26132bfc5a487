"""The official SDK, unmodified, signs for and settles on the development chain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from eth_account import Account
from web3 import Web3
from x402.mechanisms.evm.exact.client import ExactEvmScheme as ClientScheme
from x402.mechanisms.evm.exact.facilitator import ExactEvmScheme as FacilitatorScheme
from x402.mechanisms.evm.signers import EthAccountSigner, FacilitatorWeb3Signer
from x402.schemas import PaymentPayload, PaymentRequirements

from x402_django.chain.devchain import DevServer
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS, TOKEN_NAME, TOKEN_VERSION
from x402_django.testing.chain import deploy_smart_wallet, new_payer, running_devchain

PRICE = 10_000


@pytest.fixture(scope="module")
def server() -> Iterator[DevServer]:
    with running_devchain() as running:
        yield running


@pytest.fixture
def facilitator(server: DevServer) -> FacilitatorScheme:
    settler = server.chain.accounts[0]
    return FacilitatorScheme(FacilitatorWeb3Signer(settler.private_key, server.url))


@pytest.fixture
def offer() -> PaymentRequirements:
    return PaymentRequirements(
        scheme="exact",
        network="eip155:1337",
        asset=TOKEN_ADDRESS,
        amount=str(PRICE),
        pay_to=Account.create().address,
        max_timeout_seconds=60,
        extra={"name": TOKEN_NAME, "version": TOKEN_VERSION},
    )


class WalletSigner(EthAccountSigner):
    """Signs as its owner for an EIP-1271 wallet."""

    def __init__(self, owner: Any, wallet: str) -> None:
        super().__init__(owner)
        self._wallet = wallet

    @property
    def address(self) -> str:
        return self._wallet


def sign(signer: Any, offer: PaymentRequirements) -> PaymentPayload:
    payload = ClientScheme(signer).create_payment_payload(offer)
    return PaymentPayload(x402_version=2, payload=payload, accepted=offer)


@pytest.mark.parametrize("kind", ["eoa", "eip-1271"])
def test_sdk_client_pays_and_sdk_facilitator_settles(
    server: DevServer, facilitator: FacilitatorScheme, offer: PaymentRequirements, kind: str
) -> None:
    chain = server.chain
    signer: Any = new_payer(chain, 1)
    if kind == "eip-1271":
        owner, w3 = signer, Web3(chain.provider())
        wallet = deploy_smart_wallet(w3, owner.address)
        chain.mint(wallet, 1_000_000)
        signer = WalletSigner(owner, wallet)
    payment = sign(signer, offer)

    assert facilitator.verify(payment, offer).is_valid is True
    settled = facilitator.settle(payment, offer)

    assert settled.success is True
    assert settled.payer == signer.address
    assert chain.dollars(offer.pay_to) == PRICE
    assert chain.dollars(signer.address) == 1_000_000 - PRICE
    again = facilitator.verify(payment, offer)
    assert (again.is_valid, again.invalid_reason) == (False, "invalid_exact_evm_nonce_already_used")
    assert facilitator.settle(payment, offer).success is False
    assert chain.dollars(offer.pay_to) == PRICE


def test_sdk_facilitator_names_what_is_wrong(
    server: DevServer, facilitator: FacilitatorScheme, offer: PaymentRequirements
) -> None:
    """Through the token's revert reasons and, on the chain, through Multicall3."""
    poor = sign(new_payer(server.chain, 0), offer)
    verdict = facilitator.verify(poor, offer)
    assert verdict.invalid_reason == "invalid_exact_evm_insufficient_balance"

    other = offer.model_copy(update={"extra": {"name": "USD Coin", "version": TOKEN_VERSION}})
    verdict = facilitator.verify(sign(new_payer(server.chain, 1), other), other)
    assert verdict.is_valid is False
    assert server.chain.dollars(offer.pay_to) == 0
