"""Payments on the embedded chain, and a provider to it that can be made to fail."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3

from tests.settings import PAY_TO
from x402_django import clock
from x402_django.chain.devchain.accounts import dev_accounts
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS
from x402_django.chain.devchain.provider import DevChainProvider
from x402_django.models import Payment
from x402_django.protocol.types import Offer, SignedPayment
from x402_django.testing.chain import (
    Authorization,
    dev_chain,
    send_transaction,
    sign_authorization,
)

NETWORK = "eip155:1337"
PRICE = 10_000
SETTLER = dev_accounts()[2]
#: A payment that no facilitator was asked to settle before.
FIRST_ATTEMPT = Payment(state=Payment.State.SETTLING)

#: JSON-RPC methods by how often they were asked.
requests: Counter[str] = Counter()
#: Methods that get no answer; ``"*"`` is all of them.
down: set[str] = set()
#: Methods that are carried out but whose answer is lost.
lost: set[str] = set()
#: Results that are given instead of the chain's.
forged: dict[str, Any] = {}


class FaultyProvider(DevChainProvider):
    """To this process's chain, with the faults above."""

    def make_request(self, method: Any, params: Any) -> Any:
        requests[method] += 1
        if method in down or "*" in down:
            raise ConnectionError("https://node.example/v2/very-secret-key")
        if method in forged:
            return {"jsonrpc": "2.0", "id": 0, "result": forged[method]}
        answer = super().make_request(method, params)
        if method in lost:
            raise TimeoutError("https://node.example/v2/very-secret-key")
        return answer

    def make_batch_request(self, requests: Any) -> Any:
        """As so many requests."""
        return [self.make_request(method, params) for method, params in requests]


def provider(network: str) -> FaultyProvider:
    return FaultyProvider(lambda: dev_chain(network))


def x402_settings(options: dict[str, Any] | None = None, **network: Any) -> dict[str, Any]:
    """``X402`` for the embedded chain and a local facilitator."""
    return {
        "PAY_TO": PAY_TO,
        "BASE_URL": "https://shop.example",
        "NETWORKS": {
            NETWORK: {
                "PROVIDER": "tests.chain.support.provider",
                "POLL_INTERVAL": 0.02,
                "ASSETS": [{"ADDRESS": TOKEN_ADDRESS, "NAME": "Test Dollar", "SYMBOL": "TUSD"}],
                **network,
            }
        },
        "FACILITATORS": {
            "default": {
                "BACKEND": "x402_django.facilitators.LocalFacilitator",
                "OPTIONS": {"KEY": SETTLER.private_key, **(options or {})},
            }
        },
        "SETTLEMENT_TIMEOUT": 0.3,
    }


def sign(
    key: LocalAccount,
    *,
    payer: str | None = None,
    amount: int = PRICE,
    pay_to: str = PAY_TO,
    token: str = TOKEN_ADDRESS,
    valid_after: int | None = None,
    valid_before: int | None = None,
    nonce: bytes | None = None,
) -> SignedPayment:
    """A payment signed by ``key``; ``payer`` is its own address unless a contract's is given."""
    now = int(time.time())
    more = {} if nonce is None else {"nonce": nonce}
    authorization = Authorization(
        payer or key.address,
        pay_to,
        amount,
        now - 600 if valid_after is None else valid_after,
        now + 600 if valid_before is None else valid_before,
        **more,
    )
    return SignedPayment(
        offer=Offer(
            scheme="exact",
            network=NETWORK,
            asset=token,
            amount=amount,
            pay_to=pay_to,
            max_timeout_seconds=300,
            asset_name="Test Dollar",
            asset_version="1",
            decimals=6,
            symbol="TUSD",
            facilitator="default",
        ),
        payer=authorization.payer,
        valid_after=authorization.valid_after,
        valid_before=authorization.valid_before,
        nonce="0x" + authorization.nonce.hex(),
        signature=sign_authorization(key, authorization, token=token),
        resource_url="https://shop.example/report/",
        version=2,
    )


def use_up_a_nonce() -> None:
    """Send something else with the settling wallet's key: what has its nonce comes to nothing."""
    account = Account.from_key(SETTLER.private_key)
    send_transaction(direct(), account, {"to": account.address, "value": 0})


def store(signed: SignedPayment) -> Payment:
    """The ledger's row for a payment that is being settled."""
    now = clock.now()
    return Payment.objects.create(
        state=Payment.State.SETTLING,
        state_changed_at=now,
        created_at=now,
        scheme=signed.offer.scheme,
        network=signed.offer.network,
        asset=signed.offer.asset,
        verifying_contract=signed.offer.verifying_contract,
        payer=signed.payer,
        nonce=signed.nonce,
        pay_to=signed.offer.pay_to,
        amount=signed.amount,
        asset_symbol=signed.offer.symbol,
        asset_decimals=signed.offer.decimals,
        valid_before=signed.valid_before,
        x402_version=2,
        flow="authorization",
        facilitator="default",
        requirements=signed.offer.as_v2(),
        payload=signed.snapshot(),
        request_fingerprint="f" * 64,
        request_method="GET",
        resource_url=signed.resource_url,
    )


def facilitator_body(signed: SignedPayment) -> dict[str, Any]:
    """What a facilitator is sent: enough for anybody to submit the authorization."""
    return {
        "paymentPayload": {"payload": signed.payload_dict()},
        "paymentRequirements": signed.offer.as_v2(),
    }


def direct() -> Web3:
    """The chain without the faults."""
    return Web3(dev_chain(NETWORK).provider())


@contextmanager
def node_down(*methods: str) -> Iterator[None]:
    """Nobody answers these methods (default: any) while the block runs."""
    names = set(methods or ("*",))
    down.update(names)
    try:
        yield
    finally:
        down.difference_update(names)


@contextmanager
def answers_lost(*methods: str) -> Iterator[None]:
    """These methods are carried out while the block runs, but nobody hears of it."""
    lost.update(methods)
    try:
        yield
    finally:
        lost.difference_update(methods)


@contextmanager
def answers_forged(**results: Any) -> Iterator[None]:
    """These methods are answered so while the block runs."""
    forged.update(results)
    try:
        yield
    finally:
        forged.clear()


def wrong_provider(network: str) -> FaultyProvider:
    """To the chain of ``NETWORK``, whichever network was asked for."""
    return FaultyProvider(lambda: dev_chain(NETWORK))
