"""Payments that a plain account has signed: what can be decided here, and what one call answers.

Whose signature it is needs no node. Whether the money is there, and the authorization unused, is
found out by rehearsing the settlement itself, for all payments that are being verified at that
moment in one call. What is not plain (EIP-1271, ERC-6492, EIP-7702), or does not settle, goes to
the SDK's scheme code, which says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from x402_django import clock
from x402_django.constants import TRANSFER_EIP3009
from x402_django.exceptions import FacilitatorUnavailable, PaymentRefused, RpcUnavailable
from x402_django.facilitators.combining import Combiner
from x402_django.protocol.signatures import check_eoa_signature
from x402_django.protocol.types import SignedPayment

#: Payments rehearsed in one call. A hundred would keep the first of them waiting.
_MOST = 64
#: Seconds that an authorization must have left; the SDK's own.
_MARGIN = 6


def is_plain(signed: SignedPayment) -> bool:
    """Whether the payer's own key signed it, in the form that needs no contract to check it.

    Only the tokens' own authorizations (EIP-3009): who may call Permit2's proxies is their affair.
    """
    if signed.offer.transfer_method != TRANSFER_EIP3009:
        return False
    try:
        return check_eoa_signature(signed)
    except PaymentRefused:
        return False


class PlainVerifier:
    """Rehearses plain payments, those of one network together; one per process.

    Args:
        max_gas: what one payment may use.
    """

    def __init__(self, *, max_gas: int) -> None:
        self._max_gas = max_gas
        self._by_network: dict[str, Combiner[SignedPayment, bool | RpcUnavailable]] = {}

    def settles(self, signed: SignedPayment) -> bool:
        """Whether it would settle now. False says nothing yet: ask the scheme.

        Raises FacilitatorUnavailable.
        """
        now = clock.timestamp()
        if not signed.valid_after <= now < signed.valid_before - _MARGIN:
            return False
        result = self.combiner(signed.offer.network)(signed)
        if isinstance(result, RpcUnavailable):
            raise FacilitatorUnavailable() from result
        return result

    def combiner(self, network: str) -> Combiner[SignedPayment, bool | RpcUnavailable]:
        """What turns many questions about payments of ``network`` into one."""
        found = self._by_network.get(network)
        if found is None:
            found = Combiner(partial(self._rehearse, network), most=_MOST)
            found = self._by_network.setdefault(network, found)
        return found

    def _rehearse(
        self, network: str, payments: Sequence[SignedPayment]
    ) -> Sequence[bool | RpcUnavailable]:
        from x402_django.chain.rehearsal import CannotRehearse, rehearse

        settles = dict.fromkeys(range(len(payments)), False)
        left = list(settles)
        try:
            while left:
                some = [payments[index] for index in left]
                seen = rehearse(network, some, max_gas=self._max_gas * len(some))
                plain = [
                    index for index, is_plain in zip(left, seen.plain, strict=True) if is_plain
                ]
                if len(plain) == len(left):
                    settles.update(zip(left, seen.settles, strict=True))
                    break
                left = plain  # the others' code has run, and may have spoilt it for the rest
        except CannotRehearse:
            pass
        except RpcUnavailable as error:
            return [error] * len(payments)
        return list(settles.values())
