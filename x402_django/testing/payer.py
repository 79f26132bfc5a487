"""A payer for tests: signs x402 payments with a throw-away key, and Django's test client that pays.

The signing here is done by eth-account from the wire's own fields, independently of the code
that verifies it. For tests of a real client, use the official SDK's.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse
from django.test import AsyncClient, Client

from x402_django.constants import (
    EXACT_PROXY_ADDRESS,
    IDEMPOTENCY_KEY_HEADER,
    PAYMENT_HEADERS,
    PAYMENT_IDENTIFIER,
    PAYMENT_REQUIRED_HEADER,
    PAYMENT_RESPONSE_HEADER,
    PAYMENT_SIGNATURE_HEADER,
    PERMIT2_ADDRESS,
    SCHEME_EXACT,
    SCHEME_UPTO,
    TRANSFER_PERMIT2,
    UPTO_PROXY_ADDRESS,
    V1_PAYMENT_HEADER,
)
from x402_django.protocol.networks import network_of_v1, parse_chain_id

_AUTHORIZATION_FIELDS = [
    {"name": "from", "type": "address"},
    {"name": "to", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "validAfter", "type": "uint256"},
    {"name": "validBefore", "type": "uint256"},
    {"name": "nonce", "type": "bytes32"},
]

_PERMIT_TYPES = {
    "PermitWitnessTransferFrom": [
        {"name": "permitted", "type": "TokenPermissions"},
        {"name": "spender", "type": "address"},
        {"name": "nonce", "type": "uint256"},
        {"name": "deadline", "type": "uint256"},
        {"name": "witness", "type": "Witness"},
    ],
    "TokenPermissions": [
        {"name": "token", "type": "address"},
        {"name": "amount", "type": "uint256"},
    ],
}
_PROXIES = {SCHEME_EXACT: EXACT_PROXY_ADDRESS, SCHEME_UPTO: UPTO_PROXY_ADDRESS}


def encode(document: Mapping[str, Any]) -> str:
    """A header value: base64 of compact JSON."""
    return base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode()


def decode(value: str) -> dict[str, Any]:
    """The JSON object in a header value."""
    document: dict[str, Any] = json.loads(base64.b64decode(value, validate=True))
    return document


class Payer:
    """Somebody with a key.

    Args:
        account: an ``eth_account`` LocalAccount; a new random one by default.
        address: whose money it signs for, where that is a contract wallet the account owns.
    """

    def __init__(self, account: Any = None, *, address: str | None = None) -> None:
        from eth_account import Account

        self.account = account if account is not None else Account.create()
        self.address: str = address or self.account.address

    def authorization(self, offer: Mapping[str, Any], **overrides: Any) -> dict[str, Any]:
        """The wire's ``authorization`` for an entry of ``accepts`` (v1 or v2), EIP-3009."""
        now = int(time.time())
        return {
            "from": self.address,
            "to": offer["payTo"],
            "value": str(offer.get("amount", offer.get("maxAmountRequired"))),
            "validAfter": str(now - 60),
            "validBefore": str(now + int(offer["maxTimeoutSeconds"])),
            "nonce": "0x" + secrets.token_hex(32),
            **overrides,
        }

    def sign(self, offer: Mapping[str, Any], authorization: Mapping[str, Any]) -> str:
        """EIP-712 signature of ``authorization`` in the domain of the offer's token (EIP-3009)."""
        network = offer["network"]
        caip2 = network if ":" in network else network_of_v1(network)
        message = {
            **authorization,
            "value": int(authorization["value"]),
            "validAfter": int(authorization["validAfter"]),
            "validBefore": int(authorization["validBefore"]),
            "nonce": bytes.fromhex(authorization["nonce"][2:]),
        }
        signed = self.account.sign_typed_data(
            domain_data={
                "name": offer["extra"]["name"],
                "version": offer["extra"]["version"],
                "chainId": parse_chain_id(str(caip2)),
                "verifyingContract": offer["asset"],
            },
            message_types={"TransferWithAuthorization": _AUTHORIZATION_FIELDS},
            message_data=message,
        )
        return "0x" + bytes(signed.signature).hex()

    def permit(self, offer: Mapping[str, Any], **overrides: Any) -> dict[str, Any]:
        """The wire's ``permit2Authorization`` for an entry of ``accepts`` (v2)."""
        witness = {"to": offer["payTo"], "validAfter": "0"}
        if offer["scheme"] == SCHEME_UPTO:
            witness["facilitator"] = offer["extra"]["facilitatorAddress"]
        return {
            "from": self.address,
            "permitted": {"token": offer["asset"], "amount": str(offer["amount"])},
            "spender": _PROXIES[offer["scheme"]],
            "nonce": str(secrets.randbits(256)),
            "deadline": str(int(time.time()) + int(offer["maxTimeoutSeconds"])),
            "witness": witness,
            **overrides,
        }

    def sign_permit(self, offer: Mapping[str, Any], permit: Mapping[str, Any]) -> str:
        """EIP-712 signature of ``permit`` in the domain of Permit2."""
        witness = permit["witness"]
        names = ("to", "facilitator", "validAfter")
        message = {
            **permit,
            "permitted": {
                "token": permit["permitted"]["token"],
                "amount": int(permit["permitted"]["amount"]),
            },
            "nonce": int(permit["nonce"]),
            "deadline": int(permit["deadline"]),
            "witness": {**witness, "validAfter": int(witness["validAfter"])},
        }
        del message["from"]
        signed = self.account.sign_typed_data(
            domain_data={
                "name": "Permit2",
                "chainId": parse_chain_id(str(offer["network"])),
                "verifyingContract": PERMIT2_ADDRESS,
            },
            message_types={
                **_PERMIT_TYPES,
                "Witness": [
                    {"name": name, "type": "uint256" if name == "validAfter" else "address"}
                    for name in names
                    if name in witness
                ],
            },
            message_data=message,
        )
        return "0x" + bytes(signed.signature).hex()

    def payload(self, offer: Mapping[str, Any], **overrides: Any) -> dict[str, Any]:
        """A v2 ``PaymentPayload`` for one offer; ``overrides`` change what is signed."""
        payload: dict[str, Any]
        if (offer.get("extra") or {}).get("assetTransferMethod") == TRANSFER_PERMIT2:
            permit = self.permit(offer, **overrides)
            payload = {
                "signature": self.sign_permit(offer, permit),
                "permit2Authorization": permit,
            }
        else:
            authorization = self.authorization(offer, **overrides)
            payload = {
                "signature": self.sign(offer, authorization),
                "authorization": authorization,
            }
        return {"x402Version": 2, "payload": payload, "accepted": dict(offer)}

    def payload_v1(self, offer: Mapping[str, Any], **overrides: Any) -> dict[str, Any]:
        """A v1 ``PaymentPayload`` for one entry of the v1 body's ``accepts``."""
        payload = self.payload(offer, **overrides)["payload"]
        return {
            "x402Version": 1,
            "scheme": offer["scheme"],
            "network": offer["network"],
            "payload": payload,
        }

    def headers_for(
        self, challenge: HttpResponse, *, version: int = 2, **overrides: Any
    ) -> dict[str, str]:
        """The request headers that answer a 402; ``overrides`` change the authorization."""
        named = self._identifier_for(challenge)
        if version == 1:
            offer = json.loads(challenge.content)["accepts"][0]
            return {V1_PAYMENT_HEADER: encode(self.payload_v1(offer, **overrides)), **named}
        offer = decode(challenge[PAYMENT_REQUIRED_HEADER])["accepts"][0]
        return {PAYMENT_SIGNATURE_HEADER: encode(self.payload(offer, **overrides)), **named}

    def _identifier_for(self, challenge: HttpResponse) -> dict[str, str]:
        """A name for the purchase, where one is required; the header is for both versions."""
        declared = decode(challenge[PAYMENT_REQUIRED_HEADER]).get("extensions", {})
        if not declared.get(PAYMENT_IDENTIFIER, {}).get("info", {}).get("required"):
            return {}
        return {IDEMPOTENCY_KEY_HEADER: f"pay_{secrets.token_hex(16)}"}


