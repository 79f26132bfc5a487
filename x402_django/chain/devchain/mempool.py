"""Transactions that wait for a block, by Geth's rules where clients can see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count

from .errors import TransactionRejected
from .evm import State, Transaction

PRICE_BUMP_PERCENT = 10
"""How much dearer a transaction must be to replace one with the same nonce."""


class Mempool:
    """Pending and queued transactions, one per sender and nonce. Not thread safe."""

    def __init__(self) -> None:
        self._arrivals = count()
        self._waiting: dict[bytes, dict[int, tuple[int, Transaction]]] = {}

    def __len__(self) -> int:
        return sum(len(by_nonce) for by_nonce in self._waiting.values())

    def __iter__(self) -> Iterator[Transaction]:
        """In order of arrival."""
        entries = [entry for by_nonce in self._waiting.values() for entry in by_nonce.values()]
        return iter([transaction for _, transaction in sorted(entries, key=lambda e: e[0])])

    def add(self, transaction: Transaction) -> None:
        """Accept ``transaction``, replacing a cheaper one with its nonce.

        Raises ``TransactionRejected`` ("already known", "replacement transaction underpriced").
        """
        by_nonce = self._waiting.setdefault(transaction.sender, {})
        _, rival = by_nonce.get(transaction.nonce, (0, None))
        if rival is not None:
            if rival.hash == transaction.hash:
                raise TransactionRejected("already known")
            if not _outbids(transaction, rival):
                raise TransactionRejected("replacement transaction underpriced")
        by_nonce[transaction.nonce] = (next(self._arrivals), transaction)

    def get(self, transaction_hash: bytes) -> Transaction | None:
        """The waiting transaction with this hash."""
        return next((tx for tx in self if tx.hash == transaction_hash), None)

    def next_nonce(self, sender: bytes, mined: int) -> int:
        """The first nonce of ``sender``, from ``mined`` up, that nothing waiting uses."""
        by_nonce = self._waiting.get(sender, {})
        while mined in by_nonce:
            mined += 1
        return mined

    def executable(
        self, nonce_of: Callable[[bytes], int], base_fee: int, gas_limit: int
    ) -> list[Transaction]:
        """What fits into the next block: nonces without gaps, fees that pay, first come first."""
        chosen: list[tuple[int, Transaction]] = []
        for sender, by_nonce in self._waiting.items():
            nonce, arrival = nonce_of(sender), 0
            while nonce in by_nonce and by_nonce[nonce][1].max_fee_per_gas >= base_fee:
                arrived, transaction = by_nonce[nonce]
                arrival = max(arrival, arrived)  # a nonce cannot overtake the one before it
                chosen.append((arrival, transaction))
                nonce += 1
        chosen.sort(key=lambda entry: entry[0])
        return _fitting((transaction for _, transaction in chosen), gas_limit)

    def discard(self, transactions: Iterable[Transaction]) -> None:
        """Forget these, and whatever their nonces have made impossible."""
        for transaction in transactions:
            by_nonce = self._waiting.get(transaction.sender, {})
            for nonce in [nonce for nonce in by_nonce if nonce <= transaction.nonce]:
                del by_nonce[nonce]

    def drop(self, transaction_hash: bytes) -> bool:
        """Forget one transaction, as if it had never been seen. True if it was there."""
        transaction = self.get(transaction_hash)
        if transaction is None:
            return False
        del self._waiting[transaction.sender][transaction.nonce]
        return True

    def clear(self) -> int:
        """Forget everything; how many there were."""
        dropped = len(self)
        self._waiting.clear()
        return dropped

    def copy(self) -> Mempool:
        """An independent copy, in the same order of arrival."""
        other = Mempool()
        for transaction in self:
            other.add(transaction)
        return other


def check_admissible(transaction: Transaction, state: State, chain_id: int, gas_limit: int) -> None:
    """Raise ``TransactionRejected`` for what no later block could ever include."""
    if transaction.chain_id is None:
        raise TransactionRejected("only replay-protected (EIP-155) transactions allowed over RPC")
    if transaction.chain_id != chain_id:
        raise TransactionRejected(
            f"invalid chain id for signer: have {transaction.chain_id} want {chain_id}"
        )
    if transaction.gas > gas_limit:
        raise TransactionRejected("exceeds block gas limit")
    if transaction.gas < transaction.intrinsic_gas:
        raise TransactionRejected(
            f"intrinsic gas too low: gas {transaction.gas}, "
            f"minimum needed {transaction.intrinsic_gas}"
        )
    if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
        raise TransactionRejected("max priority fee per gas higher than max fee per gas")
    nonce = state.get_nonce(transaction.sender)
    if transaction.nonce < nonce:
        raise TransactionRejected(
            f"nonce too low: next nonce {nonce}, tx nonce {transaction.nonce}"
        )
    balance = state.get_balance(transaction.sender)
    cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
    if balance < cost:
        raise TransactionRejected(
            "insufficient funds for gas * price + value: "
            f"address 0x{transaction.sender.hex()} have {balance} want {cost}"
        )


def _outbids(transaction: Transaction, rival: Transaction) -> bool:
    factor = 100 + PRICE_BUMP_PERCENT
    return bool(
        transaction.max_fee_per_gas * 100 >= rival.max_fee_per_gas * factor
        and transaction.max_priority_fee_per_gas * 100 >= rival.max_priority_fee_per_gas * factor
    )


def _fitting(transactions: Iterable[Transaction], gas_limit: int) -> list[Transaction]:
    chosen: list[Transaction] = []
    for transaction in transactions:
        gas_limit -= transaction.gas
        if gas_limit < 0:
            break
        chosen.append(transaction)
    return chosen
