"""What the rooms hand to each other: offers, payments, settlements.

Amounts are ``int`` atomic units, nonces lowercase 0x-hex, protocol timestamps whole seconds since
the epoch. On EVM networks addresses are EIP-55 checksummed and hashes lowercase 0x-hex; on Solana
both are base58, whose letter case counts. Nothing here loads the SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from x402_django.constants import (
    SCHEME_BATCH,
    SCHEME_UPTO,
    TRANSFER_CHANNEL,
    TRANSFER_EIP3009,
)
from x402_django.protocol import networks, solana
from x402_django.protocol.channels import ChannelTerms
from x402_django.protocol.sponsoring import Sponsorship
from x402_django.protocol.transfer_methods import METHODS, Terms, TransferMethod, method_of

if TYPE_CHECKING:
    from x402_django.models import Payment


#: Where an offer's ``extra`` names the wallet that alone may settle.
_SETTLERS: Final = ("facilitatorAddress", "feePayer", "receiverAuthorizer")


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to pay that the site accepts (``PaymentRequirements``, x402 v2, section 5.1).

    ``asset_name`` and ``asset_version`` are the token's EIP-712 domain, from our own table and
    never from a client. ``facilitator`` is a settings alias and never leaves the site.
    ``transfer_method`` is how the money is moved. ``settler`` is the address of the wallet that
    alone may settle (the scheme ``upto``, and Solana's fee payer); empty until it is known, and
    where anybody may.
    ``sponsoring`` is the extension by which approvals of Permit2 are paid for, if one is.
    """

    scheme: str
    network: str
    asset: str
    amount: int
    pay_to: str
    max_timeout_seconds: int
    asset_name: str
    asset_version: str
    decimals: int
    symbol: str
    facilitator: str
    method_id: int | None = None
    #: Whether a transfer that the payer makes itself is taken too; never on the wire.
    transfer_proofs: bool = False
    transfer_method: str = TRANSFER_EIP3009
    settler: str = ""
    sponsoring: str = ""
    #: Of a payment channel: seconds by which a payer's own withdrawal is put off.
    withdraw_delay: int = 0
    #: Of a payment channel: its state as JSON, for a client that has lost count; else empty.
    channel_state: str = ""

    @property
    def method(self) -> TransferMethod:
        """How its money is moved."""
        return METHODS[self.transfer_method]

    @property
    def needs_settler(self) -> bool:
        """Whether payers sign for the wallet that settles, which its facilitator knows."""
        return self.scheme == SCHEME_UPTO or self.method.names_settler

    @property
    def verifying_contract(self) -> str:
        """The contract that keeps the nonces of its payers."""
        return self.method.verifying_contract(self.asset)

    #: Of the amount, what was added to the price for gas, in atomic units; never on the wire.
    fee: int = 0

    def as_v2(self) -> dict[str, Any]:
        """The offer as an entry of v2's ``accepts``."""
        return {
            "scheme": self.scheme,
            "network": self.network,
            "amount": str(self.amount),
            "asset": self.asset,
            "payTo": self.pay_to,
            "maxTimeoutSeconds": self.max_timeout_seconds,
            "extra": self.method.wire_extra(self),
        }

    @classmethod
    def from_v2(
        cls,
        requirements: Mapping[str, Any],
        *,
        decimals: int,
        symbol: str,
        facilitator: str,
        method_id: int | None = None,
    ) -> Offer:
        """Rebuild an offer that ``as_v2`` wrote (a ledger row's snapshot), with what it left out.

        Raises KeyError or ValueError for anything ``as_v2`` did not write.
        """
        extra = requirements["extra"]
        native = native_method(requirements["network"])
        return cls(
            scheme=requirements["scheme"],
            network=requirements["network"],
            asset=requirements["asset"],
            amount=int(requirements["amount"]),
            pay_to=requirements["payTo"],
            max_timeout_seconds=int(requirements["maxTimeoutSeconds"]),
            asset_name=extra.get("name", ""),
            asset_version=extra.get("version", ""),
            decimals=decimals,
            symbol=symbol,
            facilitator=facilitator,
            method_id=method_id,
            transfer_method=TRANSFER_CHANNEL
            if requirements["scheme"] == SCHEME_BATCH
            else extra.get("assetTransferMethod", native),
            settler=next((extra[name] for name in _SETTLERS if extra.get(name)), ""),
            withdraw_delay=int(extra.get("withdrawDelay", 0)),
        )

    def as_v1(self, *, resource: str, description: str, mime_type: str) -> dict[str, Any] | None:
        """The offer as an entry of v1's ``accepts``.

        None where v1 has no name for the network, or does not know the transfer method.
        ``description`` and ``mimeType`` are always present: official v1 clients require them.
        """
        network = networks.v1_name(self.network)
        if network is None or not self.method.in_v1:
            return None
        return {
            "scheme": self.scheme,
            "network": network,
            "maxAmountRequired": str(self.amount),
            "resource": resource,
            "description": description,
            "mimeType": mime_type,
            "payTo": self.pay_to,
            "maxTimeoutSeconds": self.max_timeout_seconds,
            "asset": self.asset,
            "extra": self.method.wire_extra(self),
        }


