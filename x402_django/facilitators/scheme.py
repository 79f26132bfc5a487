"""The SDK's scheme code as the local facilitator runs it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from x402_django import clock
from x402_django.constants import Code
from x402_django.exceptions import ConfigurationError, FacilitatorUnavailable, X402Error
from x402_django.protocol import sdk
from x402_django.protocol.signatures import is_erc6492

if TYPE_CHECKING:
    from x402_django.chain.signer import OutboxSigner
    from x402_django.protocol.types import SignedPayment

logger = logging.getLogger("x402_django.facilitators")


def build_scheme(signer: OutboxSigner, signed: SignedPayment, *, factories: Sequence[str]) -> Any:
    """The facilitator's side of the payment's scheme; ``factories`` may deploy payers' wallets.

    Where a wallet is to be deployed, the whole settlement is simulated before anything is sent:
    none is deployed for a payment that has gone bad since it was verified. Otherwise the outbox
    simulates each transaction before it takes a nonce, which is enough where there is only one.
    """
    return sdk.facilitator_scheme(
        cast(Any, signer),  # its receipts have the SDK's shape but are not of its class
        scheme=signed.offer.scheme,
        pending_store=ForgetfulStore(),
        eip6492_allowed_factories=list(factories),
        simulate_in_settle=is_erc6492(signed.signature),
    )


class ForgetfulStore:
    """Keeps the SDK from remembering broadcasts in memory: the ledger remembers them."""

    def get(self, key: str) -> str | None:
        return None

    def set(self, key: str, tx_hash: str) -> None:
        """Nothing is kept."""

    def delete(self, key: str) -> None:
        """Nothing was kept."""


def sdk_models(signed: SignedPayment) -> tuple[Any, Any]:
    """The payload and the requirements, of the SDK's classes."""
    return sdk.to_sdk_payload(signed), sdk.to_sdk_requirements(signed.due)


def is_chain_behind(signed: SignedPayment, code: str) -> bool:
    """Whether the chain says "not valid yet" of what is valid by our clock.

    Its blocks stand still, or the node is behind: that passes, and is no fault of the payer's.
    """
    return code == Code.INVALID_VALID_AFTER and signed.valid_after <= clock.timestamp()


def unavailable(trouble: Exception) -> X402Error:
    """Wrong settings stay what they are; everything else means: nothing was sent, try later."""
    if isinstance(trouble, ConfigurationError):
        return trouble
    if not isinstance(trouble, X402Error):
        logger.error("The local facilitator failed before sending anything.", exc_info=trouble)
    return FacilitatorUnavailable()
