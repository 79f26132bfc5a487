"""Payment channels: the scheme ``batch-settlement`` on EVM networks (x402 v2).

A payer deposits once, into an escrow that is the same contract everywhere, and then signs
vouchers: each says how much of the deposit the receiver may have *in all*. Nothing is sent to the
chain until the receiver claims by the newest voucher.

A voucher has no nonce. What it says, and for which channel, can be said once in this ledger, so its
key is the hash of both. Nothing here loads the SDK or asks a network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from x402_django.constants import (
    ESCROW_ADDRESS,
    SCHEME_BATCH,
    TRANSFER_CHANNEL,
    TRANSFER_EIP3009,
    Code,
)
from x402_django.exceptions import PaymentRefused
from x402_django.protocol import strict
from x402_django.protocol.transfer_methods import Codes, Terms, TransferMethod, register
from x402_django.protocol.typed_data import (
    address_word,
    domain_separator,
    keccak,
    struct_hash,
    word,
)

if TYPE_CHECKING:
    from x402_django.protocol.types import Offer, SignedPayment

#: An offer asks for a deposit of so many times its amount, as the official servers do.
DEPOSIT_MULTIPLE: Final = 10
#: Vouchers do not expire: the last second of the year 9999.
NEVER: Final = 253_402_300_799
UINT128_MAX: Final = 2**128 - 1
_ZERO: Final = "0x" + "0" * 40

_CONFIG_TYPE: Final = (
    b"ChannelConfig(address payer,address payerAuthorizer,address receiver,"
    b"address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
)
_VOUCHER_TYPE: Final = b"Voucher(bytes32 channelId,uint128 maxClaimableAmount)"
_CONFIG_FIELDS: Final = frozenset(
    {"payer", "payerAuthorizer", "receiver", "receiverAuthorizer", "token", "withdrawDelay", "salt"}
)


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """What a channel is, for ever: the escrow knows it by the hash of this.

    ``payer_authorizer`` signs the vouchers, and is mostly the payer; ``receiver_authorizer`` may
    claim and give back. Addresses are checksummed, ``withdraw_delay`` is seconds.
    """

    payer: str
    payer_authorizer: str
    receiver: str
    receiver_authorizer: str
    token: str
    withdraw_delay: int
    salt: str

    def channel_id(self, network: str) -> str:
        """Its name on ``network`` (CAIP-2): 32 bytes as 0x-hex (EIP-712)."""
        digest = struct_hash(
            _CONFIG_TYPE,
            address_word(self.payer),
            address_word(self.payer_authorizer),
            address_word(self.receiver),
            address_word(self.receiver_authorizer),
            address_word(self.token),
            word(self.withdraw_delay),
            bytes.fromhex(self.salt[2:]),
            domain=_domain(network),
        )
        return "0x" + digest.hex()

    def as_wire(self) -> dict[str, Any]:
        """The wire's ``channelConfig``."""
        return {
            "payer": self.payer,
            "payerAuthorizer": self.payer_authorizer,
            "receiver": self.receiver,
            "receiverAuthorizer": self.receiver_authorizer,
            "token": self.token,
            "withdrawDelay": self.withdraw_delay,
            "salt": self.salt,
        }

    def as_tuple(self) -> tuple[Any, ...]:
        """As the escrow's functions take it."""
        return (
            self.payer,
            self.payer_authorizer,
            self.receiver,
            self.receiver_authorizer,
            self.token,
            self.withdraw_delay,
            bytes.fromhex(self.salt[2:]),
        )

    @classmethod
    def from_wire(cls, config: Mapping[str, Any]) -> ChannelConfig:
        """Raises MalformedPayment."""
        if config.keys() != _CONFIG_FIELDS:
            strict.malformed("'channelConfig' must have exactly the fields of a channel.")
        delay = strict.whole_number(config, "withdrawDelay")
        if delay >= 2**40:
            strict.malformed("'withdrawDelay' is larger than a uint40.")
        return cls(
            payer=strict.address(config, "payer"),
            payer_authorizer=strict.address(config, "payerAuthorizer"),
            receiver=strict.address(config, "receiver"),
            receiver_authorizer=strict.address(config, "receiverAuthorizer"),
            token=strict.address(config, "token"),
            withdraw_delay=delay,
            salt=strict.bytes32(config, "salt"),
        )


