"""A presented payment against what the site asked for.

Every field that decides where money goes is compared with our own offer; what goes on to a
facilitator is the offer, never the client's copy of it (threat 12).
"""

from __future__ import annotations

from collections.abc import Sequence

from x402_django import clock
from x402_django.constants import Code
from x402_django.exceptions import PaymentRefused
from x402_django.protocol.signatures import check_eoa_signature
from x402_django.protocol.sponsoring import read_sponsorship
from x402_django.protocol.types import Offer, PresentedPayment, SignedPayment


def match_offer(
    presented: PresentedPayment, offers: Sequence[Offer], *, resource_url: str
) -> SignedPayment:
    """Bind a payment to the offer it pays.

    v2 clients echo the offer they took: scheme, network, asset, payee, amount, time-out and
    domain must be ours (as in the SDK's server: keys *added* to ``extra`` do no harm). v1
    clients name scheme and network only; the authorization's payee and amount decide, and
    where several tokens fit, the signature.

    Args:
        presented: from ``wire.read_payment_header``.
        offers: what this request costs now.
        resource_url: canonical URL of the resource; what the client says it is does not count.

    Raises:
        PaymentRefused: ``unsupported_scheme``, ``invalid_network``,
            ``invalid_payment_requirements``, or the code for a wrong payee or value.
    """
    candidates = _candidates(presented, offers)
    if presented.version == 2:
        candidates = [offer for offer in candidates if _is_accepted(presented, offer)]
        if not candidates:
            raise PaymentRefused(
                "The accepted requirements are not those of this resource.",
                code=Code.INVALID_REQUIREMENTS,
            )
    terms, codes = presented.terms, presented.method.codes
    candidates = [offer for offer in candidates if presented.method.pays_to(terms, offer)]
    if not candidates:
        raise PaymentRefused("The payment is made out to another recipient.", code=codes.recipient)
    candidates = [offer for offer in candidates if presented.method.pays_amount(terms, offer)]
    if not candidates:
        raise PaymentRefused("The payment is not of the amount asked for.", code=codes.value)
    candidates = _without_mismatch(presented, candidates)
    return _choose([_bind(presented, offer, resource_url) for offer in candidates])


def check_validity(signed: SignedPayment, *, now: int, minimum: int) -> None:
    """Refuse a payment that is not valid yet or not for long enough to be settled.

    How long an authorization lives beyond that is the payer's choice.

    Args:
        signed: the payment.
        now: seconds since the epoch.
        minimum: seconds it must still be valid for (the settlement budget).

    Raises:
        PaymentRefused: with the specification's code for ``validAfter`` or ``validBefore``.
    """
    if signed.valid_after > now:
        raise PaymentRefused("The payment is not valid yet.", code=signed.method.codes.valid_after)
    if signed.valid_before < now + minimum:
        raise PaymentRefused(
            "The payment has expired or is about to.", code=signed.method.codes.valid_before
        )


def _candidates(presented: PresentedPayment, offers: Sequence[Offer]) -> list[Offer]:
    same_scheme = [offer for offer in offers if offer.scheme == presented.scheme]
    if not same_scheme:
        raise PaymentRefused(
            "The payment's scheme is not accepted here.", code=Code.UNSUPPORTED_SCHEME
        )
    candidates = [offer for offer in same_scheme if offer.network == presented.network]
    if not candidates:
        raise PaymentRefused(
            "The payment's network is not accepted here.", code=Code.INVALID_NETWORK
        )
    same_method = [
        offer for offer in candidates if offer.transfer_method == presented.transfer_method
    ]
    if not same_method:
        raise PaymentRefused(
            "The payment moves its money in another way than was asked for.",
            code=Code.INVALID_REQUIREMENTS,
        )
    return same_method


def _without_mismatch(presented: PresentedPayment, offers: list[Offer]) -> list[Offer]:
    """The offers of which every further field that was signed is; raises where there is none."""
    mismatches = [presented.method.mismatch(presented.terms, offer) for offer in offers]
    if all(mismatches):
        raise PaymentRefused(
            "What was signed is not what this resource asks for.", code=mismatches[0]
        )
    return [offer for offer, wrong in zip(offers, mismatches, strict=True) if wrong is None]


def _is_accepted(presented: PresentedPayment, offer: Offer) -> bool:
    accepted = presented.accepted
    if accepted is None:
        return False
    extra = accepted.get("extra") or {}
    return bool(
        accepted["asset"] == offer.asset
        and accepted["payTo"] == offer.pay_to
        and accepted["amount"] == str(offer.amount)
        and accepted["maxTimeoutSeconds"] == offer.max_timeout_seconds
        and offer.method.wire_extra(offer).items() <= extra.items()
    )


def _bind(presented: PresentedPayment, offer: Offer, resource_url: str) -> SignedPayment:
    terms = presented.terms
    lifetime = offer.method.lifetime
    return SignedPayment(
        offer=offer,
        payer=terms.payer,
        valid_after=terms.valid_after,
        valid_before=clock.timestamp() + lifetime if lifetime else terms.valid_before,
        nonce=terms.nonce,
        signature=terms.signature,
        resource_url=resource_url,
        version=presented.version,
        sponsorship=read_sponsorship(presented.extensions, terms, offer),
        channel=terms.channel,
    )


def _choose(bound: list[SignedPayment]) -> SignedPayment:
    """The first, or, where one payload fits offers in several tokens, the one it was signed for.

    A contract wallet's signature cannot be told here; it gets the first, and the facilitator
    judges.
    """
    if len(bound) > 1:
        return next((signed for signed in bound if check_eoa_signature(signed)), bound[0])
    return bound[0]
