"""A shop on the embedded chain that takes transfer proofs, and agents that send their own."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.test import Client
from eth_account.signers.local import LocalAccount

from tests.chain.support import direct, x402_settings
from x402_django.chain.devchain import DevChain
from x402_django.chain.devchain.artifacts import load_artifact
from x402_django.chain.devchain.deployment import MULTICALL3_ADDRESS, TOKEN_ADDRESS
from x402_django.testing.chain import new_payer, send_transaction, token_contract
from x402_django.testing.transfers import read_challenge, send_transfer, sign_proof


def proof_settings(*, confirmations: int = 1, **changes: Any) -> dict[str, Any]:
    """``X402`` of a shop that takes proofs; ``changes`` are keys of it."""
    return {
        **x402_settings(CONFIRMATIONS=confirmations),
        "TRANSFER_PROOFS": True,
        "CONFIRMATION_INTERVAL": 0,
        **changes,
    }


def new_agent(chain: DevChain, dollars: float = 1) -> LocalAccount:
    """An account that can send its own transfers."""
    return new_payer(chain, dollars, wei=10**18)


class Agent:
    """An account and a client. ``get`` asks, ``prove`` comes back."""

    def __init__(self, chain: DevChain, dollars: float = 1) -> None:
        self.account = new_agent(chain, dollars)
        self.client = Client(raise_request_exception=False)

    @property
    def address(self) -> str:
        return str(self.account.address)

    def challenge(self, path: str = "/weather/") -> dict[str, Any]:
        response = self.client.get(path)
        assert response.status_code == 402
        return read_challenge(response)

    def send(self, challenge: dict[str, Any], **changes: Any) -> str:
        return send_transfer(direct(), self.account, challenge, **changes)

    def present(
        self, challenge: dict[str, Any], transaction: str, path: str = "/weather/", **changes: Any
    ) -> HttpResponse:
        headers = sign_proof(self.account, challenge, transaction, **changes)
        return self.client.get(path, headers=headers)

    def buy(self, path: str = "/weather/", **changes: Any) -> HttpResponse:
        challenge = self.challenge(path)
        return self.present(challenge, self.send(challenge, **changes), path)


def send_many(account: LocalAccount, payments: list[tuple[str, int]]) -> str:
    """Several transfers by ``account`` in one transaction; its hash."""
    w3 = direct()
    token = token_contract(w3)
    multicall = w3.eth.contract(
        address=MULTICALL3_ADDRESS,  # type: ignore[arg-type]
        abi=load_artifact("Multicall3").abi,
    )
    total = sum(value for _, value in payments)
    approval = token.encode_abi("approve", [MULTICALL3_ADDRESS, total])
    send_transaction(w3, account, {"to": token.address, "data": approval})
    calls = [
        (TOKEN_ADDRESS, False, token.encode_abi("transferFrom", [account.address, to, value]))
        for to, value in payments
    ]
    data = multicall.encode_abi("aggregate3", [calls])
    receipt = send_transaction(w3, account, {"to": MULTICALL3_ADDRESS, "data": data})
    return "0x" + bytes(receipt["transactionHash"]).hex()
