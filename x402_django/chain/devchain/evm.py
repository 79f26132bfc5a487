"""The machine under the development chain: py-evm, driven below eth-tester's level.

eth-tester's ``PyEVMBackend`` builds blocks the same way, but finds transactions by walking the
whole chain, numbers logs per transaction and normalises every value several times; none of that is
fit for a server. This module asks py-evm for three things only: decode a transaction, execute a
block, execute a call.

Two rules differ from the main network's on purpose. A block may have its parent's timestamp (as on
rollups), so that many blocks in one second do not make the chain run ahead of the clock, which
would expire EIP-3009 authorizations early. And the gas limit is constant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import rlp
from eth._utils.address import generate_contract_address
from eth.chains.base import Chain
from eth.constants import BLANK_ROOT_HASH, CREATE_CONTRACT_ADDRESS, ZERO_ADDRESS
from eth.db.atomic import AtomicDB
from eth.exceptions import Revert, VMError
from eth.vm.forks.prague import PragueVM
from eth.vm.message import Message
from eth_typing import Address
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from .errors import TransactionRejected

GAS_LIMIT = 30_000_000

# py-evm's abstract types lack the fields that later forks added, and its concrete ones are made at
# run time: these names are for the reader.
Header: TypeAlias = Any
Transaction: TypeAlias = Any
State: TypeAlias = Any


class _DevVM(PragueVM):
    """Prague rules; a block may carry the timestamp of its parent."""

    @classmethod
    def validate_header(cls, header: Header, parent_header: Header) -> None:
        if header.timestamp == parent_header.timestamp:
            header = header.copy(timestamp=header.timestamp + 1)
        super().validate_header(header, parent_header)


@dataclass(frozen=True, slots=True)
class Execution:
    """A transaction as it was executed in a block."""

    transaction: Transaction
    receipt: Any
    gas_used: int
    contract: bytes | None


@dataclass(frozen=True, slots=True)
class ExecutedBlock:
    """A sealed block; ``size`` in bytes."""

    header: Header
    executions: tuple[Execution, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Call:
    """A message to execute without a transaction; ``to`` empty means creation. Amounts in wei."""

    sender: Address = ZERO_ADDRESS
    to: Address = CREATE_CONTRACT_ADDRESS
    data: bytes = b""
    value: int = 0
    gas: int | None = None
    access_list: tuple[tuple[Address, tuple[int, ...]], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class CallResult:
    """``error`` is None on success; ``reverted`` tells REVERT from the machine's own errors."""

    output: bytes
    gas_used: int
    error: str | None
    reverted: bool


