"""What Solana does with a payment: signatures (Ed25519) and balances are real, the rest is not."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from solders.hash import Hash
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from x402.mechanisms.svm.constants import TOKEN_PROGRAM_ADDRESS
from x402.mechanisms.svm.utils import derive_ata, extract_transaction_info

NETWORK = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"
MINT = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"
DECIMALS = 6


@dataclass
class Cluster:
    """Balances of token accounts, by their addresses; transactions by their signatures."""

    balances: dict[str, int] = field(default_factory=dict)
    landed: list[str] = field(default_factory=list)
    blockhash: Hash = field(default_factory=Hash.new_unique)

    def balance(self, owner: Any) -> int:
        return self.balances.get(derive_ata(str(owner), MINT), 0)

    def fund(self, owner: Any, amount: int) -> None:
        self.balances[derive_ata(str(owner), MINT)] = self.balance(owner) + amount

    def simulate(self, transaction: VersionedTransaction) -> None:
        """Raises RuntimeError as a node would."""
        if not all(transaction.verify_with_results()):
            raise RuntimeError("signature verification failure")
        if transaction.message.recent_blockhash != self.blockhash:
            raise RuntimeError("Blockhash not found")
        if str(transaction.signatures[0]) in self.landed:
            raise RuntimeError("This transaction has already been processed")
        transfer = extract_transaction_info(transaction)
        assert transfer is not None
        assert transfer.source_ata == derive_ata(transfer.payer, transfer.mint)
        if self.balances.get(transfer.source_ata, 0) < transfer.amount:
            raise RuntimeError("insufficient funds")

    def send(self, transaction: VersionedTransaction) -> str:
        self.simulate(transaction)
        transfer = extract_transaction_info(transaction)
        assert transfer is not None
        self.balances[transfer.source_ata] -= transfer.amount
        there = self.balances.get(transfer.destination_ata, 0)
        self.balances[transfer.destination_ata] = there + transfer.amount
        self.landed.append(str(transaction.signatures[0]))
        return self.landed[-1]

    def expire(self) -> None:
        """So many blocks later: what names the block hash of today can be sent no more."""
        self.blockhash = Hash.new_unique()

    # What the official client asks a node for.

    def get_account_info(self, mint: Pubkey) -> Any:
        data = bytes(44) + bytes([DECIMALS])
        owner = Pubkey.from_string(TOKEN_PROGRAM_ADDRESS)
        return SimpleNamespace(value=SimpleNamespace(owner=owner, data=data))

    def get_latest_blockhash(self) -> Any:
        return SimpleNamespace(value=SimpleNamespace(blockhash=self.blockhash))


@dataclass
class FeePayers:
    """The wallets of a facilitator, as the SDK's scheme uses them."""

    cluster: Cluster
    keypairs: list[Keypair]

    def get_addresses(self) -> list[str]:
        return [str(keypair.pubkey()) for keypair in self.keypairs]

    def sign_transaction(self, tx_base64: str, fee_payer: str, network: str) -> str:
        transaction = VersionedTransaction.from_bytes(base64.b64decode(tx_base64))
        [keypair] = [one for one in self.keypairs if str(one.pubkey()) == fee_payer]
        signature = keypair.sign_message(bytes([0x80]) + bytes(transaction.message))
        signed = VersionedTransaction.populate(
            transaction.message, [signature, *transaction.signatures[1:]]
        )
        return base64.b64encode(bytes(signed)).decode()

    def simulate_transaction(self, tx_base64: str, network: str) -> None:
        self.cluster.simulate(VersionedTransaction.from_bytes(base64.b64decode(tx_base64)))

    def send_transaction(self, tx_base64: str, network: str) -> str:
        return self.cluster.send(VersionedTransaction.from_bytes(base64.b64decode(tx_base64)))

    def confirm_transaction(self, signature: str, network: str) -> None:
        if signature not in self.cluster.landed:
            raise RuntimeError("not confirmed")
