"""The ``eth_``, ``net_`` and ``web3_`` methods. Each is called with the chain's lock held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from .encoding import Block, Json, encode_header, encode_transaction, hexdata, quantity, word
from .errors import EXECUTION_REVERTED, INVALID_PARAMS, SERVER_ERROR, RpcError
from .evm import CallResult
from .faucet import PRIORITY_FEE
from .gas import EstimationFailed, estimate_gas
from .logs import LogFilter
from .methods import MethodTable
from .params import find_block, require_block, to_address, to_bytes, to_call, to_int

if TYPE_CHECKING:
    from .chain import DevChain

CLIENT_VERSION = "x402-devchain/py-evm"
MAX_FEE_HISTORY = 1024
ERROR_SELECTOR = bytes.fromhex("08c379a0")  # Error(string)

METHODS = MethodTable()


@METHODS.method("web3_clientVersion")
def _client_version(chain: DevChain) -> str:
    return CLIENT_VERSION


@METHODS.method("net_listening")
def _listening(chain: DevChain) -> bool:
    return True


@METHODS.method("eth_syncing")
def _syncing(chain: DevChain) -> bool:
    return False


@METHODS.method("eth_accounts")
def _accounts(chain: DevChain) -> list[str]:
    return []  # it signs for nobody


@METHODS.method("eth_chainId")
def _chain_id(chain: DevChain) -> str:
    return quantity(chain.chain_id)


@METHODS.method("net_version")
def _net_version(chain: DevChain) -> str:
    return str(chain.chain_id)


@METHODS.method("eth_blockNumber")
def _block_number(chain: DevChain) -> str:
    return quantity(chain.blocks.head.number)


@METHODS.method("eth_getBlockByNumber")
def _get_block_by_number(chain: DevChain, tag: Any, full: bool = False) -> Json | None:
    if tag == "pending":
        return _pending_block(chain)
    block = find_block(chain.blocks, tag)
    return block.as_json(full=bool(full)) if block else None


@METHODS.method("eth_getBlockByHash")
def _get_block_by_hash(chain: DevChain, block_hash: Any, full: bool = False) -> Json | None:
    block = chain.blocks.by_hash(to_bytes(block_hash, 32))
    return block.as_json(full=bool(full)) if block else None


def _pending_block(chain: DevChain) -> Json:
    """The next block as it would be now, empty: what will be in it is not decided before."""
    pending = encode_header(chain.pending_header(), 0)
    return {**pending, "hash": None, "nonce": None, "logsBloom": None, "transactions": []}


@METHODS.method("eth_getBlockReceipts")
def _get_block_receipts(chain: DevChain, tag: Any) -> list[Json] | None:
    block = find_block(chain.blocks, tag)
    return list(block.receipts) if block else None


@METHODS.method("eth_getBalance")
def _get_balance(chain: DevChain, address: Any, tag: Any = "latest") -> str:
    state = chain.state(require_block(chain.blocks, tag))
    return quantity(state.get_balance(to_address(address)))


@METHODS.method("eth_getCode")
def _get_code(chain: DevChain, address: Any, tag: Any = "latest") -> str:
    state = chain.state(require_block(chain.blocks, tag))
    return hexdata(state.get_code(to_address(address)))


@METHODS.method("eth_getStorageAt")
def _get_storage_at(chain: DevChain, address: Any, slot: Any, tag: Any = "latest") -> str:
    state = chain.state(require_block(chain.blocks, tag))
    return word(state.get_storage(to_address(address), to_int(slot)))


@METHODS.method("eth_getTransactionCount")
def _get_transaction_count(chain: DevChain, address: Any, tag: Any = "latest") -> str:
    sender = to_address(address)
    mined = chain.state(require_block(chain.blocks, tag)).get_nonce(sender)
    return quantity(chain.mempool.next_nonce(sender, mined) if tag == "pending" else mined)


@METHODS.method("eth_call")
def _call(chain: DevChain, transaction: Any, tag: Any = "latest") -> str:
    result = chain.call(to_call(transaction), require_block(chain.blocks, tag))
    if result.error is not None:
        raise call_error(result)
    return hexdata(result.output)


@METHODS.method("eth_estimateGas")
def _estimate(chain: DevChain, transaction: Any, tag: Any = "latest") -> str:
    wanted, block = to_call(transaction), require_block(chain.blocks, tag)
    try:
        return quantity(estimate_gas(wanted, lambda gas: chain.call(wanted, block, gas)))
    except EstimationFailed as failure:
        raise call_error(failure.result) from failure


def call_error(result: CallResult) -> RpcError:
    """How a failed execution is reported: code 3 with the revert data, as Geth does."""
    if not result.reverted:
        return RpcError(SERVER_ERROR, result.error or "execution failed")
    message, reason = "execution reverted", revert_reason(result.output)
    if reason is not None:
        message = f"{message}: {reason}"
    return RpcError(EXECUTION_REVERTED, message, hexdata(result.output))


def revert_reason(output: bytes) -> str | None:
    """The text of ``Error(string)``, if that is what it is."""
    if output[:4] != ERROR_SELECTOR:
        return None
    try:
        return str(decode(["string"], output[4:])[0])
    except DecodingError:
        return None


@METHODS.method("eth_gasPrice")
def _gas_price(chain: DevChain) -> str:
    return quantity(chain.next_base_fee() + PRIORITY_FEE)


@METHODS.method("eth_maxPriorityFeePerGas")
def _max_priority_fee(chain: DevChain) -> str:
    return quantity(PRIORITY_FEE)


@METHODS.method("eth_feeHistory")
def _fee_history(
    chain: DevChain, count: Any, newest: Any, percentiles: list[float] | None = None
) -> Json:
    last = require_block(chain.blocks, newest)
    first = max(last.number - min(to_int(count), MAX_FEE_HISTORY) + 1, 0)
    blocks = chain.blocks.between(first, last.number)
    following = chain.blocks.by_number(last.number + 1)
    next_fee = following.header.base_fee_per_gas if following else chain.next_base_fee()
    history: Json = {
        "oldestBlock": quantity(first),
        "baseFeePerGas": [quantity(b.header.base_fee_per_gas) for b in blocks]
        + [quantity(next_fee)],
        "gasUsedRatio": [block.header.gas_used / block.header.gas_limit for block in blocks],
    }
    if percentiles:
        history["reward"] = [_tips(block, percentiles) for block in blocks]
    return history


def _tips(block: Block, percentiles: list[float]) -> list[str]:
    """Tips at these percentiles of the block's transactions; not weighted by gas as Geth's are."""
    base = block.header.base_fee_per_gas
    paid = sorted(to_int(receipt["effectiveGasPrice"]) - base for receipt in block.receipts)
    if not paid:
        return [quantity(0) for _ in percentiles]
    return [quantity(paid[min(int(len(paid) * p / 100), len(paid) - 1)]) for p in percentiles]


@METHODS.method("eth_sendRawTransaction")
def _send_raw_transaction(chain: DevChain, raw: Any) -> str:
    return hexdata(chain.send_raw(to_bytes(raw)))


@METHODS.method("eth_getTransactionByHash")
def _get_transaction_by_hash(chain: DevChain, transaction_hash: Any) -> Json | None:
    wanted = to_bytes(transaction_hash, 32)
    waiting = chain.mempool.get(wanted)
    return encode_transaction(waiting) if waiting else chain.blocks.transaction(wanted)


@METHODS.method("eth_getTransactionReceipt")
def _get_transaction_receipt(chain: DevChain, transaction_hash: Any) -> Json | None:
    return chain.blocks.receipt(to_bytes(transaction_hash, 32))


@METHODS.method("eth_getLogs")
def _get_logs(chain: DevChain, params: Any) -> list[Json]:
    if not isinstance(params, dict):
        raise RpcError(INVALID_PARAMS, "invalid argument 0: filter object wanted")
    wanted = LogFilter.from_params(params)
    return [log for block in _filtered_blocks(chain, params) for log in wanted.select(block.logs)]


def _filtered_blocks(chain: DevChain, params: Json) -> list[Block]:
    if params.get("blockHash") is not None:
        if params.get("fromBlock") is not None or params.get("toBlock") is not None:
            raise RpcError(
                INVALID_PARAMS, "cannot specify both BlockHash and FromBlock/ToBlock, choose one"
            )
        block = chain.blocks.by_hash(to_bytes(params["blockHash"], 32))
        if block is None:
            raise RpcError(SERVER_ERROR, "unknown block")
        return [block]
    first, last = (_height(chain, params.get(end)) for end in ("fromBlock", "toBlock"))
    if first > last:
        raise RpcError(INVALID_PARAMS, "invalid block range params")
    return chain.blocks.between(first, last)


def _height(chain: DevChain, tag: Any) -> int:
    """A block number for a range, which may end above the newest block."""
    if tag is None or (isinstance(tag, str) and not tag.startswith("0x")):
        return require_block(chain.blocks, tag).number
    return to_int(tag)
