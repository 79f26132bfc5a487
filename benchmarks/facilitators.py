"""Facilitators that say yes at once: ours, and the same for the official middleware.

They cost next to nothing, so what is measured is what stands around them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from x402_django.facilitators.base import BaseFacilitator
from x402_django.protocol.types import Settlement

if TYPE_CHECKING:
    from x402.schemas import PaymentPayload, PaymentRequirements

    from x402_django.protocol.types import SignedPayment

BLOCK_HASH = "0x" + "11" * 32


class InstantFacilitator(BaseFacilitator):
    """Every payment is good and settled."""

    trusted = True

    def verify(self, signed: SignedPayment) -> None:
        """Nothing is refused."""

    def settle(self, signed: SignedPayment, payment: object) -> Settlement:
        return Settlement(transaction_of(signed.nonce), 1, BLOCK_HASH, 0)

    def supported(self) -> frozenset[tuple[str, str]]:
        return frozenset({("exact", "eip155:84532")})


class InstantClient:
    """The same as the SDK wants it (``x402.server_base.FacilitatorClientSync``)."""

    def __init__(self, network: str) -> None:
        self.network = network

    def verify(self, payload: PaymentPayload, requirements: PaymentRequirements) -> Any:
        from x402.schemas import VerifyResponse

        return VerifyResponse(is_valid=True, payer=payload.payload["authorization"]["from"])

    def settle(self, payload: PaymentPayload, requirements: PaymentRequirements) -> Any:
        from x402.schemas import SettleResponse

        authorization = payload.payload["authorization"]
        return SettleResponse(
            success=True,
            payer=authorization["from"],
            transaction=transaction_of(authorization["nonce"]),
            network=self.network,
        )

    def get_supported(self) -> Any:
        from x402.schemas import SupportedKind, SupportedResponse

        return SupportedResponse(
            kinds=[SupportedKind(x402_version=2, scheme="exact", network=self.network)]
        )


def transaction_of(nonce: str) -> str:
    """A made-up transaction hash, one per payment."""
    return "0x" + hashlib.sha256(nonce.encode()).hexdigest()