@dataclass(frozen=True, slots=True)
class PresentedPayment:
    """A strictly decoded payment header. It is well-formed; nothing in it is believed yet.

    Values are normalised, so two encodings of one payload (key order, spaces, hex case) are
    equal. ``network`` is CAIP-2 also for v1. ``accepted`` is the offer a v2 client says it
    takes, None in v1. ``resource_url`` is the client's claim.
    """

    version: int
    scheme: str
    network: str
    transfer_method: str
    accepted: Mapping[str, Any] | None
    terms: Terms
    resource_url: str | None = None
    extensions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> TransferMethod:
        """How its money is to be moved."""
        return METHODS[self.transfer_method]


@dataclass(frozen=True, slots=True)
class SignedPayment:
    """A presented payment bound to one of our offers: what facilitators get.

    Recipient, amount, token and network are the offer's; ``offers.match_offer`` has compared
    them with what was presented. The signature is not yet checked.
    """

    offer: Offer
    payer: str
    valid_after: int
    valid_before: int
    nonce: str
    signature: bytes
    resource_url: str
    version: int
    sponsorship: Sponsorship | None = None
    #: The voucher, and the deposit that came with it, of a payment channel.
    channel: ChannelTerms | None = None
    #: What the view has charged of the offer's amount (the scheme ``upto``); None: all of it.
    charged: int | None = None

    @property
    def amount(self) -> int:
        """What is to be moved, in atomic units."""
        return self.offer.amount if self.charged is None else self.charged

    @property
    def due(self) -> Offer:
        """The offer with what is to be moved as its amount."""
        return self.offer if self.charged is None else replace(self.offer, amount=self.charged)

    @property
    def method(self) -> TransferMethod:
        """How its money is moved."""
        return self.offer.method

    #: What goes to the facilitator under the payload's ``extensions``, by key.
    extensions: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What the chain and the ledger allow once: ``(network, verifying_contract, payer,
        nonce)``.

        Nonces are kept by the contract that verifies the signature: for each payer, by the token
        (EIP-3009), or by Permit2 for all tokens together.
        """
        return (self.offer.network, self.offer.verifying_contract, self.payer, self.nonce)

    def payload_dict(self) -> dict[str, Any]:
        """The wire's ``payload``: ``signature`` and what was signed."""
        return self.method.payload(self)

    @property
    def sponsored(self) -> dict[str, Any]:
        """The approval that came with it as an entry of ``extensions``; empty if none did."""
        return {} if self.sponsorship is None else self.sponsorship.as_extensions()

    def snapshot(self) -> dict[str, Any]:
        """What the ledger keeps: the payload, and the approval that came with it, if one did."""
        payload = self.payload_dict()
        if self.sponsorship is not None:
            payload["extensions"] = self.sponsored
        return payload

    @classmethod
    def from_row(cls, payment: Payment) -> SignedPayment:
        """Rebuild what was claimed from its ledger row (its requirements and payload snapshots)."""
        terms = method_of(payment.payload).read(payment.payload, payment.scheme)
        return cls(
            offer=Offer.from_v2(
                payment.requirements,
                decimals=payment.asset_decimals,
                symbol=payment.asset_symbol,
                facilitator=payment.facilitator,
                method_id=payment.method_id,
            ),
            payer=terms.payer,
            valid_after=terms.valid_after,
            valid_before=terms.valid_before or payment.valid_before,
            nonce=terms.nonce,
            signature=terms.signature,
            resource_url=payment.resource_url,
            version=payment.x402_version,
            sponsorship=Sponsorship.from_extensions(payment.payload.get("extensions")),
            channel=terms.channel,
            charged=payment.amount if payment.scheme == SCHEME_UPTO else None,
            extensions=payment.extensions,
        )


@dataclass(frozen=True, slots=True)
class Settlement:
    """Where on chain a payment was settled, as far as the facilitator knows.

    ``transaction`` is a 0x-hex hash. The rest is None until the chain was asked.
    """

    transaction: str
    block_number: int | None = None
    block_hash: str | None = None
    log_index: int | None = None


def native_method(network: str) -> str:
    """The transfer method of ``network`` (CAIP-2) where nothing names another."""
    return solana.Solana.name if networks.is_solana(network) else TRANSFER_EIP3009
