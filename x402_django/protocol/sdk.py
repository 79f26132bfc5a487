"""The door to the official SDK: its models, its scheme code, its HTTP client.

Whatever the SDK needs is built from *our* offer, never from what a client sent. The SDK is slow
to load, so everything is imported inside the functions, after ``libraries.load``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from x402_django import libraries
from x402_django.constants import (
    SCHEME_BATCH,
    SCHEME_EXACT,
    SCHEME_UPTO,
    SPONSOR_EIP2612,
    SPONSOR_ERC20_APPROVAL,
)
from x402_django.protocol.service_metadata import KEY as CATALOGUE
from x402_django.protocol.service_metadata import service_metadata
from x402_django.protocol.types import Offer, SignedPayment

if TYPE_CHECKING:
    from x402.http import HTTPFacilitatorClientSync
    from x402.http.facilitator_client_base import AuthProvider
    from x402.mechanisms.evm.batch_settlement.facilitator.scheme import (
        BatchSettlementEvmFacilitator,
    )
    from x402.mechanisms.evm.exact.facilitator import ExactEvmScheme
    from x402.mechanisms.evm.signer import FacilitatorEvmSigner
    from x402.mechanisms.evm.upto.facilitator import UptoEvmScheme
    from x402.pending_settlement_store import PendingSettlementStore
    from x402.schemas import PaymentPayload, PaymentRequirements
    from x402.schemas.v1 import PaymentPayloadV1, PaymentRequirementsV1


def to_sdk_requirements(offer: Offer) -> PaymentRequirements:
    """The offer as the SDK's v2 ``PaymentRequirements``."""
    libraries.load()
    from x402.schemas import PaymentRequirements

    return PaymentRequirements.model_validate(offer.as_v2())


def to_sdk_payload(signed: SignedPayment) -> PaymentPayload:
    """The payment as the SDK's v2 ``PaymentPayload``, also where the client spoke v1."""
    libraries.load()
    from x402.schemas import PaymentPayload, ResourceInfo

    # For a catalogue, and so only where the client asks for the resource to be listed.
    described = service_metadata() if CATALOGUE in signed.extensions else {}
    return PaymentPayload(
        payload=signed.payload_dict(),
        accepted=to_sdk_requirements(signed.offer),
        resource=ResourceInfo(url=signed.resource_url, **described),
        extensions={**signed.extensions, **signed.sponsored} or None,
    )


def to_sdk_v1(signed: SignedPayment) -> tuple[PaymentPayloadV1, PaymentRequirementsV1]:
    """The payment in the shapes of version 1, but with the CAIP-2 name of its network.

    For facilitators that speak version 1 on every network, also those it had no names for.
    """
    libraries.load()
    from x402.schemas.v1 import PaymentPayloadV1, PaymentRequirementsV1

    offer = signed.offer
    payload = PaymentPayloadV1(
        scheme=offer.scheme, network=offer.network, payload=signed.payload_dict()
    )
    requirements = PaymentRequirementsV1(
        scheme=offer.scheme,
        network=offer.network,
        max_amount_required=str(offer.amount),
        resource=signed.resource_url,
        description="",
        mime_type="",
        pay_to=offer.pay_to,
        max_timeout_seconds=offer.max_timeout_seconds,
        asset=offer.asset,
        extra=offer.as_v2()["extra"],
    )
    return payload, requirements


def facilitator_scheme(
    signer: FacilitatorEvmSigner,
    *,
    scheme: str = SCHEME_EXACT,
    pending_store: PendingSettlementStore | None = None,
    **config: Any,
) -> ExactEvmScheme | UptoEvmScheme | BatchSettlementEvmFacilitator:
    """The SDK's facilitator side of a scheme on EVM, over a signer of ours.

    Args:
        signer: reads the chain and sends transactions for it.
        scheme: ``exact``, ``upto`` or ``batch-settlement``.
        pending_store: where the scheme remembers what it broadcast without seeing a receipt;
            by default the scheme keeps its own, in memory.
        config: fields of the SDK's ``ExactEvmSchemeConfig`` (``eip6492_allowed_factories``,
            ``simulate_in_settle``); ``upto`` has none of ERC-6492's.
    """
    libraries.load()
    if scheme == SCHEME_UPTO:
        from x402.mechanisms.evm.upto.facilitator import UptoEvmScheme, UptoEvmSchemeConfig

        config.pop("eip6492_allowed_factories", None)
        return UptoEvmScheme(signer, UptoEvmSchemeConfig(**config), pending_store)
    if scheme == SCHEME_BATCH:
        from x402.mechanisms.evm.batch_settlement.facilitator.scheme import (
            BatchSettlementEvmFacilitator,
            BatchSettlementEvmFacilitatorConfig,
        )

        factories = config["eip6492_allowed_factories"]
        wanted = BatchSettlementEvmFacilitatorConfig(eip6492_allowed_factories=factories)
        return BatchSettlementEvmFacilitator(signer, None, wanted, pending_store)
    from x402.mechanisms.evm.exact.facilitator import ExactEvmScheme, ExactEvmSchemeConfig

    return ExactEvmScheme(signer, ExactEvmSchemeConfig(**config), pending_store)


def approving_context(signer: Any) -> Any:
    """A context in which the SDK takes a payer's approval transaction for an approval."""
    libraries.load()
    from x402.extensions.erc20_approval_gas_sponsoring import Erc20ApprovalFacilitatorExtension
    from x402.interfaces import FacilitatorContext

    extension: Any = Erc20ApprovalFacilitatorExtension(signer)
    return FacilitatorContext({extension.key: extension})


def declare_extensions(keys: Iterable[str]) -> dict[str, Any]:
    """The ``extensions`` of a challenge that offers to pay for approvals of Permit2."""
    libraries.load()
    from x402.extensions.eip2612_gas_sponsoring import declare_eip2612_gas_sponsoring_extension
    from x402.extensions.erc20_approval_gas_sponsoring import (
        declare_erc20_approval_gas_sponsoring_extension,
    )

    declare = {
        SPONSOR_EIP2612: declare_eip2612_gas_sponsoring_extension,
        SPONSOR_ERC20_APPROVAL: declare_erc20_approval_gas_sponsoring_extension,
    }
    declared: dict[str, Any] = {}
    for key in keys:
        declared |= declare[key]()
    return declared


def http_facilitator_client(
    url: str,
    timeout: float,
    http_client: Any = None,
    auth_provider: AuthProvider | None = None,
) -> HTTPFacilitatorClientSync:
    """The SDK's client of a remote facilitator.

    Args:
        url: base URL of the facilitator.
        timeout: seconds per request; used only if no ``http_client`` is given.
        http_client: an ``httpx.Client``. Give one that does not follow redirects: the SDK's own
            does, and would carry a signed payment to wherever it is sent.
        auth_provider: has ``get_auth_headers()``, asked for each request.
    """
    libraries.load()
    from x402.http import FacilitatorConfig, HTTPFacilitatorClientSync

    return HTTPFacilitatorClientSync(
        FacilitatorConfig(
            url=url, timeout=timeout, http_client=http_client, auth_provider=auth_provider
        )
    )