@dataclass(frozen=True, slots=True)
class Deposit:
    """The payer's authorization (EIP-3009) that brings ``amount`` into a channel."""

    amount: int
    valid_after: int
    valid_before: int
    salt: str
    signature: bytes

    def nonce(self, channel_id: str) -> str:
        """The authorization's nonce, which names the channel: 0x-hex."""
        digest = keccak()(bytes.fromhex(channel_id[2:]) + bytes.fromhex(self.salt[2:]))
        return "0x" + digest.hex()

    def as_wire(self) -> dict[str, Any]:
        """The wire's ``deposit``."""
        return {
            "amount": str(self.amount),
            "authorization": {
                "erc3009Authorization": {
                    "validAfter": str(self.valid_after),
                    "validBefore": str(self.valid_before),
                    "salt": self.salt,
                    "signature": "0x" + self.signature.hex(),
                }
            },
        }

    @classmethod
    def from_wire(cls, deposit: Mapping[str, Any]) -> Deposit:
        """Raises MalformedPayment, and PaymentRefused for a way of depositing not taken here."""
        authorization = strict.mapping(deposit, "authorization")
        if authorization.get("erc3009Authorization") is None:
            raise PaymentRefused(
                "Deposits are taken by EIP-3009 authorizations alone.", code=Code.CHANNEL_PAYLOAD
            )
        by_token = strict.mapping(authorization, "erc3009Authorization")
        return cls(
            amount=_uint128(deposit, "amount"),
            valid_after=strict.uint256(by_token, "validAfter"),
            valid_before=strict.uint256(by_token, "validBefore"),
            salt=strict.bytes32(by_token, "salt"),
            signature=strict.signature(by_token, "signature"),
        )


@dataclass(frozen=True, slots=True)
class ChannelTerms:
    """A voucher, for ``maximum`` in all, and the deposit that came with it, if one did."""

    config: ChannelConfig
    channel_id: str
    maximum: int
    deposit: Deposit | None = None

    def key(self) -> str:
        """What the ledger knows the payment by: 0x-hex.

        With the deposit's nonce: where a deposit has failed for good, the same voucher may come
        with another one. That it is spent once, the channel's count sees to.
        """
        named = bytes.fromhex(self.channel_id[2:]) + word(self.maximum)
        if self.deposit is not None:
            named += bytes.fromhex(self.deposit.nonce(self.channel_id)[2:])
        return "0x" + keccak()(named).hex()


