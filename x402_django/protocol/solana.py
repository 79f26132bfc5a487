"""Payments on Solana: the scheme ``exact`` on ``solana:…`` (x402 v2, "exact" on SVM).

The payer signs a whole transaction that moves the tokens and names a *fee payer*, a wallet of the
facilitator, which signs it too and sends it. What is looked at here before anybody is asked is all
of it: two signers, the instructions that a payment has and no others, mint, destination, amount,
decimals, the price of computing, that the fee payer is in none of the instructions, and the payer's
signature (Ed25519).

What identifies a payment is the SHA-256 of the message that is signed: signatures beside it (the
fee payer's slot is anybody's to fill) change nothing. A message names a recent block hash, so it
can be sent for a minute or two and no longer; the durable nonces that would make it live for ever
need an instruction that a payment does not have.

Addresses are base58, and their letter case counts. ``solders`` (the extra ``svm``) is loaded when
first needed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NoReturn

from x402_django import libraries
from x402_django.constants import SCHEME_EXACT, TRANSFER_SOLANA
from x402_django.exceptions import PaymentRefused
from x402_django.protocol import strict
from x402_django.protocol.base58 import is_solana_available
from x402_django.protocol.transfer_methods import Codes, Terms, TransferMethod, register

if TYPE_CHECKING:
    from x402_django.protocol.types import Offer, SignedPayment

#: Bytes of the largest transaction that the network carries.
MAX_TRANSACTION: Final = 1232
#: Seconds for which a transaction can be sent: 150 blocks after the one it names, and some room.
LIFETIME: Final = 150

_COMPUTE_BUDGET: Final = "ComputeBudget111111111111111111111111111111"
_TOKEN_PROGRAMS: Final = (
    "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA",
    "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb",
)
#: What wallets may add: assertions of the wallet itself (Lighthouse), and a memo.
_HARMLESS: Final = (
    "L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95",
    "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr",
)
_MOST_INSTRUCTIONS: Final = 6
_TRANSFER_CHECKED: Final = 12
#: Micro-lamports per unit of computing, of which the fee payer pays the sum.
_MOST_UNIT_PRICE: Final = 5_000_000

_PREFIX: Final = "invalid_exact_svm_payload"


@dataclass(frozen=True, slots=True)
class TokenTransfer:
    """What a payment's transaction says. Addresses are base58, ``amount`` is atomic units.

    ``message`` are the bytes that are signed. Nothing of it is believed yet.
    """

    fee_payer: str
    payer: str
    mint: str
    destination: str
    token_program: str
    amount: int
    decimals: int
    message: bytes
    signature: bytes

    @property
    def key(self) -> str:
        """0x-hex SHA-256 of the message: what the network and the ledger allow once."""
        return "0x" + hashlib.sha256(self.message).hexdigest()


class Solana(TransferMethod):
    """``TransferChecked`` of a token program, in a transaction that the facilitator sends."""

    name = TRANSFER_SOLANA
    key = "transaction"
    namespace = "solana"
    schemes = frozenset({SCHEME_EXACT})
    in_v1 = True
    names_settler = True
    lifetime = LIFETIME
    codes = Codes(
        recipient=f"{_PREFIX}_recipient_mismatch",
        value=f"{_PREFIX}_amount_mismatch",
        valid_after=f"{_PREFIX}_expired",
        valid_before=f"{_PREFIX}_expired",
        signature=f"{_PREFIX}_signature",
    )

    def read(self, payload: Mapping[str, Any], scheme: str) -> Terms:
        """Raises PaymentRefused for a transaction that is no payment, or where none is taken."""
        raw = strict.decode_base64(strict.string(payload, self.key))
        transfer = read_transaction(raw)
        return Terms(
            payer=transfer.payer,
            to=transfer.destination,
            value=transfer.amount,
            valid_after=0,
            valid_before=0,
            nonce=transfer.key,
            signature=raw,
            asset=transfer.mint,
            settler=transfer.fee_payer,
        )

    def payload(self, signed: SignedPayment) -> dict[str, Any]:
        return {self.key: base64.b64encode(signed.signature).decode("ascii")}

    def wire_extra(self, offer: Offer) -> dict[str, str]:
        return {"feePayer": offer.settler}

    def offer_extra(self, offer: Offer) -> dict[str, str]:
        return self.wire_extra(offer)

    def verifying_contract(self, asset: str) -> str:
        return asset

    def digest(self, signed: SignedPayment) -> bytes:
        return bytes.fromhex(signed.nonce[2:])

    def pays_to(self, terms: Terms, offer: Offer) -> bool:
        """The tokens go to the payee's associated account for this token and program."""
        program = read_transaction(terms.signature).token_program
        return terms.to == token_account(offer.pay_to, offer.asset, program)

    def mismatch(self, terms: Terms, offer: Offer) -> str | None:
        if terms.asset != offer.asset:
            return f"{_PREFIX}_mint_mismatch"
        if read_transaction(terms.signature).decimals != offer.decimals:
            return f"{_PREFIX}_decimals_mismatch"
        if not offer.settler or terms.settler != offer.settler:
            return f"{_PREFIX}_fee_payer_mismatch"
        return None

    def is_signed(self, signed: SignedPayment) -> bool | None:
        libraries.load_solana()
        from solders.pubkey import Pubkey
        from solders.signature import Signature

        transfer = read_transaction(signed.signature)
        signature = Signature.from_bytes(transfer.signature)
        return signature.verify(Pubkey.from_string(transfer.payer), transfer.message)