class Evm:
    """py-evm with one in-memory database. Not thread safe: ``DevChain`` holds the lock."""

    def __init__(self, chain_id: int, accounts: Mapping[Address, Any], timestamp: int) -> None:
        chain_class = Chain.configure(
            "DevChain", vm_configuration=((0, _DevVM),), chain_id=chain_id
        )
        params: dict[str, Any] = {
            "difficulty": 0,
            "gas_limit": GAS_LIMIT,
            "timestamp": timestamp,
            "receipt_root": BLANK_ROOT_HASH,
            "transaction_root": BLANK_ROOT_HASH,
        }
        self._chain: Any = chain_class.from_genesis(AtomicDB(), params, dict(accounts))
        self.chain_id = chain_id
        self.genesis: Header = self._chain.get_canonical_head()
        self._reading: tuple[bytes, State] | None = None

    def decode(self, raw: bytes) -> Transaction:
        """The signed transaction in ``raw``. Raises ``TransactionRejected``."""
        if not raw:
            raise TransactionRejected("typed transaction too short")
        if raw[0] == 3:
            raise TransactionRejected("transaction type not supported")
        try:
            transaction = _DevVM.get_transaction_builder().decode(raw)
            transaction.validate()
            transaction.check_signature_validity()
        except (rlp.exceptions.RLPException, ValidationError, ValueError, TypeError) as error:
            raise TransactionRejected(f"invalid transaction: {error}") from error
        return transaction

    def next_header(self, parent: Header, timestamp: int) -> Header:
        """The header of an empty, unsealed block on top of ``parent``."""
        return self._chain.create_header_from_parent(
            parent, timestamp=timestamp, gas_limit=GAS_LIMIT, coinbase=ZERO_ADDRESS
        )

    def execute_block(
        self,
        parent: Header,
        transactions: Iterable[Transaction],
        *,
        timestamp: int,
        salt: int,
    ) -> ExecutedBlock:
        """Execute and seal a block. ``salt`` makes the hash of otherwise equal blocks differ.

        Transactions that turn out to be impossible, such as when an earlier one has spent the
        sender's ether, are left out.
        """
        header = self.next_header(parent, timestamp).copy(mix_hash=keccak(salt.to_bytes(32, "big")))
        vm = self._chain.get_vm(header)
        executions: list[Execution] = []
        for transaction in transactions:
            before = header.gas_used
            try:
                receipt, computation = vm.apply_transaction(header, transaction)
            except ValidationError:
                continue
            header = vm.add_receipt_to_header(header, receipt)
            created = computation.msg.storage_address if computation.msg.is_create else None
            executions.append(Execution(transaction, receipt, header.gas_used - before, created))
        block = vm.set_block_transactions_and_withdrawals(
            vm.get_block(),
            header,
            [execution.transaction for execution in executions],
            [execution.receipt for execution in executions],
        )
        block = vm.mine_block(block).block
        self._chain.chaindb.persist_header(block.header)
        size = len(rlp.encode(block))
        return ExecutedBlock(block.header, tuple(executions), size)

    def state(self, header: Header) -> State:
        """The state after the block with this header, for reading only."""
        if self._reading is None or self._reading[0] != header.state_root:
            self._reading = (header.state_root, self._chain.get_vm(header).state)
        return self._reading[1]

    def call(self, header: Header, call: Call, gas: int | None = None) -> CallResult:
        """Execute ``call`` on the state of ``header`` and forget its effects.

        No balance is needed for gas and no nonce is checked; the intrinsic gas is not charged.
        """
        state = self._chain.get_vm(header).state
        message = _message(state, call, gas if gas is not None else call.gas or GAS_LIMIT)
        for address in (call.sender, message.storage_address, header.coinbase):
            state.mark_address_warm(address)
        for address, slots in call.access_list:
            state.mark_address_warm(address)
            for slot in slots:
                state.mark_storage_warm(address, slot)
        context = state.get_transaction_context_class()(gas_price=0, origin=call.sender)
        run = state.computation_class
        apply = run.apply_create_message if message.is_create else run.apply_message
        try:
            return _result(apply(state, message, context))
        except VMError as error:  # the sender has not got the value: no instruction has run
            return CallResult(b"", 0, f"{type(error).__name__}: {error}", reverted=False)


def intrinsic_gas(call: Call) -> int:
    """Gas charged before the first instruction (EIP-2028, 2930, 3860)."""
    zeros = call.data.count(0)
    gas = 21_000 + 4 * zeros + 16 * (len(call.data) - zeros)
    if not call.to:
        gas += 32_000 + 2 * ((len(call.data) + 31) // 32)
    return gas + sum(2_400 + 1_900 * len(slots) for _, slots in call.access_list)


def floor_gas(call: Call) -> int:
    """The least gas a transaction with this data costs (EIP-7623)."""
    zeros = call.data.count(0)
    return 21_000 + 10 * (zeros + 4 * (len(call.data) - zeros))


def _message(state: State, call: Call, gas: int) -> Message:
    if not call.to:
        address = generate_contract_address(call.sender, state.get_nonce(call.sender))
        return Message(
            gas=gas,
            to=CREATE_CONTRACT_ADDRESS,
            sender=call.sender,
            value=call.value,
            data=b"",
            code=call.data,
            create_address=address,
        )
    code, delegate = state.get_transaction_executor().get_code_at_address(call.to)
    return Message(
        gas=gas,
        to=call.to,
        sender=call.sender,
        value=call.value,
        data=call.data,
        code=code,
        is_delegation=delegate is not None,
    )


def _result(computation: Any) -> CallResult:
    gas_used = computation.get_gas_used()
    if not computation.is_error:
        return CallResult(computation.output, gas_used, None, reverted=False)
    if isinstance(computation.error, Revert):
        return CallResult(computation.output, gas_used, "execution reverted", reverted=True)
    name = type(computation.error).__name__
    return CallResult(b"", gas_used, f"{name}: {computation.error}", reverted=False)
