"""What the rooms hand to each other: offers, payments, settlements.

Amounts are ``int`` atomic units, addresses EIP-55 checksummed, hashes and nonces lowercase
0x-hex, protocol timestamps whole seconds since the epoch. Nothing here loads the SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from x402_django.protocol import networks

if TYPE_CHECKING:
    from x402_django.models import Payment


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to pay that the site accepts (``PaymentRequirements``, x402 v2, section 5.1).

    ``asset_name`` and ``asset_version`` are the token's EIP-712 domain, from our own table and
    never from a client. ``facilitator`` is a settings alias and never leaves the site.
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
            "extra": {"name": self.asset_name, "version": self.asset_version},
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
        return cls(
            scheme=requirements["scheme"],
            network=requirements["network"],
            asset=requirements["asset"],
            amount=int(requirements["amount"]),
            pay_to=requirements["payTo"],
            max_timeout_seconds=int(requirements["maxTimeoutSeconds"]),
            asset_name=extra["name"],
            asset_version=extra["version"],
            decimals=decimals,
            symbol=symbol,
            facilitator=facilitator,
            method_id=method_id,
        )

    def as_v1(self, *, resource: str, description: str, mime_type: str) -> dict[str, Any] | None:
        """The offer as an entry of v1's ``accepts``; None where v1 has no name for the network.

        ``description`` and ``mimeType`` are always present: official v1 clients require them.
        """
        network = networks.v1_name(self.network)
        if network is None:
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
            "extra": {"name": self.asset_name, "version": self.asset_version},
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
    accepted: Mapping[str, Any] | None
    payer: str
    to: str
    value: int
    valid_after: int
    valid_before: int
    nonce: str
    signature: bytes
    resource_url: str | None = None
    extensions: Mapping[str, Any] = field(default_factory=dict)


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
    #: What goes to the facilitator under the payload's ``extensions``, by key.
    extensions: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """``(network, asset, payer, nonce)``: what the chain and the ledger allow once."""
        return (self.offer.network, self.offer.asset, self.payer, self.nonce)

    def payload_dict(self) -> dict[str, Any]:
        """The wire's ``payload`` (exact scheme on EVM): ``signature`` and ``authorization``."""
        return {
            "signature": "0x" + self.signature.hex(),
            "authorization": {
                "from": self.payer,
                "to": self.offer.pay_to,
                "value": str(self.offer.amount),
                "validAfter": str(self.valid_after),
                "validBefore": str(self.valid_before),
                "nonce": self.nonce,
            },
        }

    @classmethod
    def from_row(cls, payment: Payment) -> SignedPayment:
        """Rebuild what was claimed from its ledger row (its requirements and payload snapshots)."""
        authorization = payment.payload["authorization"]
        return cls(
            offer=Offer.from_v2(
                payment.requirements,
                decimals=payment.asset_decimals,
                symbol=payment.asset_symbol,
                facilitator=payment.facilitator,
                method_id=payment.method_id,
            ),
            payer=authorization["from"],
            valid_after=int(authorization["validAfter"]),
            valid_before=int(authorization["validBefore"]),
            nonce=authorization["nonce"],
            signature=bytes.fromhex(payment.payload["signature"].removeprefix("0x")),
            resource_url=payment.resource_url,
            version=payment.x402_version,
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
