"""Verifying and settling one payment by itself: the SDK's scheme code over the outbox.

What the scheme code says is only a reason. Whether anything was sent is what the outbox has stored,
and whether that has settled the payment is what its receipt shows.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from x402_django.constants import Code
from x402_django.exceptions import (
    FacilitatorUnavailable,
    PaymentRefused,
    RpcUnavailable,
    SettlementFailed,
    SettlementUnknown,
    X402Error,
)
from x402_django.facilitators import permit2
from x402_django.facilitators.base import reason_code
from x402_django.facilitators.scheme import build_scheme, is_chain_behind, sdk_models, unavailable

if TYPE_CHECKING:
    from x402_django.chain.signer import OutboxSigner
    from x402_django.facilitators.local import LocalFacilitator
    from x402_django.models import ChainTransaction
    from x402_django.protocol.types import SignedPayment

logger = logging.getLogger("x402_django.facilitators")


def verify(facilitator: LocalFacilitator, signed: SignedPayment) -> None:
    """Ask the scheme code whether ``signed`` would settle. Raises as ``BaseFacilitator.verify``."""
    from web3.exceptions import ContractLogicError

    signer = _signer(facilitator, signed)
    scheme = build_scheme(signer, signed, factories=facilitator.factories)
    payload, requirements = sdk_models(signed)
    try:
        answer = scheme.verify(payload, requirements)
    except (RuntimeError, ContractLogicError, X402Error) as error:
        raise unavailable(signer.trouble or error) from error
    if answer.is_valid:
        return
    if signer.trouble is not None:
        raise unavailable(signer.trouble) from signer.trouble
    code = reason_code(answer.invalid_reason, default=Code.INVALID_REQUIREMENTS)
    if is_chain_behind(signed, code):
        raise FacilitatorUnavailable()
    raise PaymentRefused(code=code)


def send(
    facilitator: LocalFacilitator, signed: SignedPayment, payment_id: int, *, deadline: float
) -> tuple[ChainTransaction, Mapping[str, Any] | None]:
    """Send one payment; its transaction, and the receipt if there is one by then.

    A wallet that must be deployed first, and an approval that must be mined, are waited for until
    ``deadline`` (``time.monotonic``).
    """
    from x402_django.chain import outbox, queue

    signer = _signer(facilitator, signed, payment_id)
    signer.account = facilitator.account_for(signed)
    signer.patient, signer.deadline = False, deadline
    if signed.sponsorship is not None:
        permit2.prepare(
            facilitator, signed, signer.account, payment_id=payment_id, deadline=deadline
        )
    reason = _settle(facilitator, signer, signed)
    row = signer.settlement
    if row is None and payment_id in queue.riding([payment_id]):
        row = outbox.transaction_for(payment_id)  # stored all the same, or by somebody else
    if row is None:
        raise _not_sent(facilitator, signer, signed, reason)
    return row, signer.receipt_of(row)


def _signer(
    facilitator: LocalFacilitator, signed: SignedPayment, payment_id: int | None = None
) -> OutboxSigner:
    """The signer that the scheme code works over."""
    from x402_django.chain.signer import OutboxSigner

    return OutboxSigner(
        signed.offer.network,
        facilitator.account,
        payment_id=payment_id,
        facilitator=facilitator.alias,
        max_gas=facilitator.gas_per_payment,
    )


def _settle(
    facilitator: LocalFacilitator, signer: OutboxSigner, signed: SignedPayment
) -> str | None:
    """The SDK's reason if it says the settlement failed."""
    scheme = build_scheme(signer, signed, factories=facilitator.factories)
    payload, requirements = sdk_models(signed)
    try:
        answer = scheme.settle(payload, requirements)
    except (RuntimeError, X402Error) as error:
        signer.trouble = signer.trouble or error
        return None
    return cast("str | None", answer.error_reason)


def _not_sent(
    facilitator: LocalFacilitator, signer: OutboxSigner, signed: SignedPayment, reason: str | None
) -> X402Error:
    """What to raise where no transaction was stored, so that nothing can have been sent."""
    from x402_django.chain.evidence import authorization_used

    if signer.trouble is not None:
        trouble = type(signer.trouble).__name__
        logger.warning("Facilitator %s sent nothing: %s", facilitator.alias, trouble)
        return unavailable(signer.trouble)
    # Refused, though it had been verified: perhaps somebody else has submitted the payer's
    # authorization meanwhile. Then the payer has paid, also where the node that is asked
    # next is behind the one that refused.
    code = reason_code(reason, default=Code.INVALID_TRANSACTION_STATE)
    if is_chain_behind(signed, code):
        return FacilitatorUnavailable()
    try:
        used = code == Code.NONCE_USED or authorization_used(signed)
    except RpcUnavailable:
        used = True
    return SettlementUnknown() if used else SettlementFailed(code=code)
