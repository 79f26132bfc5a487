"""Reading the parameters of JSON-RPC requests; whatever is wrong is an ``RpcError``."""

from __future__ import annotations

from typing import Any

from eth.constants import CREATE_CONTRACT_ADDRESS, ZERO_ADDRESS
from eth_typing import Address

from .blockstore import BlockStore
from .encoding import Block, Json
from .errors import INVALID_PARAMS, SERVER_ERROR, RpcError
from .evm import Call

LATEST_TAGS = frozenset({"latest", "pending", "safe", "finalized"})


def to_bytes(value: Any, length: int | None = None) -> bytes:
    """0x-hex data, of exactly ``length`` bytes if given."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise RpcError(INVALID_PARAMS, "invalid argument: hex string with 0x prefix wanted")
    try:
        data = bytes.fromhex(value[2:])
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, "invalid argument: not a hex string") from error
    if length is not None and len(data) != length:
        raise RpcError(INVALID_PARAMS, f"invalid argument: {length} bytes wanted")
    return data


def to_address(value: Any) -> Address:
    """A 20 byte address; the checksum of mixed case is not looked at."""
    return Address(to_bytes(value, 20))


def to_int(value: Any) -> int:
    """A quantity; plain numbers are taken too, as Anvil and Hardhat do."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise RpcError(INVALID_PARAMS, "invalid argument: quantity wanted")
    try:
        number = int(value, 16) if isinstance(value, str) else value
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, "invalid argument: not a hex quantity") from error
    if number < 0:
        raise RpcError(INVALID_PARAMS, "invalid argument: negative quantity")
    return number


def find_block(blocks: BlockStore, value: Any) -> Block | None:
    """The block a tag, number, or EIP-1898 object names; None if there is none.

    There is no consensus to wait for: ``safe`` and ``finalized`` are the newest block too.
    """
    if value is None or (isinstance(value, str) and value in LATEST_TAGS):
        return blocks.head
    if value == "earliest":
        return blocks.by_number(0)
    if isinstance(value, dict):
        if "blockHash" in value:
            return blocks.by_hash(to_bytes(value["blockHash"], 32))
        value = value.get("blockNumber")
    return blocks.by_number(to_int(value))


def require_block(blocks: BlockStore, value: Any) -> Block:
    """Like ``find_block``, for reading state. Raises ``RpcError`` if there is none."""
    block = find_block(blocks, value)
    if block is None:
        raise RpcError(SERVER_ERROR, "header not found")
    return block


def to_call(params: Any) -> Call:
    """The transaction object of eth_call and eth_estimateGas; fees are not charged there."""
    if not isinstance(params, dict):
        raise RpcError(INVALID_PARAMS, "invalid argument 0: transaction object wanted")
    data = params.get("input", params.get("data"))
    return Call(
        sender=to_address(params["from"]) if params.get("from") else ZERO_ADDRESS,
        to=to_address(params["to"]) if params.get("to") else CREATE_CONTRACT_ADDRESS,
        data=to_bytes(data) if data is not None else b"",
        value=to_int(params.get("value") or 0),
        gas=to_int(params["gas"]) if params.get("gas") else None,
        access_list=tuple(_access(entry) for entry in params.get("accessList") or ()),
    )


def _access(entry: Json) -> tuple[Address, tuple[int, ...]]:
    try:
        address, keys = entry["address"], entry["storageKeys"]
    except (KeyError, TypeError) as error:
        raise RpcError(INVALID_PARAMS, "invalid argument 0: access list") from error
    return to_address(address), tuple(to_int(key) for key in keys)
