"""Who buys on Solana: the official client, and one that signs whatever it likes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

from django.http import HttpResponse
from django.test import Client
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from x402 import x402ClientSync
from x402.http.utils import encode_payment_signature_header
from x402.mechanisms.svm.constants import (
    COMPUTE_BUDGET_PROGRAM_ADDRESS,
    MEMO_PROGRAM_ADDRESS,
    TOKEN_PROGRAM_ADDRESS,
)
from x402.mechanisms.svm.exact.client import ExactSvmScheme
from x402.mechanisms.svm.signers import KeypairSigner
from x402.mechanisms.svm.utils import derive_ata
from x402.schemas import PaymentRequired

from tests.solana.cluster import DECIMALS, MINT, NETWORK, Cluster


class Buyer:
    """A key, and a browserless client. ``last`` is the header that was sent last."""

    def __init__(self, cluster: Cluster, amount: int = 1_000_000) -> None:
        self.cluster = cluster
        self.keypair = Keypair()
        cluster.fund(self.keypair.pubkey(), amount)
        self.client = Client(raise_request_exception=False)
        self.last: dict[str, str] = {}

    @property
    def address(self) -> str:
        return str(self.keypair.pubkey())

    @property
    def balance(self) -> int:
        return self.cluster.balance(self.address)

    def challenge(self, path: str = "/weather/") -> dict[str, Any]:
        response = self.client.get(path)
        assert response.status_code == 402, response.content
        challenge: dict[str, Any] = json.loads(base64.b64decode(response["PAYMENT-REQUIRED"]))
        return challenge

    def sign(self, path: str = "/weather/") -> dict[str, str]:
        """What the official client answers to the challenge of ``path``."""
        scheme = ExactSvmScheme(KeypairSigner(self.keypair))
        scheme._clients[NETWORK] = self.cluster  # type: ignore[assignment]
        client = x402ClientSync()
        client.register("solana:*", scheme)
        required = PaymentRequired.model_validate(self.challenge(path))
        payload = client.create_payment_payload(required)
        self.last = {"PAYMENT-SIGNATURE": encode_payment_signature_header(payload)}
        return self.last

    def buy(self, path: str = "/weather/") -> HttpResponse:
        return self.send(self.sign(path), path)

    def send(self, headers: dict[str, str], path: str = "/weather/") -> HttpResponse:
        return self.client.get(path, headers=headers)

    def header(
        self, transaction: bytes, path: str = "/weather/", **accepted: Any
    ) -> dict[str, str]:
        """Any transaction, as the payment for the offer of ``path``."""
        document = {
            "x402Version": 2,
            "accepted": {**self.challenge(path)["accepts"][0], **accepted},
            "payload": {"transaction": base64.b64encode(transaction).decode()},
        }
        return {"PAYMENT-SIGNATURE": base64.b64encode(json.dumps(document).encode()).decode()}

    def transaction(
        self,
        offer: dict[str, Any],
        *,
        amount: int | None = None,
        mint: str = MINT,
        pay_to: str | None = None,
        destination: str | None = None,
        fee_payer: str | None = None,
        decimals: int = DECIMALS,
        owner: Keypair | None = None,
        change: Callable[[list[Instruction]], Sequence[Instruction]] = lambda steps: steps,
        signers: Sequence[Keypair] = (),
    ) -> bytes:
        """A payment put together here from the specification, with what is to be wrong with it."""
        owner = owner or self.keypair
        payer = Pubkey.from_string(fee_payer or offer["extra"]["feePayer"])
        to = destination or derive_ata(pay_to or offer["payTo"], mint)
        units = int(offer["amount"]) if amount is None else amount
        transfer = Instruction(
            Pubkey.from_string(TOKEN_PROGRAM_ADDRESS),
            bytes([12]) + units.to_bytes(8, "little") + bytes([decimals]),
            [
                AccountMeta(Pubkey.from_string(derive_ata(str(owner.pubkey()), mint)), False, True),
                AccountMeta(Pubkey.from_string(mint), False, False),
                AccountMeta(Pubkey.from_string(to), False, True),
                AccountMeta(owner.pubkey(), True, False),
            ],
        )
        steps = [compute_limit(), compute_price(1), transfer, memo(b"made by hand")]
        message = MessageV0.try_compile(payer, list(change(steps)), [], self.cluster.blockhash)
        signed = bytes([0x80]) + bytes(message)
        by_key = {one.pubkey(): one for one in (self.keypair, *signers)}
        signatures = [
            by_key[key].sign_message(signed) if key in by_key else Signature.default()
            for key in message.account_keys[: message.header.num_required_signatures]
        ]
        return bytes(VersionedTransaction.populate(message, signatures))


def compute_limit() -> Instruction:
    program = Pubkey.from_string(COMPUTE_BUDGET_PROGRAM_ADDRESS)
    return Instruction(program, bytes([2]) + (20_000).to_bytes(4, "little"), [])


def compute_price(price: int) -> Instruction:
    program = Pubkey.from_string(COMPUTE_BUDGET_PROGRAM_ADDRESS)
    return Instruction(program, bytes([3]) + price.to_bytes(8, "little"), [])


def memo(text: bytes) -> Instruction:
    return Instruction(Pubkey.from_string(MEMO_PROGRAM_ADDRESS), text, [])
