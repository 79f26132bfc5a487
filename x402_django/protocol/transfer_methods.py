"""How the money of a payment is moved: what the payer signs, and how it is written on the wire.

============ ======================================================================
``eip3009``  the token itself moves it (``transferWithAuthorization``)
``permit2``  Permit2 moves it, through the proxy of the payment's scheme
``channel``  a voucher of a payment channel is good for it (``channels``)
============ ======================================================================

A method is a row of this table and of the one in ``chain.methods``, which knows what proves it on
chain. Nothing here loads the SDK or asks a network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from x402_django.constants import (
    EXACT_PROXY_ADDRESS,
    PERMIT2_ADDRESS,
    SCHEME_EXACT,
    SCHEME_UPTO,
    TRANSFER_EIP3009,
    TRANSFER_PERMIT2,
    UPTO_PROXY_ADDRESS,
    Code,
)
from x402_django.protocol import strict
from x402_django.protocol.typed_data import address_word, domain_separator, struct_hash, word

if TYPE_CHECKING:
    from x402_django.protocol.channels import ChannelTerms
    from x402_django.protocol.types import Offer, SignedPayment

#: The spender that payers sign for, by scheme.
PROXIES: Final = {SCHEME_EXACT: EXACT_PROXY_ADDRESS, SCHEME_UPTO: UPTO_PROXY_ADDRESS}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a payload says, in one form for all methods; nothing in it is believed yet.

    ``nonce`` is 32 bytes as 0x-hex, lower case. ``asset``, ``spender`` and ``settler`` (who alone
    may settle) are None where the method's payloads do not name them.
    """

    payer: str
    to: str
    value: int
    valid_after: int
    valid_before: int
    nonce: str
    signature: bytes
    asset: str | None = None
    spender: str | None = None
    settler: str | None = None
    channel: ChannelTerms | None = None


@dataclass(frozen=True, slots=True)
class Codes:
    """The specification's codes for what can be wrong with a payload of a method."""

    recipient: str
    value: str
    valid_after: str
    valid_before: str
    signature: str


class TransferMethod(ABC):
    """One way of moving money by the payer's signature.

    ``name`` is the protocol's (``assetTransferMethod``); ``key`` is where the wire's ``payload``
    holds what was signed.
    """

    name: str
    key: str
    #: The CAIP-2 namespace of the networks it exists on.
    namespace: str = "eip155"
    schemes: frozenset[str]
    #: Whether payers sign for the wallet that settles, whatever the scheme.
    names_settler: bool = False
    #: Whether version 1 of the protocol knows it.
    in_v1: bool = False
    codes: Codes
    #: Seconds for which a payment can be settled, where its payload does not say; 0 where it does.
    lifetime: int = 0

    @abstractmethod
    def read(self, payload: Mapping[str, Any], scheme: str) -> Terms:
        """Decode a ``payload``. Raises MalformedPayment unless it is exactly of this method."""

    @abstractmethod
    def payload(self, signed: SignedPayment) -> dict[str, Any]:
        """The wire's ``payload`` of a payment; recipient, amount and token are the offer's."""

    def wire_extra(self, offer: Offer) -> dict[str, Any]:
        """An offer's whole ``extra``."""
        return {
            "name": offer.asset_name,
            "version": offer.asset_version,
            **self.offer_extra(offer),
        }

    @abstractmethod
    def offer_extra(self, offer: Offer) -> dict[str, Any]:
        """What an offer's ``extra`` says beside the token's name and version."""

    @abstractmethod
    def verifying_contract(self, asset: str) -> str:
        """The contract in whose EIP-712 domain is signed: it allows a payer each nonce once."""

    @abstractmethod
    def digest(self, signed: SignedPayment) -> bytes:
        """The 32 bytes that the payer signed (EIP-712)."""

    def pays_to(self, terms: Terms, offer: Offer) -> bool:
        """Whether the money goes to the offer's payee."""
        return terms.to == offer.pay_to

    def pays_amount(self, terms: Terms, offer: Offer) -> bool:
        """Whether it is for the amount asked for, as far as the payload alone can tell."""
        return terms.value == offer.amount

    def is_signed(self, signed: SignedPayment) -> bool | None:
        """Whether the payer signed it, where the method has signatures of its own; None: ECDSA."""
        return None

    def mismatch(self, terms: Terms, offer: Offer) -> str | None:
        """The code of the first field, beside payee and amount, that is not the offer's."""
        return None


