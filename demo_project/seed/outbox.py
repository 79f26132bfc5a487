"""The blocks of the chains, and what the site's wallets have sent into them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any, Final

from demo_project.seed.moments import aware, stamp
from x402_django.models import (
    ChainScan,
    ChainTransaction,
    ChainTransactionItem,
    ReplacedTransaction,
    ScannedBlock,
    SettlementLane,
    SettlementWallet,
)
from x402_django.protocol.assets import to_checksum_address

#: Alias of the facilitator that is the site's own wallets.
OWN: Final = "default"
TRANSACTION: Final = (
    "id", "network", "wallet", "nonce", "hash", "raw", "to", "gas_limit", "max_fee_per_gas",
    "max_priority_fee_per_gas", "payments_count", "bumps", "bumped_at", "status", "created_at",
    "sent_at", "sends", "mined_at", "block_number", "block_hash", "gas_used",
    "effective_gas_price",
)  # fmt: skip
ITEM: Final = (
    "payment_id", "network", "facilitator", "status", "chain_transaction_id", "position",
    "created_at",
)  # fmt: skip
REPLACED: Final = (
    "chain_transaction_id", "hash", "raw", "max_fee_per_gas", "max_priority_fee_per_gas",
    "replaced_at",
)  # fmt: skip

_WALLETS: Final = 2
_MULTICALL: Final = "0xcA11bde05977b3631167028862bE2a173976CA11"
_GWEI: Final = 10**9
#: Share of the transactions whose fee had to be raised.
_BUMPED: Final = 0.005


@dataclass(frozen=True, slots=True)
class Chain:
    """When it began (seconds since the epoch), how long its blocks take, what gas costs (wei)."""

    genesis: int
    block_time: float
    gas_price: int

    def block_at(self, moment: float) -> int:
        """The number of the first block after ``moment``."""
        return int((moment - self.genesis) / self.block_time) + 1

    def time_of(self, number: int) -> float:
        """When a block is made."""
        return self.genesis + number * self.block_time


CHAINS: Final = {
    "eip155:8453": Chain(1_686_789_347, 2, _GWEI // 100),
    "eip155:84532": Chain(1_695_768_288, 2, _GWEI // 1000),
    "eip155:137": Chain(1_590_824_836, 2.1, 30 * _GWEI),
    "eip155:42161": Chain(1_622_240_000, 0.25, _GWEI // 100),
    "eip155:43114": Chain(1_600_858_926, 2, _GWEI // 4),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where payments were settled together, and when the block was made."""

    hash: str
    block_number: int
    block_hash: str
    mined: float


class Outbox:
    """Transactions of a few wallets, their nonces without a gap."""

    def __init__(self, rng: Random, first_pk: int, rows: dict[Any, list[tuple[Any, ...]]]) -> None:
        self._rng = rng
        self._pk = first_pk
        self._rows = rows
        self._nonces = Counter(
            {(w.network, w.address): w.next_nonce for w in SettlementWallet.objects.all()}
        )

    def place(self, network: str, sent: float) -> Place:
        """A transaction that is sent at ``sent``, by whomever."""
        chain = CHAINS[network]
        number = chain.block_at(sent + self._rng.uniform(0.1, 1.5))
        digest = f"0x{self._rng.randbytes(32).hex()}"
        return Place(digest, number, block_hash(network, number), chain.time_of(number))

    def send(self, network: str, payments: Sequence[int], sent: float, status: str) -> Place:
        """One of our own, for ``payments`` (primary keys), with the rows that tell of it.

        ``status`` is ``mined``, ``reverted`` or ``sent``, which is not mined yet.
        """
        place = self.place(network, sent)
        count = len(payments)
        self._pk += 1
        gas = 45_000 + 38_000 * count
        price = int(CHAINS[network].gas_price * self._rng.uniform(0.8, 1.5))
        bumps = int(self._rng.random() < _BUMPED)
        at = stamp(sent)
        is_mined = status != ChainTransaction.Status.SENT
        wallet = self._rng.choice(_wallets())
        nonce = self._nonces[network, wallet]
        self._nonces[network, wallet] += 1
        self._rows[ChainTransaction].append((
            self._pk, network, wallet, nonce, place.hash,
            self._rng.randbytes(min(140 + 352 * count, 4096)),
            _MULTICALL, gas * 3 // 2, price * 2, price // 10, count, bumps,
            stamp(sent + 0.6) if bumps else None, status, at, at, 1 + bumps,
            *((stamp(place.mined + 0.3), place.block_number, place.block_hash, gas, price)
              if is_mined else (None, None, "", None, None)),
        ))  # fmt: skip
        if bumps:
            raw, hashed = self._rng.randbytes(492), f"0x{self._rng.randbytes(32).hex()}"
            replaced = (self._pk, hashed, raw, price, price // 12, stamp(sent + 0.6))
            self._rows[ReplacedTransaction].append(replaced)
        failed = status == ChainTransaction.Status.REVERTED
        state = ChainTransactionItem.Status.MISSED if failed else ChainTransactionItem.Status.RIDING
        self._rows[ChainTransactionItem] += [
            (payment, network, OWN, str(state), self._pk, position, at)
            for position, payment in enumerate(payments)
        ]
        return place

    def wait(self, network: str, payment: int, since: float) -> None:
        """A payment that is in no transaction yet."""
        waiting = str(ChainTransactionItem.Status.WAITING)
        self._rows[ChainTransactionItem].append(
            (payment, network, OWN, waiting, None, 0, stamp(since))
        )

    def close(self, now: float) -> None:
        """The rows beside the transactions: wallets, lanes, and how far the chains were read."""
        for (network, address), nonce in self._nonces.items():
            SettlementWallet.objects.update_or_create(
                network=network,
                address=address,
                defaults={
                    "next_nonce": nonce,
                    "balance": int(CHAINS[network].gas_price * 5 * 10**9 * self._rng.random()),
                    "balance_at": aware(now),
                },
            )
        for network, chain in CHAINS.items():
            head = chain.block_at(now) - 1
            SettlementLane.objects.get_or_create(
                network=network, facilitator=OWN, defaults={"held_until": aware(now)}
            )
            ChainScan.objects.get_or_create(network=network)
            for number in range(head - 9, head + 1):
                ScannedBlock.objects.get_or_create(
                    network=network, number=number, defaults={"hash": block_hash(network, number)}
                )


def block_hash(network: str, number: int) -> str:
    """The same for every payment in that block."""
    return "0x" + hashlib.sha256(f"{network} {number}".encode()).hexdigest()


@cache
def _wallets() -> tuple[str, ...]:
    numbers = range(0xA110, 0xA110 + _WALLETS)
    return tuple(to_checksum_address(f"0x{number:040x}") for number in numbers)
