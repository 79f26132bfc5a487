"""Receipts of transactions, read as plain JSON.

web3 would make an object of each field of each log, which for a transaction that settles many
payments takes longer than everything else that is done with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from x402_django.chain.batch import ask
from x402_django.exceptions import RpcUnavailable

_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}")


def read_receipt(network: str, transaction: str) -> Mapping[str, Any] | None:
    """The receipt of a transaction, or None while it is in no block.

    Quantities are ints, hashes, topics and data are bytes, addresses in lower case.
    ``transaction`` may come from a stranger: what is no hash has no receipt. Raises
    RpcUnavailable.
    """
    if _HASH.fullmatch(transaction) is None:
        return None
    (raw,) = ask(network, [("eth_getTransactionReceipt", [transaction])])
    if raw is None:
        return None
    try:
        return None if raw["blockHash"] is None else _as_receipt(raw)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RpcUnavailable(f"The RPC endpoint of {network} sent a malformed receipt.") from error


def _as_receipt(raw: Mapping[str, Any]) -> dict[str, Any]:
    receipt = {
        "transactionHash": _bytes(raw["transactionHash"]),
        "blockHash": _bytes(raw["blockHash"]),
        "blockNumber": int(raw["blockNumber"], 16),
        "status": int(raw["status"], 16),
        "gasUsed": int(raw["gasUsed"], 16),
    }
    price = raw.get("effectiveGasPrice")  # not every node says
    if price is not None:
        receipt["effectiveGasPrice"] = int(price, 16)
    where = {name: receipt[name] for name in ("transactionHash", "blockHash", "blockNumber")}
    receipt["logs"] = [{**_as_log(log), **where} for log in raw["logs"]]
    return receipt


def _as_log(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "address": raw["address"].lower(),
        "topics": [_bytes(topic) for topic in raw["topics"]],
        "data": _bytes(raw["data"]),
        "logIndex": int(raw["logIndex"], 16),
    }


def _bytes(value: str) -> bytes:
    return bytes.fromhex(value.removeprefix("0x"))
