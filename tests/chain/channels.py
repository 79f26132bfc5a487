"""A buyer by payment channels: the official client's scheme, over Django's test client."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.test import Client
from x402.http.utils import decode_payment_required_header, decode_payment_response_header
from x402.mechanisms.evm.batch_settlement.client.scheme import BatchSettlementEvmScheme
from x402.mechanisms.evm.signers import EthAccountSigner
from x402.schemas import PaymentPayload
from x402.schemas.hooks import PaymentResponseContext

from tests.chain.support import NETWORK, direct
from tests.settings import PAY_TO
from x402_django.chain.devchain.artifacts import load_artifact
from x402_django.chain.devchain.deployment import TOKEN_ADDRESS
from x402_django.constants import ESCROW_ADDRESS
from x402_django.models import PaymentMethod
from x402_django.pricing.cache import forget_rules
from x402_django.testing.chain import dev_chain, new_payer, send_transaction
from x402_django.testing.payer import encode

PRICE = 10_000


def offer_channels(**changes: Any) -> PaymentMethod:
    """The row that makes the site ask for vouchers."""
    values: dict[str, Any] = {
        "name": "Test dollars by channel",
        "scheme": "batch-settlement",
        "network": NETWORK,
        "asset": TOKEN_ADDRESS,
        "asset_symbol": "TUSD",
        "asset_name": "Test Dollar",
        "asset_version": "1",
        "pay_to": PAY_TO,
        "transfer_method": "channel",
    }
    row = PaymentMethod.objects.create(**(values | changes))
    forget_rules()
    return row


class SignerWithNode(EthAccountSigner):
    """The SDK's signer, with the test's own chain to read."""

    def read_contract(self, address: str, abi: Any, function_name: str, *args: Any) -> Any:
        contract = direct().eth.contract(address=address, abi=abi)  # type: ignore[call-overload]
        return contract.functions[function_name](*args).call()


class ChannelBuyer:
    """Somebody with test dollars who buys through the official client's scheme.

    ``last`` is the header that was sent last, ``told`` what the last answer said of the settlement.
    """

    def __init__(self, dollars: float = 1, *, account: Any = None, salt: str | None = None) -> None:
        self.account = account or new_payer(dev_chain(NETWORK), dollars, wei=10**17)
        self.salt = salt
        self.client = Client(raise_request_exception=False)
        self.last = ""
        self.told: Any = None
        self.forget()

    def forget(self) -> None:
        """Lose all that the client knows of its channels."""
        from x402.mechanisms.evm.batch_settlement.client.config import (
            BatchSettlementEvmSchemeOptions,
        )

        options = BatchSettlementEvmSchemeOptions(salt=self.salt)
        self.scheme = BatchSettlementEvmScheme(SignerWithNode(self.account), options)

    @property
    def address(self) -> str:
        return str(self.account.address)

    def dollars(self) -> int:
        return int(dev_chain(NETWORK).dollars(self.address))

    def challenge(self, path: str, method: str = "GET") -> Any:
        response = self.client.generic(method, path)
        assert response.status_code == 402, response.content
        return decode_payment_required_header(response["PAYMENT-REQUIRED"])

    def sign(self, path: str, method: str = "GET") -> tuple[dict[str, Any], Any]:
        """A payload for the first offer of channels, and that offer."""
        required = self.challenge(path, method)
        offer = next(one for one in required.accepts if one.scheme == "batch-settlement")
        payload = PaymentPayload(
            x402_version=2,
            payload=self.scheme.create_payment_payload(offer),
            accepted=offer,
            resource=required.resource,
        )
        return payload.model_dump(by_alias=True, exclude_none=True), offer

    def send(self, path: str, payload: dict[str, Any], method: str = "GET") -> HttpResponse:
        self.last = encode(payload)
        return self.client.generic(method, path, headers={"PAYMENT-SIGNATURE": self.last})

    def buy(self, path: str = "/weather/", method: str = "GET", *, retry: bool = True) -> Any:
        """As the official transport does: once more if the answer has mended the client's count."""
        payload, offer = self.sign(path, method)
        response = self.send(path, payload, method)
        if self.note(payload, offer, response) and retry:
            payload, offer = self.sign(path, method)
            response = self.send(path, payload, method)
            self.note(payload, offer, response)
        return response

    def note(self, payload: dict[str, Any], offer: Any, response: HttpResponse) -> bool:
        """Have the client learn from an answer; whether it should try again."""
        settled = response.get("PAYMENT-RESPONSE")
        required = response.get("PAYMENT-REQUIRED")
        self.told = None if settled is None else decode_payment_response_header(settled)
        context = PaymentResponseContext(
            payment_payload=PaymentPayload.model_validate(payload),
            requirements=offer,
            settle_response=self.told,
            payment_required=None if required is None else decode_payment_required_header(required),
        )
        return self.scheme.scheme_hooks.on_payment_response(context) is not None


def escrow() -> Any:
    return direct().eth.contract(
        address=ESCROW_ADDRESS,  # type: ignore[call-overload]
        abi=load_artifact("X402BatchSettlement").abi,
    )


def on_chain(channel_id: str) -> tuple[int, int]:
    """What the escrow says: deposited, claimed."""
    return tuple(escrow().functions.channels(channel_id).call())


def call_escrow(by: Any, function: str, *arguments: Any) -> None:
    data = escrow().encode_abi(function, arguments)
    receipt = send_transaction(direct(), by, {"to": ESCROW_ADDRESS, "data": data, "gas": 500_000})
    assert receipt["status"] == 1