class PayingMixin:
    """A test client with a wallet: what it is asked to pay it pays, and asks again.

    For Django's and DRF's test clients alike::

        class PayingAPIClient(PayingMixin, APIClient):
            pass

    Args:
        payer: whose money is spent; by default somebody new, which is enough where payments
            settle without a chain (``testing.instant``).
        version: of the protocol, 2 or 1.
        automatic: pay whenever a request is answered with 402. Without it only ``pay`` pays.

    ``last_headers`` are the payment headers it sent last, for replaying them.
    """

    def __init__(
        self,
        *args: Any,
        payer: Payer | None = None,
        version: int = 2,
        automatic: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.payer = payer or Payer()
        self.x402_version = version
        self.automatic = automatic
        self.last_headers: dict[str, str] = {}

    def generic(self, method: str, path: str, *args: Any, **kwargs: Any) -> Any:
        """Where all of the client's methods come together."""
        send = super().generic  # type: ignore[misc]
        response = send(method, path, *args, **kwargs)
        if not (self.automatic and self._asks_for_payment(response, kwargs)):
            return response
        return send(method, path, *args, **self._with_payment(response, kwargs))

    def pay(self, method: str, path: str, **kwargs: Any) -> Any:
        """Request ``path``, pay if asked to, and return the final answer."""
        send = getattr(self, method.lower())
        response = send(path, **kwargs)
        if not self._asks_for_payment(response, kwargs):
            return response
        return send(path, **self._with_payment(response, kwargs))

    def _asks_for_payment(self, response: Any, kwargs: Mapping[str, Any]) -> bool:
        """Whether a request without a payment was answered with a challenge."""
        sent = {name.upper() for name in kwargs.get("headers") or {}}
        return response.status_code == 402 and sent.isdisjoint(PAYMENT_HEADERS)

    def _with_payment(self, challenge: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        self.last_headers = self.payer.headers_for(challenge, version=self.x402_version)
        return {**kwargs, "headers": {**(kwargs.get("headers") or {}), **self.last_headers}}


class PayingClient(PayingMixin, Client):  # type: ignore[misc]  # it passes arguments through
    """Django's test client with a wallet; see ``PayingMixin``."""


class AsyncPayingClient(PayingMixin, AsyncClient):
    """Django's asynchronous test client with a wallet; see ``PayingMixin``."""

    async def generic(  # type: ignore[override]
        self, method: str, path: str, *args: Any, **kwargs: Any
    ) -> Any:
        send = AsyncClient.generic
        response = await send(self, method, path, *args, **kwargs)
        if not (self.automatic and self._asks_for_payment(response, kwargs)):
            return response
        return await send(self, method, path, *args, **self._with_payment(response, kwargs))

    async def pay(self, method: str, path: str, **kwargs: Any) -> Any:
        send = getattr(self, method.lower())
        response = await send(path, **kwargs)
        if not self._asks_for_payment(response, kwargs):
            return response
        return await send(path, **self._with_payment(response, kwargs))


def settlement_of(response: HttpResponse) -> dict[str, Any]:
    """The decoded ``PAYMENT-RESPONSE`` of an answer. Raises KeyError if it has none."""
    return decode(response[PAYMENT_RESPONSE_HEADER])
