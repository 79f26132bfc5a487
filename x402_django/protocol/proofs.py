"""Transfer proofs on the wire: the challenge a site gives, and the proof that comes back.

For agents that send their own ERC-20 transfer. A challenge is ``X-402-Required``, a JSON object;
its ``challengeId`` is the site's own signature over what is asked and for which request, so
nothing is stored until somebody has paid. A proof is ``X-402-Proof`` (or ``X-Payment-Proof``), a
JSON object too. The whole is described in docs/transfer-proofs.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, Final

from django.core.signing import BadSignature, Signer

from x402_django import conf
from x402_django.constants import PROOF_HEADERS, Code
from x402_django.exceptions import MalformedPayment, PaymentRefused
from x402_django.protocol import strict
from x402_django.protocol.networks import parse_chain_id
from x402_django.protocol.signatures import personal_message_digest

_SALT: Final = "x402_django.protocol.proofs.challenge"
_CHALLENGE_ID: Final = re.compile(r"[A-Za-z0-9_:=-]{1,2048}")
#: Where a server has joined two headers of this name, or a client two proofs.
_JOINED: Final = re.compile(r"\}\s*,\s*\{")


@dataclass(frozen=True, slots=True)
class TransferChallenge:
    """What one request costs as a transfer, as the site has signed it.

    Args:
        fingerprint: of the request (hex SHA-256); a proof buys nothing else.
        network: CAIP-2.
        asset, pay_to: checksummed addresses.
        amount: the least that must be transferred, in atomic units.
        decimals, symbol: of the token.
        price_usd: the price in dollars as a decimal string; None for a price in token units.
        issued, expires: seconds since the epoch; the transfer must be mined between them.
    """

    fingerprint: str
    network: str
    asset: str
    pay_to: str
    amount: int
    decimals: int
    symbol: str
    price_usd: str | None
    issued: int
    expires: int

    def to_id(self) -> str:
        """The ``challengeId``: this challenge under the site's signature, ASCII."""
        return Signer(salt=_SALT).sign_object(list(astuple(self)))

    @classmethod
    def from_id(cls, challenge_id: str) -> TransferChallenge:
        """What ``to_id`` signed. Raises PaymentRefused (``invalid_challenge``) for all else."""
        try:
            return cls(*Signer(salt=_SALT).unsign_object(challenge_id))
        except (BadSignature, TypeError, ValueError):
            # The latter two: signed by an earlier version of this app, in another shape.
            raise PaymentRefused(
                "The challenge is not one of this site's.", code=Code.INVALID_CHALLENGE
            ) from None

    @property
    def payment_uri(self) -> str:
        """The transfer as an EIP-681 URI, which wallets open."""
        return (
            f"ethereum:{self.asset}@{parse_chain_id(self.network)}/transfer"
            f"?address={self.pay_to}&uint256={self.amount}"
        )

    def document(self) -> dict[str, Any]:
        """What ``X-402-Required`` names, as a JSON object."""
        return {
            "amount": str(self.amount),
            "asset": self.asset,
            "payTo": self.pay_to,
            "chainId": parse_chain_id(self.network),
            "challengeId": self.to_id(),
            "paymentUri": self.payment_uri,
            "expires": self.expires,
        }

    def header_value(self) -> str:
        """The value of ``X-402-Required``: compact JSON, ASCII."""
        return json.dumps(self.document(), separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class TransferProof:
    """A strictly decoded proof. It is well-formed; nothing in it is believed yet.

    ``transaction`` is a lowercase 0x-hex hash; ``signature`` is None where there is none.
    """

    transaction: str
    chain_id: int
    challenge_id: str
    signature: bytes | None

    @property
    def nonce(self) -> str:
        """What the ledger knows this proof by: one transaction for one challenge.

        No authorization can have this nonce, which is the signer's to choose: theirs are 0x-hex.
        """
        return "t:" + _keccak(f"{self.transaction}\n{self.challenge_id}".encode()).hex()

    def payload_dict(self) -> dict[str, Any]:
        """The proof as the ledger keeps it, in the wire's names."""
        return {
            "txHash": self.transaction,
            "chainId": self.chain_id,
            "challengeId": self.challenge_id,
            "signature": None if self.signature is None else "0x" + self.signature.hex(),
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> TransferProof:
        """Rebuild what ``payload_dict`` wrote. Raises KeyError or ValueError for anything else."""
        signature = payload["signature"]
        return cls(
            transaction=payload["txHash"],
            chain_id=int(payload["chainId"]),
            challenge_id=payload["challengeId"],
            signature=None if signature is None else bytes.fromhex(signature[2:]),
        )


def read_proof_header(headers: Mapping[str, str]) -> TransferProof | None:
    """Decode the proof that a request carries; None if it carries none.

    Args:
        headers: those of ``constants.PROOF_HEADERS`` that the request has, by their names.

    Raises:
        MalformedPayment: not a well-formed proof, or more than one (answered 400).
    """
    values = [headers[name] for name in PROOF_HEADERS if name in headers]
    if not values:
        return None
    if len(values) > 1:
        raise MalformedPayment(
            f"Send either {PROOF_HEADERS[0]} or {PROOF_HEADERS[1]}, not both.",
            code=Code.AMBIGUOUS_HEADERS,
        )
    return _decode(values[0])


def proof_message(challenge_id: str, transaction: str) -> str:
    """The text that the sender of a transfer signs (EIP-191, ``personal_sign``)."""
    return f"x402 transfer proof\nchallenge: {challenge_id}\ntransaction: {transaction.lower()}"


def proof_digest(challenge_id: str, transaction: str) -> bytes:
    """The 32 bytes under the signature: EIP-191, version 0x45, of ``proof_message``."""
    return personal_message_digest(proof_message(challenge_id, transaction))


def _decode(value: str) -> TransferProof:
    limit = conf.x402.max_header_bytes
    if len(value) > limit:
        raise MalformedPayment(
            f"The payment header is longer than {limit} bytes.", code=Code.HEADER_TOO_LARGE
        )
    try:
        encoded = value.encode("ascii")
    except UnicodeEncodeError:
        strict.malformed("The payment header is not ASCII.")
    if _JOINED.search(value):
        raise MalformedPayment(
            "The payment header was sent more than once.", code=Code.AMBIGUOUS_HEADERS
        )
    data = strict.decode_json_object(encoded)
    challenge_id = strict.string(data, "challengeId")
    if _CHALLENGE_ID.fullmatch(challenge_id) is None:
        strict.malformed("'challengeId' is not one that a challenge names.")
    return TransferProof(
        transaction=strict.bytes32(data, "txHash"),
        chain_id=strict.whole_number(data, "chainId"),
        challenge_id=challenge_id,
        signature=None if data.get("signature") is None else strict.signature(data, "signature"),
    )


def _keccak(data: bytes) -> bytes:
    from eth_hash.auto import keccak  # not before it is needed

    return keccak(data)
