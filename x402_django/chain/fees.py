"""What a transaction costs: gas and its price."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from web3 import Web3
from web3.exceptions import Web3RPCError
from web3.types import TxParams, Wei

from x402_django.conf import x402
from x402_django.exceptions import FacilitatorUnavailable

logger = logging.getLogger("x402_django.chain")

#: Largest gas limit of a transaction unless its sender says otherwise. Enough to deploy common
#: contract wallets; a payer's wallet that wants more is refused before anything is sent.
MAX_GAS = 500_000


@dataclass(frozen=True, slots=True)
class Fees:
    """Prices in wei per unit of gas. ``legacy`` chains know one price, which is then in both."""

    max_fee: int
    priority_fee: int
    legacy: bool = False
    #: What the newest block charged; 0 where it is not known.
    base_fee: int = 0

    def as_transaction(self) -> dict[str, Any]:
        """The fields of a transaction that say so (EIP-1559, or ``gasPrice``)."""
        if self.legacy:
            return {"gasPrice": self.max_fee}
        return {"maxFeePerGas": self.max_fee, "maxPriorityFeePerGas": self.priority_fee}


def current_fees(w3: Web3) -> Fees:
    """Fees that will do for several full blocks: twice the base fee, and the suggested tip.

    Two RPC calls. Call under ``rpc_errors``.
    """
    base_fee = w3.eth.get_block("latest").get("baseFeePerGas")
    if base_fee is None:
        price = w3.eth.gas_price
        return Fees(max_fee=price, priority_fee=price, legacy=True, base_fee=price)
    try:
        priority = w3.eth.max_priority_fee
    except Web3RPCError:  # not every node suggests one
        priority = Wei(max(w3.eth.gas_price - base_fee, 0))
    return Fees(max_fee=2 * base_fee + priority, priority_fee=priority, base_fee=base_fee)


def within_ceiling(fees: Fees, network: str) -> Fees:
    """``fees``, but no more than ``NETWORKS[network]["MAX_FEE_GWEI"]``.

    Raises FacilitatorUnavailable if not even the newest block's price is within it.
    """
    ceiling = x402.network(network).max_fee
    if ceiling is None or fees.max_fee <= ceiling:
        return fees
    if fees.base_fee > ceiling:
        logger.warning("Gas on %s costs %s wei, above MAX_FEE_GWEI.", network, fees.base_fee)
        raise FacilitatorUnavailable("The network is too expensive at the moment.")
    return replace(fees, max_fee=ceiling, priority_fee=min(fees.priority_fee, ceiling))


def estimate_gas(w3: Web3, transaction: TxParams) -> int:
    """Gas limit for ``transaction``, a quarter above what executing it now would use.

    Raises ``web3.exceptions.ContractLogicError`` if it would revert. Call under ``rpc_errors``.
    """
    return w3.eth.estimate_gas(transaction) * 5 // 4
