"""The buyer's side, over the official SDK's client: read a challenge, sign one payment for it.

For tests and scripts. What is paid is chosen here and not by the SDK: it gets a challenge with
the one offer that was chosen in it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from x402_django.constants import (
    PAYMENT_IDENTIFIER,
    PAYMENT_RESPONSE_HEADER,
    SCHEME_EXACT,
    UINT256_MAX,
    V1_PAYMENT_RESPONSE_HEADER,
)
from x402_django.exceptions import MalformedPayment
from x402_django.protocol import networks, strict
from x402_django.protocol.assets import KnownAsset, find_asset, is_address

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount


@dataclass(frozen=True, slots=True)
class SellersOffer:
    """One way to pay that a seller offers.

    ``network`` is CAIP-2 (as it was written, where it has no such name), ``amount`` in atomic
    units. ``token`` is what is known of the asset here, None if nothing is. ``payable``: this
    program can sign it.
    """

    position: int
    scheme: str
    network: str
    asset: str
    amount: int
    pay_to: str
    token: KnownAsset | None
    payable: bool


@dataclass(frozen=True, slots=True)
class SellersChallenge:
    """A 402 as the buyer reads it. ``document`` is the SDK's ``PaymentRequired`` of ``version``."""

    version: int
    offers: tuple[SellersOffer, ...]
    error: str
    description: str
    takes_identifier: bool
    document: Any


@dataclass(frozen=True, slots=True)
class SignedHeader:
    """A signed payment, ready to be sent any number of times.

    ``valid_before`` is in seconds since the epoch: from then on it can move no money.
    """

    name: str
    value: str
    payer: str
    nonce: str
    valid_before: int
    identifier: str | None


def read_challenge(headers: Mapping[str, str], body: bytes) -> SellersChallenge:
    """The challenge in a 402 answer: v2 from the header, else v1 from the body.

    ``headers`` is case-insensitive. Raises MalformedPayment for an answer that has none.
    """
    from x402 import x402ClientSync
    from x402.http.x402_http_client import x402HTTPClientSync

    try:
        document = x402HTTPClientSync(x402ClientSync()).get_payment_required_response(
            headers.get, _json(body)
        )
        offers = tuple(_offer(position, one) for position, one in enumerate(document.accepts))
    except (ValueError, TypeError, KeyError) as error:  # pydantic's are ValueErrors
        raise MalformedPayment("The answer is 402, but holds no x402 challenge.") from error
    extensions = getattr(document, "extensions", None) or {}
    described: Any = getattr(document, "resource", None)
    if document.x402_version == 1 and document.accepts:
        described = document.accepts[0]
    description = getattr(described, "description", None)
    return SellersChallenge(
        version=document.x402_version,
        offers=offers,
        error=document.error or "",
        description=description or "",
        takes_identifier=PAYMENT_IDENTIFIER in extensions,
        document=document,
    )


def sign_offer(
    challenge: SellersChallenge, offer: SellersOffer, account: LocalAccount
) -> SignedHeader:
    """Sign a payment for ``offer``, with an identifier of its own where the seller takes one."""
    from x402 import x402ClientSync
    from x402.extensions.payment_identifier import append_payment_identifier_to_extensions
    from x402.http.x402_http_client import x402HTTPClientSync
    from x402.mechanisms.evm.exact.register import register_exact_evm_client

    chosen = challenge.document.accepts[offer.position]
    document = challenge.document.model_copy(update={"accepts": [chosen]}, deep=True)
    client = register_exact_evm_client(x402ClientSync(), account)  # type: ignore[arg-type]
    client.set_spend_controls(False)  # the limit was checked when the offer was chosen
    identifier = None
    if challenge.takes_identifier:
        identifier = f"pay_{secrets.token_hex(16)}"
        append_payment_identifier_to_extensions(document.extensions, identifier)
    payload = client.create_payment_payload(document)
    ((name, value),) = x402HTTPClientSync(client).encode_payment_signature_header(payload).items()
    authorization = payload.payload["authorization"]
    return SignedHeader(
        name=name,
        value=value,
        payer=account.address,
        nonce=authorization["nonce"],
        valid_before=int(authorization["validBefore"]),
        identifier=identifier,
    )


def read_settlement(headers: Mapping[str, str]) -> dict[str, Any] | None:
    """What ``PAYMENT-RESPONSE`` says became of the payment; None without one that can be read."""
    for name in (PAYMENT_RESPONSE_HEADER, V1_PAYMENT_RESPONSE_HEADER):
        value = headers.get(name)
        if value:
            try:
                return strict.decode_json_object(strict.decode_base64(value))
            except MalformedPayment:
                return None
    return None


def _offer(position: int, sent: Any) -> SellersOffer:
    is_v1 = hasattr(sent, "max_amount_required")
    network = networks.network_of_v1(sent.network) if is_v1 else sent.network
    amount = str(sent.get_amount())
    if not (amount.isascii() and amount.isdigit() and int(amount) <= UINT256_MAX):
        raise ValueError("not an amount")
    extra = sent.extra or {}
    payable = (
        sent.scheme == SCHEME_EXACT
        and network is not None
        and networks.is_evm(network)
        and is_address(sent.asset)
        and is_address(sent.pay_to)
        and extra.get("assetTransferMethod", "eip3009") == "eip3009"
        and {"name", "version"} <= extra.keys()
    )
    known = network is not None and networks.is_evm(network) and is_address(sent.asset)
    return SellersOffer(
        position=position,
        scheme=sent.scheme,
        network=network or sent.network,
        asset=sent.asset,
        amount=int(amount),
        pay_to=sent.pay_to,
        token=find_asset(str(network), sent.asset) if known else None,
        payable=payable,
    )


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
