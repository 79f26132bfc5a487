"""Is it the payer's own signature? What can be told cheaply, before anything is claimed.

A signature that recovers to the payer is an ordinary account's and settles the question here. One
that does not may still be a contract wallet's (EIP-1271), an undeployed one's (ERC-6492) or a
delegated account's (EIP-7702): only the chain can ask those, which the facilitator does. What
has no code and is not wrapped for deployment cannot be any of them and is a forgery.
"""

from __future__ import annotations

from x402_django.conf import x402
from x402_django.exceptions import PaymentRefused, RpcUnavailable
from x402_django.facilitators.base import get_facilitator
from x402_django.models import Payment
from x402_django.protocol.signatures import check_eoa_signature, is_erc6492
from x402_django.protocol.types import SignedPayment


def refuse_forgery(signed: SignedPayment) -> None:
    """Raise PaymentRefused (its method's code) for what cannot be the payer's signature.

    Passing proves nothing yet: the facilitator verifies. If the network cannot be read, that is
    left to the facilitator altogether.
    """
    if check_eoa_signature(signed) or is_erc6492(signed.signature):
        return
    if signed.method.is_signed(signed) is False:
        raise PaymentRefused(
            "The payment was not signed by its payer.", code=signed.method.codes.signature
        )
    if not x402.network(signed.offer.network).has_rpc:
        return
    from x402_django.chain.evidence import has_code  # loads web3: not before it is needed

    try:
        forged = not has_code(signed.offer.network, signed.payer)
    except RpcUnavailable:
        return
    if forged:
        raise PaymentRefused(
            "The payment was not signed by its payer.", code=signed.method.codes.signature
        )


def authenticate(signed: SignedPayment, known: Payment | None = None) -> None:
    """Make sure that the payer made ``signed``, before handing out what the payer bought earlier.

    Authorizations can be made up, and used ones can be read off the chain. ``known`` is the
    ledger's row of the same authorization: its exact copy was verified when it was first
    presented.

    Raises:
        PaymentRefused: it is not the payer's.
        ServiceUnavailable: that could not be found out.
    """
    if check_eoa_signature(signed):
        return
    if known is not None and known.payload == signed.snapshot():
        return
    get_facilitator(signed.offer.facilitator).verify(signed)  # moves no money
