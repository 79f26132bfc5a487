"""Blocks, transactions, receipts and logs as the JSON-RPC specification spells them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_utils.address import to_checksum_address

from .evm import ExecutedBlock, Execution, Header, Transaction

Json = dict[str, Any]


def quantity(number: int) -> str:
    """A number as JSON-RPC writes it: hex, no leading zeros."""
    return hex(number)


def hexdata(data: bytes) -> str:
    """Bytes as JSON-RPC writes them."""
    return f"0x{bytes(data).hex()}"


def word(number: int) -> str:
    """A 32 byte value, such as a log topic."""
    return f"0x{number:064x}"


@dataclass(frozen=True, slots=True)
class Block:
    """A mined block with everything that can be asked about it, already encoded."""

    header: Header
    number: int
    hash: bytes
    json: Json
    transactions: tuple[Transaction, ...]
    transaction_json: tuple[Json, ...]
    receipts: tuple[Json, ...]
    logs: tuple[Json, ...]

    def as_json(self, *, full: bool) -> Json:
        """With whole transactions, or only their hashes."""
        if full:
            listed: list[Any] = list(self.transaction_json)
        else:
            listed = [transaction["hash"] for transaction in self.transaction_json]
        return {**self.json, "transactions": listed}


def encode_block(executed: ExecutedBlock) -> Block:
    """Encode a sealed block; log indexes count through the whole block."""
    header = executed.header
    transactions: list[Json] = []
    receipts: list[Json] = []
    logs: list[Json] = []
    for index, execution in enumerate(executed.executions):
        place = {
            "blockHash": hexdata(header.hash),
            "blockNumber": quantity(header.block_number),
            "transactionIndex": quantity(index),
        }
        own_logs = encode_logs(execution, place, len(logs))
        price = effective_gas_price(execution.transaction, header.base_fee_per_gas)
        transactions.append(
            {**encode_transaction(execution.transaction), **place, "gasPrice": quantity(price)}
        )
        receipts.append({**encode_receipt(execution, price), **place, "logs": own_logs})
        logs.extend(own_logs)
    return Block(
        header=header,
        number=header.block_number,
        hash=header.hash,
        json=encode_header(header, executed.size),
        transactions=tuple(execution.transaction for execution in executed.executions),
        transaction_json=tuple(transactions),
        receipts=tuple(receipts),
        logs=tuple(logs),
    )


def encode_header(header: Header, size: int) -> Json:
    """A block without its transactions."""
    return {
        "number": quantity(header.block_number),
        "hash": hexdata(header.hash),
        "parentHash": hexdata(header.parent_hash),
        "nonce": hexdata(header.nonce),
        "sha3Uncles": hexdata(header.uncles_hash),
        "logsBloom": f"0x{header.bloom:0512x}",
        "transactionsRoot": hexdata(header.transaction_root),
        "stateRoot": hexdata(header.state_root),
        "receiptsRoot": hexdata(header.receipt_root),
        "miner": to_checksum_address(header.coinbase),
        "difficulty": quantity(header.difficulty),
        "totalDifficulty": "0x0",
        "extraData": hexdata(header.extra_data),
        "size": quantity(size),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "mixHash": hexdata(header.mix_hash),
        "baseFeePerGas": quantity(header.base_fee_per_gas),
        "withdrawalsRoot": hexdata(header.withdrawals_root),
        "withdrawals": [],
        "blobGasUsed": quantity(header.blob_gas_used),
        "excessBlobGas": quantity(header.excess_blob_gas),
        "parentBeaconBlockRoot": hexdata(header.parent_beacon_block_root),
        "requestsHash": hexdata(header.requests_hash),
        "uncles": [],
    }


def encode_transaction(transaction: Transaction) -> Json:
    """A transaction that waits for a block; ``encode_block`` overrides the place and the price."""
    kind = transaction_type(transaction)
    parity = transaction.y_parity
    encoded: Json = {
        "blockHash": None,
        "blockNumber": None,
        "transactionIndex": None,
        "hash": hexdata(transaction.hash),
        "type": quantity(kind),
        "nonce": quantity(transaction.nonce),
        "from": to_checksum_address(transaction.sender),
        "to": to_checksum_address(transaction.to) if transaction.to else None,
        "value": quantity(transaction.value),
        "gas": quantity(transaction.gas),
        "gasPrice": quantity(transaction.max_fee_per_gas),
        "input": hexdata(transaction.data),
        "r": quantity(transaction.r),
        "s": quantity(transaction.s),
        "v": quantity(transaction.v if kind == 0 else parity),
    }
    if transaction.chain_id is not None:
        encoded["chainId"] = quantity(transaction.chain_id)
    if kind > 0:
        encoded["yParity"] = quantity(parity)
        encoded["accessList"] = [
            {"address": to_checksum_address(address), "storageKeys": [word(slot) for slot in slots]}
            for address, slots in transaction.access_list
        ]
    if kind >= 2:
        encoded["maxFeePerGas"] = quantity(transaction.max_fee_per_gas)
        encoded["maxPriorityFeePerGas"] = quantity(transaction.max_priority_fee_per_gas)
    return encoded


def encode_receipt(execution: Execution, price: int) -> Json:
    """A receipt without its place and its logs."""
    transaction, receipt = execution.transaction, execution.receipt
    contract = execution.contract
    return {
        "transactionHash": hexdata(transaction.hash),
        "type": quantity(transaction_type(transaction)),
        "from": to_checksum_address(transaction.sender),
        "to": to_checksum_address(transaction.to) if transaction.to else None,
        "contractAddress": to_checksum_address(contract) if contract else None,
        "status": quantity(int.from_bytes(receipt.state_root, "big")),
        "cumulativeGasUsed": quantity(receipt.gas_used),
        "gasUsed": quantity(execution.gas_used),
        "effectiveGasPrice": quantity(price),
        "logsBloom": f"0x{receipt.bloom:0512x}",
    }


def encode_logs(execution: Execution, place: Json, first_index: int) -> list[Json]:
    """A transaction's logs, numbered from ``first_index``."""
    return [
        {
            "address": to_checksum_address(log.address),
            "topics": [word(topic) for topic in log.topics],
            "data": hexdata(log.data),
            **place,
            "transactionHash": hexdata(execution.transaction.hash),
            "logIndex": quantity(first_index + offset),
            "removed": False,
        }
        for offset, log in enumerate(execution.receipt.logs)
    ]


def transaction_type(transaction: Transaction) -> int:
    """The EIP-2718 type; 0 for a legacy transaction."""
    return getattr(transaction, "type_id", None) or 0


def effective_gas_price(transaction: Transaction, base_fee: int) -> int:
    """Wei per gas actually paid (EIP-1559)."""
    tip = min(transaction.max_priority_fee_per_gas, transaction.max_fee_per_gas - base_fee)
    return int(base_fee + tip)
