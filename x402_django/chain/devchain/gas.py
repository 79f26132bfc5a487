"""Gas estimation in as few executions as possible: on py-evm each one costs milliseconds."""

from __future__ import annotations

from collections.abc import Callable

from .evm import GAS_LIMIT, Call, CallResult, floor_gas, intrinsic_gas

TOLERANCE_PERCENT = 2
"""How much too high an estimate that had to be searched for may be."""


class EstimationFailed(Exception):
    """The call fails even with all the gas there is; ``result`` says how."""

    def __init__(self, result: CallResult) -> None:
        super().__init__(result.error)
        self.result = result


def estimate_gas(call: Call, execute: Callable[[int], CallResult]) -> int:
    """A gas limit with which ``call`` succeeds as a transaction.

    ``execute`` runs it with so much gas, intrinsic gas excluded. Raises ``EstimationFailed``.
    """
    intrinsic = intrinsic_gas(call)
    ceiling = min(call.gas or GAS_LIMIT, GAS_LIMIT) - intrinsic
    result = execute(max(ceiling, 0))
    if result.error is not None:
        raise EstimationFailed(result)
    low, high = result.gas_used - 1, ceiling
    # Enough without inner calls; then enough though a call keeps back one part in 64 (EIP-150).
    for guess in (result.gas_used, result.gas_used * 64 // 63 + 1):
        if guess >= high:
            break
        if execute(guess).error is None:
            high = guess
            break
        low = guess
    while high - low > 1 and (high - low) * 100 > high * TOLERANCE_PERCENT:
        middle = (low + high) // 2
        if execute(middle).error is None:
            high = middle
        else:
            low = middle
    return max(intrinsic + high, floor_gas(call))
