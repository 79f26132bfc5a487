"""What a transaction costs: gas and its price."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Any, Final

from django.core.signals import setting_changed
from web3 import Web3
from web3.types import TxParams

from x402_django.chain.batch import Question, RpcRefused, ask, ask_each
from x402_django.conf import x402
from x402_django.exceptions import FacilitatorUnavailable, RpcUnavailable

logger = logging.getLogger("x402_django.chain")

#: Largest gas limit of a transaction unless its sender says otherwise. Enough to deploy common
#: contract wallets; a payer's wallet that wants more is refused before anything is sent.
MAX_GAS = 500_000

#: What ``fees_from`` reads.
FEE_QUESTIONS: Final[tuple[Question, ...]] = (
    ("eth_getBlockByNumber", ["latest", False]),
    ("eth_maxPriorityFeePerGas", []),
)

#: Seconds for which a network is taken to count gas as it did.
_COUNTS_FOR: Final = 60.0

#: How many times our count of its gas a node wants for a transaction, and until when (of
#: ``time.monotonic``) that is believed; by network.
_counts: dict[str, tuple[float, float]] = {}


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


def current_fees(network: str) -> Fees:
    """Fees that will do for several full blocks: twice the base fee, and the suggested tip.

    One request. Raises RpcUnavailable.
    """
    return fees_from(network, *ask_each(network, FEE_QUESTIONS))


def fees_from(network: str, block: Any, tip: Any) -> Fees:
    """The fees that the answers to ``FEE_QUESTIONS`` amount to.

    Asks once more where the network knows one price only, or the node suggests no tip. Raises
    RpcUnavailable.
    """
    if isinstance(block, RpcRefused):
        raise block
    try:
        said = block.get("baseFeePerGas")
        if said is None:
            price = _price(network)
            return Fees(max_fee=price, priority_fee=price, legacy=True, base_fee=price)
        base_fee = int(said, 16)
        if isinstance(tip, RpcRefused):
            priority = max(_price(network) - base_fee, 0)
        else:
            priority = int(tip, 16)
    except (AttributeError, TypeError, ValueError) as error:
        raise RpcUnavailable(f"The RPC endpoint of {network} sent malformed fees.") from error
    return Fees(max_fee=2 * base_fee + priority, priority_fee=priority, base_fee=base_fee)


def _price(network: str) -> int:
    (price,) = ask(network, [("eth_gasPrice", [])])
    return int(price, 16)


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


def gas_limit(w3: Web3, network: str, transaction: TxParams, counted: int) -> int:
    """Gas limit for a ``transaction`` that has just been rehearsed and used ``counted`` gas.

    A quarter above that, as ``estimate_gas``, which has the node run it many times over. The node
    is still asked now and then, and what it wants more than we have counted is remembered: some
    networks count other things as gas too (Arbitrum: the price of keeping the data on Ethereum).
    Raises as ``estimate_gas``. Call under ``rpc_errors``.
    """
    now = time.monotonic()
    ratio, until = _counts.get(network, (1.0, now))
    if until <= now:
        ratio = max(estimate_gas(w3, transaction) * 4 / 5 / counted, 1.0)
        _counts[network] = (ratio, now + _COUNTS_FOR)
    return int(counted * ratio) * 5 // 4


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "X402":
        _counts.clear()


setting_changed.connect(_forget, dispatch_uid="x402_django.chain.fees.forget")
