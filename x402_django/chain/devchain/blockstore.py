"""The blocks the development chain has, and how to find what is in them."""

from __future__ import annotations

from .encoding import Block, Json


class BlockStore:
    """Canonical blocks, genesis first. What a revert removes is gone, as after a reorg."""

    def __init__(self, genesis: Block) -> None:
        self._blocks = [genesis]
        self._numbers: dict[bytes, int] = {genesis.hash: 0}
        self._places: dict[bytes, tuple[int, int]] = {}

    @property
    def head(self) -> Block:
        """The newest block."""
        return self._blocks[-1]

    def append(self, block: Block) -> None:
        """Put ``block`` on top of the head."""
        self._numbers[block.hash] = block.number
        for index, transaction in enumerate(block.transactions):
            self._places[transaction.hash] = (block.number, index)
        self._blocks.append(block)

    def truncate(self, height: int) -> list[Block]:
        """Make block ``height`` the head again; the removed blocks, lowest first."""
        removed = self._blocks[height + 1 :]
        del self._blocks[height + 1 :]
        for block in removed:
            del self._numbers[block.hash]
            for transaction in block.transactions:
                del self._places[transaction.hash]
        return removed

    def by_number(self, number: int) -> Block | None:
        """The block at this height."""
        return self._blocks[number] if 0 <= number < len(self._blocks) else None

    def by_hash(self, block_hash: bytes) -> Block | None:
        """The canonical block with this hash."""
        number = self._numbers.get(block_hash)
        return None if number is None else self._blocks[number]

    def between(self, first: int, last: int) -> list[Block]:
        """Blocks from ``first`` to ``last``, both included, as far as they exist."""
        return self._blocks[max(first, 0) : last + 1]

    def transaction(self, transaction_hash: bytes) -> Json | None:
        """A mined transaction."""
        place = self._places.get(transaction_hash)
        return None if place is None else self._blocks[place[0]].transaction_json[place[1]]

    def receipt(self, transaction_hash: bytes) -> Json | None:
        """The receipt of a mined transaction."""
        place = self._places.get(transaction_hash)
        return None if place is None else self._blocks[place[0]].receipts[place[1]]