class Channel(TransferMethod):
    """By a voucher of a payment channel, in the scheme ``batch-settlement``."""

    name = TRANSFER_CHANNEL
    key = "channelConfig"
    schemes = frozenset({SCHEME_BATCH})
    names_settler = True
    codes = Codes(
        recipient=Code.CHANNEL_RECEIVER,
        value=Code.CHANNEL_MISMATCH,
        valid_after=Code.DEPOSIT_VALID_AFTER,
        valid_before=Code.DEPOSIT_VALID_BEFORE,
        signature=Code.CHANNEL_SIGNATURE,
    )

    def read(self, payload: Mapping[str, Any], scheme: str) -> Terms:
        """Raises PaymentRefused for what is neither a voucher nor a deposit, too."""
        kind = strict.string(payload, "type")
        if kind not in ("voucher", "deposit"):
            raise PaymentRefused(
                "Only vouchers, and deposits with one, are taken here.", code=Code.CHANNEL_PAYLOAD
            )
        config = ChannelConfig.from_wire(strict.mapping(payload, self.key))
        voucher = strict.mapping(payload, "voucher")
        deposit = None
        if kind == "deposit":
            deposit = Deposit.from_wire(strict.mapping(payload, "deposit"))
        terms = ChannelTerms(
            config=config,
            channel_id=strict.bytes32(voucher, "channelId"),
            maximum=_uint128(voucher, "maxClaimableAmount"),
            deposit=deposit,
        )
        return Terms(
            payer=config.payer,
            to=config.receiver,
            value=terms.maximum,
            valid_after=0 if deposit is None else deposit.valid_after,
            valid_before=NEVER if deposit is None else deposit.valid_before,
            nonce=terms.key(),
            signature=strict.signature(voucher, "signature"),
            asset=config.token,
            settler=config.receiver_authorizer,
            channel=terms,
        )

    def payload(self, signed: SignedPayment) -> dict[str, Any]:
        terms = terms_of(signed)
        payload: dict[str, Any] = {
            "type": "voucher" if terms.deposit is None else "deposit",
            self.key: terms.config.as_wire(),
            "voucher": {
                "channelId": terms.channel_id,
                "maxClaimableAmount": str(terms.maximum),
                "signature": "0x" + signed.signature.hex(),
            },
        }
        if terms.deposit is not None:
            payload["deposit"] = terms.deposit.as_wire()
        return payload

    def offer_extra(self, offer: Offer) -> dict[str, Any]:
        return {
            "assetTransferMethod": TRANSFER_EIP3009,  # of the deposit
            "receiverAuthorizer": offer.settler,
            "withdrawDelay": offer.withdraw_delay,
            "minDeposit": str(offer.amount * DEPOSIT_MULTIPLE),
            **(json.loads(offer.channel_state) if offer.channel_state else {}),
        }

    def verifying_contract(self, asset: str) -> str:
        return ESCROW_ADDRESS

    def digest(self, signed: SignedPayment) -> bytes:
        terms = terms_of(signed)
        return voucher_digest(signed.offer.network, terms.channel_id, terms.maximum)

    def pays_amount(self, terms: Terms, offer: Offer) -> bool:
        """What it adds to the vouchers before it, only the channel's own row can tell."""
        return terms.value >= offer.amount

    def is_signed(self, signed: SignedPayment) -> bool | None:
        return _is_signed(signed.offer.network, terms_of(signed), signed.signature)

    def mismatch(self, terms: Terms, offer: Offer) -> str | None:
        channel = terms.channel
        if channel is None:
            return Code.CHANNEL_PAYLOAD
        config = channel.config
        if config.payer_authorizer == _ZERO:  # vouchers by contract wallets are not taken
            return Code.CHANNEL_SIGNATURE
        if config.token != offer.asset:
            return Code.CHANNEL_TOKEN
        if config.receiver_authorizer != offer.settler:
            return Code.CHANNEL_AUTHORIZER
        if config.withdraw_delay != offer.withdraw_delay:
            return Code.CHANNEL_DELAY
        if config.channel_id(offer.network) != channel.channel_id:
            return Code.CHANNEL_ID
        # Here, before anything is written: a voucher's name in the ledger can be guessed, so what
        # strangers make up must not stand in the way of the payer's own.
        if not _is_signed(offer.network, channel, terms.signature):
            return Code.CHANNEL_SIGNATURE
        return None


def terms_of(signed: SignedPayment) -> ChannelTerms:
    """The voucher of a payment of this scheme. Raises PaymentRefused for one of another."""
    if signed.channel is None:
        raise PaymentRefused("This is no payment by a channel.", code=Code.CHANNEL_PAYLOAD)
    return signed.channel


def voucher_digest(network: str, channel_id: str, maximum: int) -> bytes:
    """The 32 bytes that are signed for ``maximum`` of a channel in all (EIP-712)."""
    return struct_hash(
        _VOUCHER_TYPE, bytes.fromhex(channel_id[2:]), word(maximum), domain=_domain(network)
    )


def _is_signed(network: str, terms: ChannelTerms, signature: bytes) -> bool:
    """Whether the escrow would take it: the key's own, canonical, with a ``v`` of 27 or 28."""
    from x402_django.protocol.signatures import recover_signer

    if len(signature) != 65 or signature[64] not in (27, 28):
        return False
    digest = voucher_digest(network, terms.channel_id, terms.maximum)
    try:
        return recover_signer(digest, signature) == terms.config.payer_authorizer
    except PaymentRefused:  # malleable
        return False


def _domain(network: str) -> bytes:
    return domain_separator("x402 Batch Settlement", "1", network, ESCROW_ADDRESS)


def _uint128(parent: Mapping[str, Any], key: str) -> int:
    number = strict.uint256(parent, key)
    if number > UINT128_MAX:
        strict.malformed(f"'{key}' is larger than a uint128.")
    return number


register(Channel())