@lru_cache(maxsize=4096)
def token_account(owner: str, mint: str, token_program: str) -> str:
    """The associated token account of ``owner``, to which payments for it go."""
    libraries.load_solana()
    from x402.mechanisms.svm.utils import derive_ata

    return str(derive_ata(owner, mint, token_program))


# Asked when a payment is presented, matched, verified and settled.
@lru_cache(maxsize=1024)
def read_transaction(raw: bytes) -> TokenTransfer:
    """Decode a serialised transaction that has the form of a payment.

    Raises:
        MalformedPayment: it is no transaction, or not in its canonical form.
        PaymentRefused: it does other things than a payment does, or none is taken here.
    """
    if not is_solana_available():
        raise PaymentRefused("Payments on Solana are not taken here.", code="invalid_network")
    libraries.load_solana()
    from solders.message import MessageV0, to_bytes_versioned
    from solders.transaction import VersionedTransaction

    if len(raw) > MAX_TRANSACTION:
        strict.malformed("'transaction' is larger than Solana's transactions are.")
    try:
        transaction = VersionedTransaction.from_bytes(raw)
    except ValueError:
        strict.malformed("'transaction' is not a transaction of Solana.")
    if bytes(transaction) != raw:
        strict.malformed("'transaction' is not in its canonical form.")
    message = transaction.message
    if isinstance(message, MessageV0) and message.address_table_lookups:
        _refuse("A payment's accounts must stand in its transaction.", "accounts")
    if len(message.account_keys) < 2 or message.header.num_required_signatures != 2:
        _refuse("A payment is signed by its payer and the fee payer, and nobody else.", "signers")
    accounts = [str(key) for key in message.account_keys]
    steps = [
        (accounts[step.program_id_index], list(step.accounts), bytes(step.data))
        for step in message.instructions
        if max((step.program_id_index, *step.accounts)) < len(accounts)
    ]
    if len(steps) != len(message.instructions):
        strict.malformed("'transaction' names accounts that it does not have.")
    _check_steps(steps)
    program, indexes, data = steps[2]
    _source, mint, destination, owner = indexes
    if owner != 1:
        _refuse("The tokens are not the signer's.", "payer")
    return TokenTransfer(
        fee_payer=accounts[0],
        payer=accounts[owner],
        mint=accounts[mint],
        destination=accounts[destination],
        token_program=program,
        amount=int.from_bytes(data[1:9], "little"),
        decimals=data[9],
        message=bytes(to_bytes_versioned(message)),
        signature=bytes(transaction.signatures[owner]),
    )


def _check_steps(steps: Sequence[tuple[str, list[int], bytes]]) -> None:
    """The instructions of a payment, in their order: a limit, a price, the transfer, assertions."""
    if not 3 <= len(steps) <= _MOST_INSTRUCTIONS:
        _refuse("A payment has three to six instructions.", "instructions_length")
    if any(0 in indexes for _, indexes, _ in steps):
        _refuse("The fee payer must not take part in a payment.", "fee_payer_transferring_funds")
    limit, price, transfer, *others = steps
    if limit[0] != _COMPUTE_BUDGET or len(limit[2]) != 5 or limit[2][0] != 2:
        _refuse("The first instruction must limit computing.", "compute_limit_instruction")
    if price[0] != _COMPUTE_BUDGET or len(price[2]) != 9 or price[2][0] != 3:
        _refuse("The second instruction must price computing.", "compute_price_instruction")
    if int.from_bytes(price[2][1:], "little") > _MOST_UNIT_PRICE:
        _refuse("The price of computing is too high.", "compute_price_instruction_too_high")
    program, indexes, data = transfer
    if (
        program not in _TOKEN_PROGRAMS
        or len(data) != 10
        or data[0] != _TRANSFER_CHECKED
        or len(indexes) != 4
    ):
        _refuse("The third instruction must be a TransferChecked.", "no_transfer_instruction")
    if indexes[0] == indexes[2]:
        _refuse("The tokens stay where they are.", "no_transfer_instruction")
    if any(program not in _HARMLESS for program, _, _ in others):
        _refuse("A payment does nothing beside the transfer.", "unknown_instruction")


def _refuse(sentence: str, code: str) -> NoReturn:
    raise PaymentRefused(sentence, code=f"{_PREFIX}_{code}")


register(Solana())
