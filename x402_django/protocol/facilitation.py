"""What a facilitator is asked and what it answers (x402 v2, section 7, and the same in v1).

The server that asks is known by its key and says where its money is to go; what it passes on is
a buyer's. So the requirements decide, and the payload is compared with them as it would be with
an offer of our own. Tokens are those this site knows: their EIP-712 domain is from our table, and
no contract is called that somebody sent us the address of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from x402_django.constants import (
    SCHEME_EXACT,
    SCHEME_UPTO,
    SIGNED_SCHEMES,
    TRANSFER_EIP3009,
    TRANSFER_PERMIT2,
    Code,
)
from x402_django.exceptions import MalformedPayment, PaymentRefused
from x402_django.protocol import networks, strict
from x402_django.protocol.assets import find_asset
from x402_django.protocol.offers import match_offer
from x402_django.protocol.sponsoring import offered_sponsoring
from x402_django.protocol.types import Offer, PresentedPayment, SignedPayment
from x402_django.protocol.wire import decode_payload


@dataclass(frozen=True, slots=True)
class FacilitationRequest:
    """One call of ``/verify`` or ``/settle``, strictly decoded and consistent.

    ``network_name`` is the network as the caller wrote it: answers name it the same.
    ``resource_url`` is what is being paid for: the server's word in v1, in v2 the buyer's copy of
    it. Empty where neither says.
    """

    version: int
    signed: SignedPayment
    network_name: str
    resource_url: str
    requirements: Mapping[str, Any]


def read_request(body: bytes, *, facilitator: str) -> FacilitationRequest:
    """Decode a request's body; ``facilitator`` is the alias that is to settle.

    Raises:
        MalformedPayment: it is not well-formed.
        PaymentRefused: the payment is not for these requirements, or these cannot be met here.
    """
    data = _decode(body)
    payload = strict.mapping(data, "paymentPayload")
    requirements = strict.mapping(data, "paymentRequirements")
    version = payload.get("x402Version")
    if data.get("x402Version", version) != version or type(version) is not int:
        raise MalformedPayment(
            "'x402Version' must be that of the payload.", code=Code.INVALID_VERSION
        )
    presented = decode_payload(payload)
    offer = _offer(requirements, presented, facilitator=facilitator)
    said = _text(requirements, "resource") if version == 1 else presented.resource_url
    resource_url = said or ""
    signed = match_offer(presented, [offer], resource_url=resource_url)
    if offer.scheme == SCHEME_UPTO:
        signed = replace(signed, charged=strict.uint256(requirements, "amount"))
    return FacilitationRequest(
        version=version,
        signed=signed,
        network_name=strict.string(requirements, "network"),
        resource_url=resource_url,
        requirements=offer.as_v2() if version == 2 else _as_v1(offer, requirements),
    )


def _decode(body: bytes) -> dict[str, Any]:
    try:
        return strict.decode_json_object(body)
    except MalformedPayment:
        raise MalformedPayment(
            "The body is not one well-formed JSON object, without duplicate keys, in UTF-8."
        ) from None


def _offer(
    requirements: Mapping[str, Any], presented: PresentedPayment, *, facilitator: str
) -> Offer:
    """The requirements as if they were an offer of ours."""
    version = presented.version
    scheme = strict.string(requirements, "scheme")
    if scheme not in (SIGNED_SCHEMES if version == 2 else (SCHEME_EXACT,)):
        raise PaymentRefused("This scheme is not settled here.", code=Code.UNSUPPORTED_SCHEME)
    name = strict.string(requirements, "network")
    network = networks.network_of_v1(name) if version == 1 else name
    if network is None or not networks.is_evm(network):
        raise PaymentRefused("This network is not settled on here.", code=Code.INVALID_NETWORK)
    address = strict.address(requirements, "asset")
    asset = find_asset(network, address)
    if asset is None:
        raise PaymentRefused(
            "This token is not settled here. Ask the facilitator's operator to add it.",
            code=Code.UNSUPPORTED_ASSET,
        )
    extra = strict.optional_mapping(requirements, "extra")
    _check_domain(extra, asset.name, asset.version)
    amount = strict.uint256(requirements, "maxAmountRequired" if version == 1 else "amount")
    if scheme == SCHEME_UPTO:
        amount = _maximum(presented, charged=amount)
    elif amount == 0:
        raise PaymentRefused("There is nothing to settle.", code=Code.INVALID_REQUIREMENTS)
    method = _transfer_method(extra, version=version)
    return Offer(
        scheme=scheme,
        network=network,
        asset=asset.address,
        amount=amount,
        pay_to=strict.address(requirements, "payTo"),
        max_timeout_seconds=strict.whole_number(requirements, "maxTimeoutSeconds"),
        asset_name=asset.name,
        asset_version=asset.version,
        decimals=asset.decimals,
        symbol=asset.symbol,
        facilitator=facilitator,
        transfer_method=method,
        settler=strict.address(extra, "facilitatorAddress") if scheme == SCHEME_UPTO else "",
        sponsoring=offered_sponsoring(presented.extensions) if method == TRANSFER_PERMIT2 else "",
    )


def _maximum(presented: PresentedPayment, *, charged: int) -> int:
    """What was authorized (``upto``): the server asks for that, or for what was used of it."""
    maximum = presented.terms.value
    if charged > maximum:
        raise PaymentRefused(
            "More is to be settled than was authorized.", code=Code.SETTLEMENT_EXCEEDS_AMOUNT
        )
    return maximum


def _transfer_method(extra: Mapping[str, Any], *, version: int) -> str:
    method = extra.get("assetTransferMethod", TRANSFER_EIP3009)
    known = (TRANSFER_EIP3009, TRANSFER_PERMIT2) if version == 2 else (TRANSFER_EIP3009,)
    if not isinstance(method, str) or method not in known:
        raise PaymentRefused(
            "This transfer method is not settled here.", code=Code.INVALID_REQUIREMENTS
        )
    return method


def _check_domain(extra: Mapping[str, Any], name: str, version: str) -> None:
    """The caller must mean the token that this address is: its buyers sign over the domain."""
    if extra.get("name", name) != name:
        raise PaymentRefused("The token has another EIP-712 name.", code=Code.OTHER_NAME)
    if extra.get("version", version) != version:
        raise PaymentRefused("The token has another EIP-712 version.", code=Code.OTHER_VERSION)


def _as_v1(offer: Offer, requirements: Mapping[str, Any]) -> dict[str, Any]:
    described = {
        "resource": _text(requirements, "resource"),
        "description": _text(requirements, "description"),
        "mime_type": _text(requirements, "mimeType"),
    }
    return offer.as_v1(**described) or offer.as_v2()


def _text(requirements: Mapping[str, Any], key: str) -> str:
    """A text that may be absent."""
    value = requirements.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        strict.malformed(f"'{key}' must be a string.")
    return value


def verify_answer(
    *, payer: str | None, refusal: PaymentRefused | MalformedPayment | None = None
) -> dict[str, Any]:
    """``VerifyResponse``: valid unless there is a ``refusal``."""
    answer: dict[str, Any] = {"isValid": refusal is None}
    if refusal is not None:
        answer |= {"invalidReason": refusal.code, "invalidMessage": str(refusal)}
    if payer is not None:
        answer["payer"] = payer
    return answer


def settle_answer(
    *,
    network: str,
    payer: str | None,
    transaction: str = "",
    amount: int | None = None,
    reason: str = "",
    message: str = "",
) -> dict[str, Any]:
    """``SettleResponse``: a success unless there is a ``reason``.

    ``network`` is as the caller wrote it. ``transaction`` may be known also of what has not
    succeeded yet.
    """
    answer: dict[str, Any] = {
        "success": not reason,
        "transaction": transaction,
        "network": network,
    }
    if reason:
        answer |= {"errorReason": reason, "errorMessage": message}
    if payer is not None:
        answer["payer"] = payer
    if amount is not None:
        answer["amount"] = str(amount)
    return answer


def supported_answer(
    kinds: frozenset[tuple[str, str]],
    signers: Sequence[str],
    *,
    settlers: Mapping[str, str],
    extensions: Sequence[str] = (),
) -> dict[str, Any]:
    """``SupportedResponse`` for ``(scheme, network)`` pairs; v1 where it has a name for one.

    ``settlers`` are the wallets that settle ``upto``, by network: payers sign for them.
    """
    answered: list[dict[str, Any]] = []
    for scheme, network in sorted(kinds):
        if scheme not in SIGNED_SCHEMES:
            continue  # what this wallet claims from its own site's channels is not for others
        kind: dict[str, Any] = {"x402Version": 2, "scheme": scheme, "network": network}
        if scheme == SCHEME_UPTO:
            if network in settlers:
                answered.append({**kind, "extra": {"facilitatorAddress": settlers[network]}})
            continue
        answered.append(kind)
        name = networks.v1_name(network)
        if name is not None:
            answered.append({"x402Version": 1, "scheme": scheme, "network": name})
    return {"kinds": answered, "extensions": list(extensions), "signers": {"eip155:*": signers}}
