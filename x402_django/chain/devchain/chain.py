"""``DevChain``: the embedded chain as an object."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any

from eth_typing import Address

from .accounts import DevAccount, dev_accounts
from .blockstore import BlockStore
from .chainclock import ChainClock
from .deployment import DEFAULT_CHAIN_ID, TOKEN_ADDRESS, genesis_accounts
from .encoding import Block, encode_block
from .evm import GAS_LIMIT, Call, CallResult, Evm, ExecutedBlock, Header, State, Transaction
from .faucet import balance_calldata, faucet_address, fund_transaction, mint_transaction
from .mempool import Mempool, check_admissible

if TYPE_CHECKING:
    from .provider import DevChainProvider


@dataclass(frozen=True, slots=True)
class _Snapshot:
    head: bytes
    pool: Mempool
    clock_offset: float


class DevChain:
    """A complete EVM chain in this process. Every method is safe to call from any thread.

    ``chain_id``    also in its CAIP-2 name, ``network``
    ``block_time``  seconds between blocks; 0 mines each transaction at once
    ``heartbeat``   with ``block_time`` 0: an empty block after so many idle seconds, so that chain
                    time and confirmations go on; 0 for never
    ``clock``       seconds since the epoch; block timestamps follow it

    There is no mining thread: blocks that have become due are mined when somebody next looks, with
    the timestamps they should have had. Nobody can tell the difference, and a chain that is not
    used costs nothing.
    """

    def __init__(
        self,
        chain_id: int = DEFAULT_CHAIN_ID,
        *,
        block_time: float = 0,
        heartbeat: float = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.chain_id = chain_id
        self.lock = RLock()
        self.mempool = Mempool()
        self._clock = ChainClock(clock, block_time or heartbeat)
        self._automine = not block_time
        self._sealed = 0
        self._snapshots: dict[int, _Snapshot] = {}
        self._evm = Evm(chain_id, genesis_accounts(), self._clock.now())
        self.blocks = BlockStore(encode_block(ExecutedBlock(self._evm.genesis, (), 0)))

    # ------------------------------------------------------------- what it is

    @property
    def network(self) -> str:
        """The CAIP-2 name, e.g. ``"eip155:1337"``."""
        return f"eip155:{self.chain_id}"

    @property
    def token_address(self) -> str:
        """The test dollar's address, EIP-55."""
        return TOKEN_ADDRESS

    @property
    def accounts(self) -> tuple[DevAccount, ...]:
        """The prefunded accounts; their keys are public."""
        return dev_accounts()

    @property
    def height(self) -> int:
        """The number of the newest block."""
        with self.lock:
            self.catch_up()
            return self.blocks.head.number

    def provider(self) -> DevChainProvider:
        """A web3 provider that talks to this chain without a network."""
        from .provider import DevChainProvider

        return DevChainProvider(lambda: self)

    def handle(self, request: Any) -> Any:
        """Answer one decoded JSON-RPC request, or a batch of them. Never raises."""
        from .rpc import handle

        return handle(self, request)

    # ------------------------------------------------------------------ money

    def mint(self, address: str, amount: int) -> str:
        """Create ``amount`` atomic units of test dollars for ``address``; mined at once.

        Returns the transaction's hash.
        """
        return self._give(mint_transaction, address, amount)

    def fund(self, address: str, wei: int) -> str:
        """Send ``wei`` to ``address``; mined at once. Returns the transaction's hash."""
        return self._give(fund_transaction, address, wei)

    def _give(self, sign: Callable[..., bytes], address: str, amount: int) -> str:
        with self.lock:
            self.catch_up()
            raw = sign(
                address,
                amount,
                chain_id=self.chain_id,
                nonce=self.state().get_nonce(faucet_address()),
                base_fee=self.next_base_fee(),
            )
            transaction = self._evm.decode(raw)
            self._mine([transaction])
            return f"0x{transaction.hash.hex()}"

    def dollars(self, address: str) -> int:
        """The test dollars that ``address`` holds, in atomic units."""
        token = Address(bytes.fromhex(TOKEN_ADDRESS[2:]))
        with self.lock:
            self.catch_up()
            result = self.call(Call(to=token, data=balance_calldata(address)))
            return int.from_bytes(result.output, "big")

    # ----------------------------------------------------------- transactions

    def send_raw(self, raw: bytes) -> bytes:
        """Take a signed transaction in; with automine it is in a block when this returns.

        Returns its hash. Raises ``TransactionRejected`` with Geth's words.
        """
        transaction = self._evm.decode(raw)
        with self.lock:
            self.catch_up()
            check_admissible(transaction, self.state(), self.chain_id, GAS_LIMIT)
            self.mempool.add(transaction)
            if self._automine:
                self._mine_pool()
            return bytes(transaction.hash)

    def drop_pending(self, transaction_hash: bytes | None = None) -> int:
        """Forget one waiting transaction, or all of them, as a node may; how many they were."""
        with self.lock:
            self.catch_up()
            if transaction_hash is None:
                return self.mempool.clear()
            return int(self.mempool.drop(transaction_hash))

    # ----------------------------------------------------------------- mining

    def mine(self, count: int = 1) -> None:
        """Mine ``count`` blocks; each takes what waits and fits."""
        with self.lock:
            self.catch_up()
            for _ in range(count):
                self._mine(self._executable())

    def set_automine(self, enabled: bool) -> None:
        """Whether each transaction is mined at once; switching it on mines what waits."""
        with self.lock:
            self.catch_up()
            self._automine = enabled
            if enabled:
                self._mine_pool()

    def set_interval(self, seconds: float) -> None:
        """Mine a block every so many seconds from now on; 0 stops that. Automine is unchanged."""
        with self.lock:
            self.catch_up()
            self._clock.set_period(seconds)

    def catch_up(self) -> None:
        """Mine the blocks that have become due since anybody last looked."""
        with self.lock:
            for timestamp in self._clock.take_due():
                self._seal(self._executable(), timestamp)

    def _mine_pool(self) -> None:
        while ready := self._executable():
            self._mine(ready)

    def _executable(self) -> list[Transaction]:
        return self.mempool.executable(self.state().get_nonce, self.next_base_fee(), GAS_LIMIT)

    def _mine(self, transactions: list[Transaction]) -> None:
        self._seal(transactions, self._clock.take_timestamp())
        self._clock.block_mined()

    def _seal(self, transactions: list[Transaction], timestamp: int) -> None:
        parent = self.blocks.head.header
        self._sealed += 1  # never goes back: a block that replaces another has another hash
        self.mempool.discard(transactions)  # first: what makes the machine fail must not stay
        executed = self._evm.execute_block(
            parent, transactions, timestamp=max(timestamp, parent.timestamp), salt=self._sealed
        )
        self.blocks.append(encode_block(executed))

    # ------------------------------------------------------------------- time

    def now(self) -> int:
        """Chain time in seconds: the timestamp of a block mined now."""
        return max(self._clock.now(), int(self.blocks.head.header.timestamp))

    def advance_time(self, seconds: float) -> int:
        """Move the chain's clock forward; the offset now in force, in seconds. Mines nothing."""
        with self.lock:
            self.catch_up()
            self._clock.offset += seconds
            return int(self._clock.offset)

    def set_time(self, timestamp: float) -> None:
        """Set the chain's clock, which goes on from there. Blocks never go back in time."""
        with self.lock:
            self.catch_up()
            self._clock.set(timestamp)

    def set_next_timestamp(self, timestamp: int) -> None:
        """The next block's timestamp, exactly. Raises ``ValueError`` if that is in its past."""
        with self.lock:
            self.catch_up()
            if timestamp < self.blocks.head.header.timestamp:
                raise ValueError("timestamp is before the newest block's")
            self._clock.fix_next(timestamp)

    # -------------------------------------------------------- snapshots, reorgs

    def snapshot(self) -> int:
        """Remember blocks, waiting transactions and time; an id for ``revert``."""
        with self.lock:
            self.catch_up()
            identifier = max(self._snapshots, default=0) + 1
            self._snapshots[identifier] = _Snapshot(
                self.blocks.head.hash, self.mempool.copy(), self._clock.offset
            )
            return identifier

    def revert(self, identifier: int) -> bool:
        """Go back to a snapshot, which is used up, as are later ones. False if there is none."""
        with self.lock:
            snapshot = self._snapshots.get(identifier)
            head = self.blocks.by_hash(snapshot.head) if snapshot else None
            self._snapshots = {i: s for i, s in self._snapshots.items() if i < identifier}
            if snapshot is None or head is None:  # no head: a reorg has removed that block
                return False
            self.blocks.truncate(head.number)
            self.mempool = snapshot.pool
            self._clock.restore(snapshot.clock_offset)
            return True

    def reorg(self, depth: int, *, keep_transactions: bool = False) -> None:
        """Replace the newest ``depth`` blocks by ``depth + 1`` others.

        Their transactions are lost, or, with ``keep_transactions``, are in the first of the new
        blocks. Raises ``ValueError`` if there are not so many blocks.
        """
        with self.lock:
            self.catch_up()
            height = self.blocks.head.number
            if not 0 < depth <= height:
                raise ValueError(f"cannot replace {depth} of {height} blocks")
            removed = self.blocks.truncate(height - depth)
            again = [tx for block in removed for tx in block.transactions]
            self._mine(again if keep_transactions else [])
            for _ in range(depth):
                self._mine([])

    # --------------------------------------------------------------- execution

    def next_base_fee(self) -> int:
        """Wei per gas burnt by the next block."""
        return int(self.pending_header().base_fee_per_gas)

    def pending_header(self) -> Header:
        """The header the next block would have now."""
        return self._evm.next_header(self.blocks.head.header, self.now())

    def state(self, block: Block | None = None) -> State:
        """py-evm's state after ``block`` (the newest), for reading only, with the lock held."""
        return self._evm.state((block or self.blocks.head).header)

    def call(self, call: Call, block: Block | None = None, gas: int | None = None) -> CallResult:
        """Execute ``call`` without a transaction, on the newest state or on ``block``'s.

        On the newest state the time is now, not the newest block's: with instant mining that may
        be long ago, and an authorization signed since would seem not yet valid.
        """
        with self.lock:
            block = block or self.blocks.head
            header = block.header
            if block is self.blocks.head:
                header = header.copy(timestamp=self.now())
            return self._evm.call(header, call, gas)
