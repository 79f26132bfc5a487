"""What the chain says about a transfer that somebody made by themselves.

The proof is a successful receipt that holds the token's ``Transfer(sender, payTo, value)``
(EIP-20). Transfers that belong to an authorization (EIP-3009) or that a proxy made (Permit2) are
left out: those are settled payments of a scheme, whoever submitted them, and must not count twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from eth_typing import HexStr
from web3.exceptions import ContractLogicError, TransactionNotFound
from web3.types import TxParams

from x402_django.chain.batch import ask
from x402_django.chain.methods import AUTHORIZATION_USED, TRANSFER, is_proxy_event
from x402_django.chain.receipts import read_receipt
from x402_django.chain.rpc import checksum, get_web3, rpc_errors
from x402_django.exceptions import RpcUnavailable

_IS_VALID_SIGNATURE: Final = bytes.fromhex("1626ba7e")
#: Gas that a wallet may use to judge a signature; it is a contract of the payer's choosing.
_SIGNATURE_GAS: Final = 500_000
#: Transactions that a node is asked about at a time.
_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Transfer:
    """One ``Transfer`` to the payee. ``sender`` is checksummed, ``value`` in atomic units."""

    sender: str
    value: int
    log_index: int


@dataclass(frozen=True, slots=True)
class MinedTransfers:
    """A mined transaction and the plain transfers in it, in the order of their logs.

    ``timestamp`` is its block's, in seconds, or None if it was not asked for; ``confirmations`` is
    1 in the newest block.
    """

    transaction: str
    succeeded: bool
    block_number: int
    block_hash: str
    timestamp: int | None
    confirmations: int
    transfers: tuple[Transfer, ...]


def read_transfers(
    network: str, transaction: str, *, asset: str, pay_to: str
) -> MinedTransfers | None:
    """The transfers of ``asset`` to ``pay_to`` in a transaction; None while it is not mined.

    Raises RpcUnavailable if the chain could not be read.
    """
    receipt = read_receipt(network, transaction)
    if receipt is None:
        return None
    w3 = get_web3(network)
    with rpc_errors(network):
        # By hash: the block of this receipt, also if the chain has changed its mind meanwhile.
        block = w3.eth.get_block(receipt["blockHash"])
        succeeded = receipt["status"] == 1
        return MinedTransfers(
            transaction=transaction,
            succeeded=succeeded,
            block_number=receipt["blockNumber"],
            block_hash="0x" + bytes(receipt["blockHash"]).hex(),
            timestamp=block["timestamp"],
            confirmations=max(w3.eth.block_number - receipt["blockNumber"] + 1, 1),
            transfers=tuple(plain_transfers(receipt, asset, pay_to)) if succeeded else (),
        )


def plain_transfers(receipt: Mapping[str, Any], asset: str, pay_to: str) -> Iterator[Transfer]:
    """The receipt's transfers of ``asset`` to ``pay_to`` that belong to no authorization.

    An ``AuthorizationUsed`` is followed by its own transfer: the authorizer's next one. The event
    of a proxy comes after the transfer that the proxy has made.
    """
    found: list[Transfer] = []
    authorizer = b""
    for log in sorted(receipt["logs"], key=lambda log: int(log["logIndex"])):
        topics = [bytes(topic) for topic in log["topics"]]
        if is_proxy_event(log, topics):
            del found[-1:]
        if str(log["address"]).lower() != asset.lower():
            continue
        if topics[:1] == [AUTHORIZATION_USED]:
            authorizer = b"".join(topics[1:2])
        elif topics[:1] == [TRANSFER] and len(topics) == 3 and len(bytes(log["data"])) == 32:
            if topics[1] == authorizer:
                authorizer = b""
            elif topics[2] == _word(pay_to):
                found.append(
                    Transfer(
                        sender=checksum("0x" + topics[1][12:].hex()),
                        value=int.from_bytes(bytes(log["data"]), "big"),
                        log_index=int(log["logIndex"]),
                    )
                )
    return iter(found)


def sender_of_known(network: str, transaction: str) -> str | None:
    """Who sent a transaction that the node knows, mined or not; None if it knows none.

    Raises RpcUnavailable if the chain could not be read.
    """
    w3 = get_web3(network)
    with rpc_errors(network):
        try:
            return str(w3.eth.get_transaction(HexStr(transaction))["from"])
        except TransactionNotFound:
            return None


def known_transactions(network: str, transactions: Sequence[str]) -> dict[str, int | None]:
    """Those that the node knows, with the numbers of their blocks; None for one not mined yet.

    One request for each hundred. Raises RpcUnavailable if the chain could not be read.
    """
    known = {}
    for start in range(0, len(transactions), _AT_ONCE):
        some = transactions[start : start + _AT_ONCE]
        answers = ask(network, [("eth_getTransactionByHash", [one]) for one in some])
        for transaction, found in zip(some, answers, strict=True):
            if found is None:
                continue
            try:
                number = found["blockNumber"]
                known[transaction] = None if number is None else int(number, 16)
            except (KeyError, TypeError, ValueError) as error:
                raise RpcUnavailable(
                    f"The RPC endpoint of {network} sent a malformed transaction."
                ) from error
    return known


def is_block(network: str, number: int, block_hash: str) -> bool | None:
    """Whether the chain has this block at ``number``; None if it has not come that far.

    Raises RpcUnavailable if the chain could not be read.
    """
    w3 = get_web3(network)
    with rpc_errors(network):
        if w3.eth.block_number < number:
            return None
        return "0x" + bytes(w3.eth.get_block(number)["hash"]).hex() == block_hash


def signed_by_contract(network: str, wallet: str, digest: bytes, signature: bytes) -> bool:
    """Whether the contract at ``wallet`` takes ``signature`` of ``digest`` for its own (EIP-1271).

    Raises RpcUnavailable if the chain could not be read.
    """
    padding = bytes(-len(signature) % 32)
    words = (digest, (64).to_bytes(32, "big"), len(signature).to_bytes(32, "big"))
    data = _IS_VALID_SIGNATURE + b"".join(words) + signature + padding
    call: TxParams = {
        "to": checksum(wallet),
        "data": HexStr("0x" + data.hex()),
        "gas": _SIGNATURE_GAS,
    }
    w3 = get_web3(network)
    try:
        with rpc_errors(network):
            answer = bytes(w3.eth.call(call, "latest", ccip_read_enabled=False))
    except ContractLogicError:
        return False
    return len(answer) == 32 and answer[:4] == _IS_VALID_SIGNATURE


def _word(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])
