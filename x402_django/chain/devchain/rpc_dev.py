"""Methods for tests: ``evm_`` and ``anvil_`` as Anvil and Hardhat have them, ``dev_`` our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .encoding import quantity
from .errors import INVALID_PARAMS, RpcError
from .methods import MethodTable
from .params import to_bytes, to_int

if TYPE_CHECKING:
    from .chain import DevChain

MAX_MINED_AT_ONCE = 1_000

METHODS = MethodTable()


@METHODS.method("evm_snapshot")
def _snapshot(chain: DevChain) -> str:
    return quantity(chain.snapshot())


@METHODS.method("evm_revert")
def _revert(chain: DevChain, identifier: Any) -> bool:
    return chain.revert(to_int(identifier))


@METHODS.method("evm_mine")
def _mine_one(chain: DevChain, timestamp: Any = None) -> str:
    if timestamp is not None:
        _set_next_timestamp(chain, timestamp)
    chain.mine()
    return "0x0"


@METHODS.method("anvil_mine")
def _mine(chain: DevChain, count: Any = 1) -> None:
    blocks = to_int(count)
    if blocks > MAX_MINED_AT_ONCE:
        raise RpcError(INVALID_PARAMS, f"at most {MAX_MINED_AT_ONCE} blocks at once")
    chain.mine(blocks)


@METHODS.method("evm_increaseTime")
def _increase_time(chain: DevChain, seconds: Any) -> str:
    return quantity(max(chain.advance_time(to_int(seconds)), 0))


@METHODS.method("evm_setNextBlockTimestamp")
def _set_next_timestamp(chain: DevChain, timestamp: Any) -> None:
    try:
        chain.set_next_timestamp(to_int(timestamp))
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, str(error)) from error


@METHODS.method("evm_setAutomine")
def _set_automine(chain: DevChain, enabled: Any) -> bool:
    chain.set_automine(bool(enabled))
    return True


@METHODS.method("evm_setIntervalMining")
def _set_interval_mining(chain: DevChain, seconds: Any) -> bool:
    chain.set_interval(to_int(seconds))
    return True


@METHODS.method("anvil_dropTransaction")
def _drop_transaction(chain: DevChain, transaction_hash: Any) -> str | None:
    dropped = chain.drop_pending(to_bytes(transaction_hash, 32))
    return str(transaction_hash) if dropped else None


@METHODS.method("anvil_dropAllTransactions")
def _drop_all_transactions(chain: DevChain) -> None:
    chain.drop_pending()


@METHODS.method("dev_mint")
def _mint(chain: DevChain, address: Any, amount: Any) -> str:
    to_bytes(address, 20)
    return chain.mint(address, to_int(amount))


@METHODS.method("dev_fund")
def _fund(chain: DevChain, address: Any, wei: Any) -> str:
    to_bytes(address, 20)
    return chain.fund(address, to_int(wei))


@METHODS.method("dev_reorg")
def _reorg(chain: DevChain, depth: Any, keep_transactions: Any = False) -> None:
    try:
        chain.reorg(to_int(depth), keep_transactions=bool(keep_transactions))
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, str(error)) from error
