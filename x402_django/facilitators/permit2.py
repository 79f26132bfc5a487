"""What Permit2 is to move, from the site's own wallet: verifying it, and getting it approved.

The SDK's ``verify`` looks at signature, allowance and balance. It sees neither whether the nonce
was used nor whether a sponsored approval would work, so here its ``settle`` is simulated: the
same checks, and then the very call that would be sent. Where the payer's approval is a transaction
of its own, that call cannot be simulated before it is mined; then the SDK's checks are made, and
the approval is simulated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from x402_django.constants import Code
from x402_django.exceptions import (
    PaymentRefused,
    RpcUnavailable,
    SettlementFailed,
    SettlementUnknown,
    X402Error,
)
from x402_django.facilitators.base import reason_code
from x402_django.facilitators.scheme import build_scheme, sdk_models, unavailable
from x402_django.protocol import sdk

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from x402_django.facilitators.local import LocalFacilitator
    from x402_django.protocol.approvals import Approval
    from x402_django.protocol.types import SignedPayment

#: What the SDK says where the call reverted; why, is then looked for here.
_REVERTED = frozenset({"transaction_failed", "invalid_upto_evm_transaction_failed"})


def verify(facilitator: LocalFacilitator, signed: SignedPayment) -> None:
    """Return if ``signed`` would settle now. Raises as ``BaseFacilitator.verify``."""
    from x402_django.chain import approvals

    try:
        approval = approvals.missing(signed)
        if approval is not None:
            try:
                _verify_with(approval, facilitator, signed)
                return
            except PaymentRefused as refusal:
                if refusal.code != approvals.NOT_NEXT or approvals.missing(signed) is not None:
                    raise
                # Another payment has had it mined meanwhile.
    except RpcUnavailable as error:
        raise unavailable(error) from error
    reason = _asked(facilitator, signed, "settle")
    if reason is None:
        return
    if reason in _REVERTED:
        reason = Code.NONCE_USED if _is_used(signed) else Code.INVALID_TRANSACTION_STATE
    raise PaymentRefused(code=reason_code(reason, default=Code.INVALID_REQUIREMENTS))


def prepare(
    facilitator: LocalFacilitator,
    signed: SignedPayment,
    account: LocalAccount,
    *,
    payment_id: int,
    deadline: float,
) -> None:
    """Have the payer's approval mined, if it came as a transaction and is not in force yet.

    Raises:
        SettlementFailed: it cannot be; nothing was sent for the payment.
        SettlementUnknown: the payment was used already.
        FacilitatorUnavailable: it could not be yet.
    """
    from x402_django.chain import approvals

    try:
        approval = approvals.missing(signed)
        if approval is None:
            return
        try:  # as it is now: a gift must not be for nothing
            _verify_with(approval, facilitator, signed)
        except PaymentRefused as refusal:
            if refusal.code == approvals.NOT_NEXT and approvals.came_into_force(signed):
                return  # another payment has had it mined meanwhile
            raise
        approvals.carry_out(
            signed,
            approval,
            account,
            payment_id=payment_id,
            gifts_per_hour=facilitator.gifts_per_hour,
            deadline=deadline,
        )
    except PaymentRefused as refusal:
        # Perhaps refused *because* it was submitted meanwhile, by whomever: the chain says.
        if refusal.code == Code.NONCE_USED or _is_used(signed):
            raise SettlementUnknown() from refusal
        raise SettlementFailed(str(refusal), code=refusal.code) from refusal
    except RpcUnavailable as error:
        raise unavailable(error) from error


def _verify_with(approval: Approval, facilitator: LocalFacilitator, signed: SignedPayment) -> None:
    """As ``verify``, of a payer who has not approved Permit2. Raises RpcUnavailable, too."""
    from x402_django.chain import approvals

    whole = replace(signed, charged=None)  # to verify is to compare with what was signed
    reason = _asked(facilitator, whole, "verify", sdk.approving_context)
    if reason is not None:
        raise PaymentRefused(code=reason_code(reason, default=Code.INVALID_REQUIREMENTS))
    if _is_used(signed):
        raise PaymentRefused(code=Code.NONCE_USED)
    approvals.refuse_unfit(
        signed, approval, max_gas=facilitator.gas_per_payment, max_cost=facilitator.approval_cost
    )


def _asked(
    facilitator: LocalFacilitator,
    signed: SignedPayment,
    method: str,
    context_of: Any = lambda signer: None,
) -> str | None:
    """What the SDK's scheme has against ``signed``, over a signer that simulates."""
    from x402_django.chain.simulation import SimulatingSigner

    signer = SimulatingSigner(
        signed.offer.network,
        facilitator.account,
        facilitator=facilitator.alias,
        max_gas=facilitator.gas_per_payment,
    )
    scheme = build_scheme(signer, signed, factories=facilitator.factories)
    try:
        answer = getattr(scheme, method)(*sdk_models(signed), context_of(signer))
    except (RuntimeError, X402Error) as error:
        raise unavailable(signer.trouble or error) from error
    is_good, reason = (
        (answer.success, answer.error_reason)
        if method == "settle"
        else (answer.is_valid, answer.invalid_reason)
    )
    if is_good:
        return None
    if signer.trouble is not None:
        raise unavailable(signer.trouble) from signer.trouble
    return reason or ""


def _is_used(signed: SignedPayment) -> bool:
    from x402_django.chain.evidence import authorization_used

    try:
        return authorization_used(signed)
    except RpcUnavailable as error:
        raise unavailable(error) from error
