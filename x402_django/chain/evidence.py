"""What the chain itself says about a payment; the only proof there is.

A payment is proven by one successful transaction that has the ``Transfer(payer, payTo, value)``
(EIP-20) which belongs to its authorization; what that means for each transfer method is in
``methods``. Who submitted the transaction does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from web3 import Web3
from web3.types import BlockIdentifier, FilterParams

from x402_django.chain.methods import method_for
from x402_django.chain.receipts import read_receipt
from x402_django.chain.rpc import checksum, get_web3, rpc_errors
from x402_django.conf import x402
from x402_django.exceptions import RpcUnavailable
from x402_django.protocol.types import Settlement, SignedPayment

#: How much block timestamps may lag behind our clock when a search is bounded by time.
_CLOCK_SLACK: Final = timedelta(minutes=10)
#: Log queries per search. Beyond this the answer is "cannot know" rather than a wrong "no".
MAX_LOG_QUERIES: Final = 500


@dataclass(frozen=True, slots=True)
class Evidence:
    """A proven payment: where its ``Transfer`` is. ``confirmations`` is 1 in the newest block."""

    transaction: str
    block_number: int
    block_hash: str
    log_index: int
    confirmations: int

    def as_settlement(self) -> Settlement:
        """The same place, as the ledger keeps it."""
        return Settlement(self.transaction, self.block_number, self.block_hash, self.log_index)


@dataclass(frozen=True, slots=True)
class AuthorizationState:
    """Whether an authorization was used (or cancelled), as of one block.

    ``used`` and ``timestamp`` (seconds) are of the same block, so "unused, and too late to be
    used" can be concluded from them even when endpoints are not equally far.
    """

    used: bool
    block_number: int
    timestamp: int


def find_settlement(
    signed: SignedPayment,
    *,
    transaction: str | None = None,
    from_block: int | None = None,
    since: datetime | None = None,
) -> Evidence | None:
    """Where the chain proves that ``signed`` was settled; None where it does not.

    Args:
        signed: the payment.
        transaction: hash to look at first; a hint from anybody, only what it proves counts.
        from_block: search logs no further back than this block.
        since: nor further back than this time (less ten minutes). The authorization's own
            ``validAfter`` bounds the search in any case.

    Raises:
        RpcUnavailable: the chain could not be read, or not far enough back.
    """
    network = signed.offer.network
    w3 = get_web3(network)
    with rpc_errors(network):
        if transaction:
            found = _in_transaction(w3, signed, transaction)
            if found is not None:
                return found
        if not method_for(signed).is_used(w3, signed, "latest"):
            return None
        for candidate in _transactions_using(w3, signed, from_block, since):
            found = _in_transaction(w3, signed, candidate)
            if found is not None:
                return found
    return None


def authorization_used(signed: SignedPayment) -> bool:
    """Whether this authorization was used or cancelled, at the newest block.

    Raises RpcUnavailable if the chain, or the contract that keeps the nonces, does not answer.
    """
    network = signed.offer.network
    w3 = get_web3(network)
    with rpc_errors(network):
        return method_for(signed).is_used(w3, signed, "latest")


def authorization_state(signed: SignedPayment, *, depth: int = 0) -> AuthorizationState:
    """The authorization's state ``depth`` blocks below the newest, and that block's time.

    Raises RpcUnavailable if the chain, or the token on it, does not answer.
    """
    network = signed.offer.network
    w3 = get_web3(network)
    with rpc_errors(network):
        block = w3.eth.get_block("latest")
        if depth:
            block = w3.eth.get_block(max(block["number"] - depth, 0))
        return AuthorizationState(
            used=method_for(signed).is_used(w3, signed, block["number"]),
            block_number=block["number"],
            timestamp=block["timestamp"],
        )


def paying_log(network: str, receipt: Mapping[str, Any], signed: SignedPayment) -> int | None:
    """The index of the log that pays ``signed`` in a receipt, or None. Raises RpcUnavailable."""
    w3 = get_web3(network)
    with rpc_errors(network):
        return method_for(signed).paying_log(w3, receipt, signed)


def chain_time(network: str, block_number: int | None = None) -> int:
    """A block's timestamp, in seconds; of the newest by default. Raises RpcUnavailable."""
    w3 = get_web3(network)
    with rpc_errors(network):
        block: BlockIdentifier = "latest" if block_number is None else block_number
        return w3.eth.get_block(block)["timestamp"]


def has_code(network: str, address: str) -> bool:
    """Whether a contract, or a delegation (EIP-7702), is at ``address``. Raises RpcUnavailable."""
    w3 = get_web3(network)
    with rpc_errors(network):
        return len(w3.eth.get_code(checksum(address))) > 0


def _in_transaction(w3: Web3, signed: SignedPayment, transaction: str) -> Evidence | None:
    receipt = read_receipt(signed.offer.network, transaction)
    if receipt is None:
        return None
    log_index = method_for(signed).paying_log(w3, receipt, signed)
    if log_index is None:
        return None
    return Evidence(
        transaction="0x" + bytes(receipt["transactionHash"]).hex(),
        block_number=receipt["blockNumber"],
        block_hash="0x" + bytes(receipt["blockHash"]).hex(),
        log_index=log_index,
        confirmations=max(w3.eth.block_number - receipt["blockNumber"] + 1, 1),
    )


def _transactions_using(
    w3: Web3, signed: SignedPayment, from_block: int | None, since: datetime | None
) -> Iterator[str]:
    """Hashes of transactions that may have settled it, going back from the newest block."""
    span = x402.network(signed.offer.network).log_range
    oldest_time = signed.valid_after
    if since is not None:
        oldest_time = max(oldest_time, int((since - _CLOCK_SLACK).timestamp()))
    last = int(w3.eth.block_number)
    for _ in range(MAX_LOG_QUERIES):
        first = max(last - span + 1, from_block or 0, 0)
        where: FilterParams = {"fromBlock": first, "toBlock": last}
        logs = w3.eth.get_logs({**method_for(signed).log_filter(signed), **where})
        yield from ("0x" + bytes(log["transactionHash"]).hex() for log in reversed(logs))
        if first <= (from_block or 0) or w3.eth.get_block(first)["timestamp"] < oldest_time:
            return
        last = first - 1
    raise RpcUnavailable(
        f"The logs of {signed.offer.network} were searched back to block {last + 1} in vain."
    )
