"""Verifying what Permit2 is to move, from the site's own wallet.

The SDK's ``verify`` looks at signature, allowance and balance. It sees neither whether the nonce
was used nor whether a sponsored approval would work, so here its ``settle`` is simulated: the
same checks, and then the very call that would be sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from x402_django.constants import Code
from x402_django.exceptions import PaymentRefused, RpcUnavailable, X402Error
from x402_django.facilitators.base import reason_code
from x402_django.facilitators.scheme import sdk_models, unavailable

if TYPE_CHECKING:
    from x402_django.facilitators.local import LocalFacilitator
    from x402_django.protocol.types import SignedPayment

#: What the SDK says where the call reverted; why, is then looked for here.
_REVERTED = frozenset({"transaction_failed", "invalid_upto_evm_transaction_failed"})


def verify(facilitator: LocalFacilitator, signed: SignedPayment) -> None:
    """Return if ``signed`` would settle now. Raises as ``BaseFacilitator.verify``."""
    from x402_django.chain.evidence import authorization_used

    signer = facilitator.simulating_signer(signed)
    scheme = facilitator.scheme_over(signer, signed)
    try:
        answer = scheme.settle(*sdk_models(signed))
    except (RuntimeError, X402Error) as error:
        raise unavailable(signer.trouble or error) from error
    if answer.success:
        return
    if signer.trouble is not None:
        raise unavailable(signer.trouble) from signer.trouble
    reason = answer.error_reason
    if reason in _REVERTED:
        try:
            used = authorization_used(signed)
        except RpcUnavailable as error:
            raise unavailable(error) from error
        reason = Code.NONCE_USED if used else Code.INVALID_TRANSACTION_STATE
    raise PaymentRefused(code=reason_code(reason, default=Code.INVALID_REQUIREMENTS))
