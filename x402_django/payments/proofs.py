"""Does a transaction pay what a challenge asked for, and was it the sender who says so?

Only the chain is believed: that the transfer is there, whose it is, and when it was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from x402_django.conf import x402
from x402_django.constants import SCHEME_TRANSFER, Code
from x402_django.exceptions import PaymentRefused, SettlementUnknown
from x402_django.models import Payment
from x402_django.protocol.proofs import TransferChallenge, TransferProof, proof_digest
from x402_django.protocol.signatures import recover_signer

if TYPE_CHECKING:
    from x402_django.chain.transfers import MinedTransfers, Transfer

#: Seconds by which a block's timestamp may lie before the challenge it answers: clocks differ,
#: and some chains stamp a block with the time at which it was begun.
CLOCK_SKEW: Final = 15
#: Contract wallets in one transaction that are asked whether they signed.
_MOST_WALLETS: Final = 4


@dataclass(frozen=True, slots=True)
class Evidence:
    """What must be on chain, and who must have signed for it.

    ``least`` is in atomic units; ``since`` is when the challenge was issued, in seconds.
    """

    network: str
    asset: str
    pay_to: str
    least: int
    since: int
    proof: TransferProof

    @classmethod
    def wanted(cls, challenge: TransferChallenge, proof: TransferProof) -> Evidence:
        """What ``proof`` must show to answer ``challenge``."""
        return cls(
            network=challenge.network,
            asset=challenge.asset,
            pay_to=challenge.pay_to,
            least=challenge.amount,
            since=challenge.issued,
            proof=proof,
        )

    @classmethod
    def of_row(cls, payment: Payment) -> Evidence:
        """The same, from the ledger: the site's signing key may have changed since."""
        return cls(
            network=payment.network,
            asset=payment.asset,
            pay_to=payment.pay_to,
            least=int(payment.requirements["amount"]),
            since=int(payment.payload["issuedAt"]),
            proof=TransferProof.from_payload(payment.payload),
        )

    @property
    def digest(self) -> bytes:
        """What the sender signed."""
        return proof_digest(self.proof.challenge_id, self.proof.transaction)

    def signer(self) -> str | None:
        """The account whose key signed the proof; None if it is no such signature.

        An account's own key answers for it also where it has code (EIP-7702): the key can send
        any transaction of that account.
        """
        if self.proof.signature is None:
            return None
        try:
            return recover_signer(self.digest, self.proof.signature)
        except PaymentRefused:  # not canonical: perhaps a wallet's own format of the same length
            return None

    def read(self) -> MinedTransfers | None:
        """The transaction, if it is mined. Raises RpcUnavailable."""
        from x402_django.chain import transfers  # loads web3: not before it is needed

        return transfers.read_transfers(
            self.network, self.proof.transaction, asset=self.asset, pay_to=self.pay_to
        )

    def is_awaited(self) -> bool:
        """Whether the node knows the transaction, not yet mined. Raises RpcUnavailable."""
        return self._known_sender() is not None

    def is_awaited_from_signer(self) -> bool:
        """Whether the node also says that the signer sent it. Raises RpcUnavailable."""
        sender = self._known_sender()
        return sender is not None and sender == self.signer()

    def _known_sender(self) -> str | None:
        from x402_django.chain import transfers  # loads web3: not before it is needed

        return transfers.sender_of_known(self.network, self.proof.transaction)

    def is_dropped(self, block_number: int | None, block_hash: str) -> bool:
        """Whether the block that held it is no longer part of the chain. Raises RpcUnavailable."""
        from x402_django.chain import transfers  # loads web3: not before it is needed

        if block_number is None:
            return True
        return transfers.is_block(self.network, block_number, block_hash) is False


def signed_transfers(evidence: Evidence, mined: MinedTransfers) -> list[Transfer]:
    """The transfers in ``mined`` that are enough and whose sender signed the proof.

    The one that exceeds the price least comes first.

    Raises:
        PaymentRefused: it reverted, holds no such transfer, or somebody else signed.
        RpcUnavailable: a contract wallet could not be asked.
    """
    if not mined.succeeded:
        raise PaymentRefused(
            "The transaction reverted; it moved no money.", code=Code.INVALID_TRANSACTION_STATE
        )
    enough = [transfer for transfer in mined.transfers if transfer.value >= evidence.least]
    if not enough:
        raise PaymentRefused(
            "The transaction holds no plain transfer of this token, to this payee, of at least "
            "this amount.",
            code=Code.TRANSFER_NOT_FOUND,
        )
    return sorted(_signed(evidence, enough), key=lambda one: (one.value, one.log_index))


def _signed(evidence: Evidence, transfers: Sequence[Transfer]) -> list[Transfer]:
    if evidence.proof.signature is None and x402.allow_unsigned_proofs:
        return list(transfers)
    signer = evidence.signer()
    own = [transfer for transfer in transfers if transfer.sender == signer]
    if own:
        return own
    for wallet in list(dict.fromkeys(transfer.sender for transfer in transfers))[:_MOST_WALLETS]:
        if is_signed_by_wallet(evidence, wallet):
            return [transfer for transfer in transfers if transfer.sender == wallet]
    raise PaymentRefused(
        "The proof is not signed by the sender of the transfer.",
        code=Code.INVALID_PROOF_SIGNATURE,
    )


def is_signed_by_wallet(evidence: Evidence, wallet: str) -> bool:
    """Whether a contract wallet takes the proof's signature for its own. Raises RpcUnavailable."""
    from x402_django.chain import transfers  # loads web3: not before it is needed

    signature = evidence.proof.signature
    if signature is None:
        return False
    return transfers.signed_by_contract(evidence.network, wallet, evidence.digest, signature)


def unused(
    transfers: Sequence[Transfer], mined: MinedTransfers, network: str, holder: Payment | None
) -> list[Transfer]:
    """Those of ``transfers`` that back no payment other than ``holder``.

    After a reorganisation a transaction may be in another block, and its logs have other numbers
    there. As long as the ledger has a *paid* one of its transfers by an old number, nobody new is
    given one: confirmation will renumber it.

    Raises:
        PaymentRefused: all have been used (``payment_already_used``).
        SettlementUnknown: which are used cannot be told until confirmation has caught up.
    """
    others = Payment.objects.filter(network=network, transaction=mined.transaction)
    if holder is not None:
        others = others.exclude(pk=holder.pk)
    was_paid = holder is not None and holder.settled_at is not None
    used = set()
    for other in others.only("scheme", "settled_at", "log_index", "block_hash"):
        is_here = other.block_hash == mined.block_hash and other.log_index is not None
        if is_here or other.scheme != SCHEME_TRANSFER:
            used.add(other.log_index)
        elif other.settled_at is not None and not was_paid:
            raise SettlementUnknown()
    free = [transfer for transfer in transfers if transfer.log_index not in used]
    if not free:
        raise PaymentRefused(
            "This transfer has paid for something else already.", code=Code.ALREADY_USED
        )
    return free


def refuse_older(evidence: Evidence, mined: MinedTransfers) -> None:
    """Raise PaymentRefused for a transfer that was made before its challenge was issued.

    Raises SettlementUnknown where that is not known.
    """
    if mined.timestamp is None:
        raise SettlementUnknown()
    if mined.timestamp < evidence.since - CLOCK_SKEW:
        raise PaymentRefused(
            "The transfer is older than the challenge it is to answer.",
            code=Code.TRANSFER_TOO_OLD,
        )