class Eip3009(TransferMethod):
    """``transferWithAuthorization`` of the token (EIP-3009)."""

    name = TRANSFER_EIP3009
    key = "authorization"
    in_v1 = True
    schemes = frozenset({SCHEME_EXACT})
    codes = Codes(
        recipient=Code.INVALID_RECIPIENT,
        value=Code.INVALID_VALUE,
        valid_after=Code.INVALID_VALID_AFTER,
        valid_before=Code.INVALID_VALID_BEFORE,
        signature=Code.INVALID_SIGNATURE,
    )
    _FIELDS: Final = frozenset({"from", "to", "value", "validAfter", "validBefore", "nonce"})
    _TYPE: Final = (
        b"TransferWithAuthorization(address from,address to,uint256 value,"
        b"uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    )

    def read(self, payload: Mapping[str, Any], scheme: str) -> Terms:
        authorization = strict.mapping(payload, self.key)
        if authorization.keys() != self._FIELDS:
            strict.malformed("'authorization' must have exactly the fields of EIP-3009.")
        return Terms(
            payer=strict.address(authorization, "from"),
            to=strict.address(authorization, "to"),
            value=strict.uint256(authorization, "value"),
            valid_after=strict.uint256(authorization, "validAfter"),
            valid_before=strict.uint256(authorization, "validBefore"),
            nonce=strict.bytes32(authorization, "nonce"),
            signature=strict.signature(payload, "signature"),
        )

    def payload(self, signed: SignedPayment) -> dict[str, Any]:
        return {
            "signature": "0x" + signed.signature.hex(),
            self.key: {
                "from": signed.payer,
                "to": signed.offer.pay_to,
                "value": str(signed.offer.amount),
                "validAfter": str(signed.valid_after),
                "validBefore": str(signed.valid_before),
                "nonce": signed.nonce,
            },
        }

    def offer_extra(self, offer: Offer) -> dict[str, str]:
        return {}

    def verifying_contract(self, asset: str) -> str:
        return asset

    def digest(self, signed: SignedPayment) -> bytes:
        offer = signed.offer
        return struct_hash(
            self._TYPE,
            address_word(signed.payer),
            address_word(offer.pay_to),
            word(offer.amount),
            word(signed.valid_after),
            word(signed.valid_before),
            bytes.fromhex(signed.nonce[2:]),
            domain=domain_separator(
                offer.asset_name, offer.asset_version, offer.network, offer.asset
            ),
        )


class Permit2(TransferMethod):
    """``permitWitnessTransferFrom`` of Permit2, with the proxy of the scheme as the spender.

    Its nonces are the owner's, whatever the token and the spender, and have no order. Its
    ``deadline`` is ``valid_before`` here (a second later, which nobody counts on).
    """

    name = TRANSFER_PERMIT2
    key = "permit2Authorization"
    schemes = frozenset(PROXIES)
    codes = Codes(
        recipient="invalid_permit2_recipient_mismatch",
        value="permit2_amount_mismatch",
        valid_after="permit2_not_yet_valid",
        valid_before="permit2_deadline_expired",
        signature="invalid_permit2_signature",
    )
    _FIELDS: Final = frozenset({"from", "permitted", "spender", "nonce", "deadline", "witness"})
    _WITNESS_FIELDS: Final = {
        SCHEME_EXACT: frozenset({"to", "validAfter"}),
        SCHEME_UPTO: frozenset({"to", "facilitator", "validAfter"}),
    }
    _PERMITTED: Final = b"TokenPermissions(address token,uint256 amount)"
    _WITNESS: Final = {
        SCHEME_EXACT: b"Witness(address to,uint256 validAfter)",
        SCHEME_UPTO: b"Witness(address to,address facilitator,uint256 validAfter)",
    }
    _PERMIT: Final = (
        b"PermitWitnessTransferFrom(TokenPermissions permitted,address spender,"
        b"uint256 nonce,uint256 deadline,Witness witness)"
    )

    def read(self, payload: Mapping[str, Any], scheme: str) -> Terms:
        permit = strict.mapping(payload, self.key)
        permitted = strict.mapping(permit, "permitted")
        witness = strict.mapping(permit, "witness")
        if (
            permit.keys() != self._FIELDS
            or permitted.keys() != {"token", "amount"}
            or witness.keys() != self._WITNESS_FIELDS[scheme]
        ):
            strict.malformed(f"'{self.key}' must have exactly the fields of the scheme '{scheme}'.")
        return Terms(
            payer=strict.address(permit, "from"),
            to=strict.address(witness, "to"),
            value=strict.uint256(permitted, "amount"),
            valid_after=strict.uint256(witness, "validAfter"),
            valid_before=strict.uint256(permit, "deadline"),
            nonce=f"0x{strict.uint256(permit, 'nonce'):064x}",
            signature=strict.signature(payload, "signature"),
            asset=strict.address(permitted, "token"),
            spender=strict.address(permit, "spender"),
            settler=strict.address(witness, "facilitator") if scheme == SCHEME_UPTO else None,
        )

    def payload(self, signed: SignedPayment) -> dict[str, Any]:
        offer = signed.offer
        witness = {"to": offer.pay_to, "validAfter": str(signed.valid_after)}
        if offer.scheme == SCHEME_UPTO:
            witness["facilitator"] = offer.settler
        return {
            "signature": "0x" + signed.signature.hex(),
            self.key: {
                "from": signed.payer,
                "permitted": {"token": offer.asset, "amount": str(offer.amount)},
                "spender": PROXIES[offer.scheme],
                "nonce": str(int(signed.nonce, 16)),
                "deadline": str(signed.valid_before),
                "witness": witness,
            },
        }

    def offer_extra(self, offer: Offer) -> dict[str, str]:
        extra = {"assetTransferMethod": self.name}
        if offer.scheme == SCHEME_UPTO:
            extra["facilitatorAddress"] = offer.settler
        return extra

    def verifying_contract(self, asset: str) -> str:
        return PERMIT2_ADDRESS

    def digest(self, signed: SignedPayment) -> bytes:
        offer = signed.offer
        settler = [address_word(offer.settler)] if offer.scheme == SCHEME_UPTO else []
        witness_type = self._WITNESS[offer.scheme]
        return struct_hash(
            self._PERMIT + self._PERMITTED + witness_type,
            struct_hash(self._PERMITTED, address_word(offer.asset), word(offer.amount)),
            address_word(PROXIES[offer.scheme]),
            bytes.fromhex(signed.nonce[2:]),
            word(signed.valid_before),
            struct_hash(
                witness_type, address_word(offer.pay_to), *settler, word(signed.valid_after)
            ),
            domain=domain_separator("Permit2", None, offer.network, PERMIT2_ADDRESS),
        )

    def mismatch(self, terms: Terms, offer: Offer) -> str | None:
        if terms.spender != PROXIES[offer.scheme]:
            return "invalid_permit2_spender"
        if terms.asset != offer.asset:
            return "permit2_token_mismatch"
        if offer.scheme == SCHEME_UPTO and terms.settler != offer.settler:
            return "upto_facilitator_mismatch"
        return None


METHODS: Final[dict[str, TransferMethod]] = {
    method.name: method for method in (Eip3009(), Permit2())
}


def register(method: TransferMethod) -> None:
    """Add a method to the table. Called where it is written, as the package is imported."""
    METHODS[method.name] = method


def method_of(payload: Mapping[str, Any]) -> TransferMethod:
    """The method of a wire's or a ledger row's ``payload``, by the key that it has.

    Raises MalformedPayment if it has none of the keys, or several.
    """
    found = [method for method in METHODS.values() if method.key in payload]
    if len(found) > 1:
        strict.malformed("'payload' has two kinds of authorization.")
    return found[0] if found else METHODS[TRANSFER_EIP3009]
