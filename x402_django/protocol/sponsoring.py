"""Approvals of Permit2 that the payer signs and the settling wallet pays for.

A payer who has never approved Permit2 for the token can still pay at once: with the payment comes
a signed approval (x402 extensions ``eip2612GasSponsoring`` and ``erc20ApprovalGasSponsoring``).
One is taken only where the offer says so, and only if it approves Permit2, for the offer's token,
by the payment's payer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from x402_django.constants import PERMIT2_ADDRESS, SPONSOR_EIP2612, SPONSOR_ERC20_APPROVAL
from x402_django.exceptions import PaymentRefused
from x402_django.protocol import strict
from x402_django.protocol.approvals import Approval, decode_approval

if TYPE_CHECKING:
    from x402_django.protocol.transfer_methods import Terms
    from x402_django.protocol.types import Offer


#: Bytes of a signed transaction that calls ``approve``; the official clients' have about 180.
_LONGEST_TRANSACTION: Final = 300


@dataclass(frozen=True, slots=True)
class Sponsorship:
    """A signed approval. ``key`` is the extension's, ``info`` what the payer sent under it."""

    key: str
    info: Mapping[str, str] = field(hash=False)

    def approval(self, offer: Offer) -> Approval | None:
        """The payer's transaction (``erc20ApprovalGasSponsoring``); None for any other approval."""
        if self.key != SPONSOR_ERC20_APPROVAL:
            return None
        raw = bytes.fromhex(self.info["signedTransaction"][2:])
        payer = self.info["from"]
        return decode_approval(raw, network=offer.network, payer=payer, token=offer.asset)

    def as_extensions(self) -> dict[str, Any]:
        """As in a payload's ``extensions``."""
        return {self.key: {"info": dict(self.info)}}

    @classmethod
    def from_extensions(cls, extensions: Mapping[str, Any] | None) -> Sponsorship | None:
        """What ``as_extensions`` wrote; None for nothing."""
        if not extensions:
            return None
        ((key, value),) = extensions.items()
        return cls(key, value["info"])


def offered_sponsoring(extensions: Mapping[str, Any]) -> str:
    """The extension by which a payment brings an approval; empty if it brings none."""
    return next((key for key in _READERS if extensions.get(key) is not None), "")


def read_sponsorship(
    extensions: Mapping[str, Any], terms: Terms, offer: Offer
) -> Sponsorship | None:
    """The approval that ``offer`` pays the gas of, if the payment brings one.

    Raises:
        MalformedPayment: it is not of the extension's form.
        PaymentRefused: it approves something else, or is somebody else's.
    """
    if not offer.sponsoring or extensions.get(offer.sponsoring) is None:
        return None
    info = strict.mapping(strict.mapping(extensions, offer.sponsoring), "info")
    if "description" in info and "from" not in info:
        return None  # a client that merely echoes what the challenge says
    read = _READERS[offer.sponsoring]
    return Sponsorship(offer.sponsoring, read(info, terms, offer))


def _common(info: Mapping[str, Any], terms: Terms, offer: Offer, prefix: str) -> dict[str, str]:
    found = {
        "from": strict.address(info, "from"),
        "asset": strict.address(info, "asset"),
        "spender": strict.address(info, "spender"),
        "amount": str(strict.uint256(info, "amount")),
        "version": strict.string(info, "version"),
    }
    for name, wanted, code in (
        ("from", terms.payer, f"{prefix}_from_mismatch"),
        ("asset", offer.asset, f"{prefix}_asset_mismatch"),
        ("spender", PERMIT2_ADDRESS, f"{prefix}_spender_not_permit2"),
    ):
        if found[name] != wanted:
            raise PaymentRefused(f"The approval's '{name}' is not the payment's.", code=code)
    return found


def _read_eip2612(info: Mapping[str, Any], terms: Terms, offer: Offer) -> dict[str, str]:
    """A permit (EIP-2612). It is of just the amount: the proxy takes no other."""
    found = _common(info, terms, offer, "eip2612")
    if int(found["amount"]) != offer.amount:
        raise PaymentRefused(
            "The approval is not of the amount asked for.", code="permit2_2612_amount_mismatch"
        )
    signature = strict.signature(info, "signature")
    if len(signature) != 65:
        strict.malformed("The approval's 'signature' must have 65 bytes.")
    return {
        **found,
        "nonce": str(strict.uint256(info, "nonce")),
        "deadline": str(strict.uint256(info, "deadline")),
        "signature": "0x" + signature.hex(),
    }


def _read_erc20_approval(info: Mapping[str, Any], terms: Terms, offer: Offer) -> dict[str, str]:
    """A transaction of the payer's, of any amount that suffices: most clients sign for all."""
    found = _common(info, terms, offer, "erc20_approval")
    raw = strict.hex_bytes(info, "signedTransaction", longest=_LONGEST_TRANSACTION)
    approval = decode_approval(raw, network=offer.network, payer=terms.payer, token=offer.asset)
    if approval.amount != int(found["amount"]) or approval.amount < offer.amount:
        raise PaymentRefused(
            "The approval is not of the amount it says, or does not suffice.",
            code="erc20_approval_amount_mismatch",
        )
    return {**found, "signedTransaction": "0x" + raw.hex()}


_READERS: Final[dict[str, Callable[[Mapping[str, Any], Terms, Offer], dict[str, str]]]] = {
    SPONSOR_EIP2612: _read_eip2612,
    SPONSOR_ERC20_APPROVAL: _read_erc20_approval,
}
