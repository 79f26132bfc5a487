"""A request's payment header, strictly decoded (x402 v2 and v1, "HTTP transport").

``PAYMENT-SIGNATURE`` carries version 2, ``X-PAYMENT`` version 1: base64 of a JSON object.
What the official clients send passes without exception; what merely resembles it does not.
Unknown keys are ignored where the specification leaves room (the top level, ``payload``), but
``authorization`` and ``permit2Authorization`` must have exactly the fields that are signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from x402_django import conf
from x402_django.constants import (
    PAYMENT_SIGNATURE_HEADER,
    SCHEME_BATCH,
    SCHEME_EXACT,
    SCHEME_UPTO,
    V1_PAYMENT_HEADER,
    Code,
)
from x402_django.exceptions import MalformedPayment, PaymentRefused
from x402_django.protocol import networks, strict
from x402_django.protocol.assets import is_address, to_checksum_address
from x402_django.protocol.transfer_methods import method_of
from x402_django.protocol.types import PresentedPayment


def read_payment_header(headers: Mapping[str, str]) -> PresentedPayment | None:
    """Decode the payment that a request carries; None if it carries none.

    Args:
        headers: the request's headers, case-insensitive (``request.headers``).

    Raises:
        MalformedPayment: not a well-formed payment, or more than one (answered 400).
        PaymentRefused: well-formed, of a scheme or network that is not served here (402).
    """
    v2 = headers.get(PAYMENT_SIGNATURE_HEADER)
    v1 = headers.get(V1_PAYMENT_HEADER)
    if v2 is not None and v1 is not None:
        raise MalformedPayment(
            f"Send either {PAYMENT_SIGNATURE_HEADER} or {V1_PAYMENT_HEADER}, not both.",
            code=Code.AMBIGUOUS_HEADERS,
        )
    if v2 is not None:
        return _decode_v2(_decode(v2, version=2))
    if v1 is not None:
        return _decode_v1(_decode(v1, version=1))
    return None


def decode_payload(data: Mapping[str, Any]) -> PresentedPayment:
    """A payment payload that came as JSON, of either version. Raises as ``read_payment_header``."""
    version = data.get("x402Version")
    if type(version) is not int or version not in (1, 2):
        raise MalformedPayment("'x402Version' must be 1 or 2.", code=Code.INVALID_VERSION)
    return _decode_v2(data) if version == 2 else _decode_v1(data)


def _decode(value: str, *, version: int) -> dict[str, Any]:
    limit = conf.x402.max_header_bytes
    if len(value) > limit:
        raise MalformedPayment(
            f"The payment header is longer than {limit} bytes.", code=Code.HEADER_TOO_LARGE
        )
    if not value:
        strict.malformed("The payment header is empty.")
    if "," in value:
        # Servers join repeated headers with a comma, which base64 does not have.
        raise MalformedPayment(
            "The payment header was sent more than once.", code=Code.AMBIGUOUS_HEADERS
        )
    data = strict.decode_json_object(strict.decode_base64(value))
    found = data.get("x402Version")
    if type(found) is not int or found != version:
        raise MalformedPayment(
            f"This header carries x402Version {version}.", code=Code.INVALID_VERSION
        )
    return data


def _decode_v2(data: Mapping[str, Any]) -> PresentedPayment:
    accepted = strict.mapping(data, "accepted")
    payload = strict.mapping(data, "payload")
    resource = strict.optional_mapping(data, "resource")
    extensions = strict.optional_mapping(data, "extensions")
    scheme = strict.string(accepted, "scheme")
    network = strict.string(accepted, "network")
    if not networks.is_caip2(network):
        strict.malformed("'network' must be a CAIP-2 chain id.")
    _check_served(scheme, networks.is_evm(network) or networks.is_solana(network))
    return _presented(
        payload,
        version=2,
        scheme=scheme,
        network=network,
        accepted=_normalised(accepted),
        resource_url=strict.string(resource, "url") if resource else None,
        extensions=extensions,
    )


def _decode_v1(data: Mapping[str, Any]) -> PresentedPayment:
    payload = strict.mapping(data, "payload")
    scheme = strict.string(data, "scheme")
    network = networks.network_of_v1(strict.string(data, "network"))
    _check_served(scheme, network is not None)
    return _presented(
        payload,
        version=1,
        scheme=scheme,
        network=network or "",
        accepted=None,
        resource_url=None,
        extensions={},
    )


def _check_served(scheme: str, network_served: bool) -> None:
    """Other schemes and networks have other payloads: refused before theirs is looked at."""
    if scheme not in (SCHEME_EXACT, SCHEME_UPTO, SCHEME_BATCH):
        raise PaymentRefused(
            f"Only '{SCHEME_EXACT}', '{SCHEME_UPTO}' and '{SCHEME_BATCH}' are accepted.",
            code=Code.UNSUPPORTED_SCHEME,
        )
    if not network_served:
        raise PaymentRefused(
            "The payment is for a network that is not accepted.", code=Code.INVALID_NETWORK
        )


def _normalised(accepted: Mapping[str, Any]) -> dict[str, Any]:
    """The fields every v2 requirement has, checked; addresses checksummed."""
    strict.uint256(accepted, "amount")
    strict.whole_number(accepted, "maxTimeoutSeconds")
    strict.optional_mapping(accepted, "extra")
    result = dict(accepted)
    for key in ("asset", "payTo"):
        value = strict.string(accepted, key)
        if is_address(value):
            result[key] = to_checksum_address(value)
    return result


def _presented(
    payload: Mapping[str, Any],
    *,
    version: int,
    scheme: str,
    network: str,
    accepted: Mapping[str, Any] | None,
    resource_url: str | None,
    extensions: Mapping[str, Any],
) -> PresentedPayment:
    method = method_of(payload)
    if network.partition(":")[0] != method.namespace:
        raise PaymentRefused(
            f"'{method.key}' is not how payments are made on '{network}'.",
            code=Code.INVALID_NETWORK,
        )
    if scheme not in method.schemes or (version == 1 and not method.in_v1):
        raise PaymentRefused(
            f"The scheme '{scheme}' is not paid by an '{method.key}' in version {version}.",
            code=Code.UNSUPPORTED_SCHEME,
        )
    return PresentedPayment(
        version=version,
        scheme=scheme,
        network=network,
        transfer_method=method.name,
        accepted=accepted,
        terms=method.read(payload, scheme),
        resource_url=resource_url,
        extensions=extensions,
    )
