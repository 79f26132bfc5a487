"""What may still come of transactions that came to nothing.

Reverted, mined without effect for one of its payments, or superseded by another one with its
nonce: a reorganisation can take each of these back, and anybody who has seen the bytes can send
them again. The end is only that the nonce is used, as deep as the payment must be confirmed.
"""

from __future__ import annotations

import logging
from decimal import Decimal

from x402_django.chain.rpc import get_web3, rpc_errors
from x402_django.chain.storing import alias, chain_nonce
from x402_django.conf import x402
from x402_django.exceptions import RpcUnavailable
from x402_django.finality import required_depth
from x402_django.models import ChainTransactionItem

logger = logging.getLogger("x402_django.chain")


def may_be_mined(payment_id: int) -> bool:
    """Whether a transaction that has carried the payment may be mined yet, or mined anew.

    One that no node has taken does not count. True also where the chain cannot be read.
    """
    items = ChainTransactionItem.objects.using(alias()).filter(
        payment_id=payment_id, chain_transaction__isnull=False
    )
    rows = items.exclude(status=ChainTransactionItem.Status.REFUSED).values_list(
        "network",
        "payment__price_usd",
        "chain_transaction__wallet",
        "chain_transaction__nonce",
    )
    try:
        return any(
            nonce >= _used_nonces(network, price, wallet) for network, price, wallet, nonce in rows
        )
    except RpcUnavailable as error:
        logger.warning("Whether payment %s may be settled yet is not known: %s", payment_id, error)
        return True


def _used_nonces(network: str, price_usd: Decimal | None, wallet: str) -> int:
    """How many nonces of the wallet are used as deep as a payment of that price must be."""
    depth = required_depth(x402.network(network).confirmations, price_usd)
    if not isinstance(depth, int):
        return chain_nonce(network, wallet, depth)
    if depth == 1:
        return chain_nonce(network, wallet, "latest")
    w3 = get_web3(network)
    with rpc_errors(network):
        deepest = max(w3.eth.block_number + 1 - depth, 0)
    return chain_nonce(network, wallet, deepest)
