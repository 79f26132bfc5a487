"""A refund on chain: an EIP-20 ``transfer`` of the refund wallet, stored with its refund.

A plain transfer has no nonce of its payer's to keep it from happening twice, as authorizations
have. So a refund is bound to one transaction of the outbox in the transaction that stores it, and
to no other ever after: not when nodes refuse it (it is sent again as it is), and not when its nonce
is lost to another transaction until the chain is so deep that it cannot come back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from eth_abi.abi import encode

from x402_django.chain.broadcast import Verdict, broadcast, find_receipt
from x402_django.chain.fees import MAX_GAS
from x402_django.chain.outbox import draft, follow, send_orphans
from x402_django.chain.rpc import get_web3, rpc_errors
from x402_django.chain.storing import catch_up, chain_nonce, store
from x402_django.chain.transfers import plain_transfers
from x402_django.models import ChainTransaction

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from x402_django.models import Refund

#: ``transfer(address,uint256)`` (EIP-20).
_TRANSFER: Final = bytes.fromhex("a9059cbb")
_GAS: Final = min(MAX_GAS, 300_000)

Status = ChainTransaction.Status


@dataclass(frozen=True, slots=True)
class Place:
    """Where the chain has a refund's transaction. ``log_index`` None: it moved nothing."""

    transaction: str
    sender: str
    block_number: int
    block_hash: str
    log_index: int | None
    confirmations: int

    def as_fields(self) -> dict[str, Any]:
        """As columns of ``Refund``."""
        return {
            "transaction": self.transaction,
            "sender": self.sender,
            "block_number": self.block_number,
            "block_hash": self.block_hash,
            "log_index": self.log_index,
        }


def send_refund(refund: Refund, account: LocalAccount) -> ChainTransaction:
    """Store the transfer with the refund, which is then ``sending``, and hand it to the nodes.

    Raises:
        web3.exceptions.ContractLogicError: it would revert. Nothing was stored.
        SettlementFailed: it would need too much gas. Nothing was stored.
        RpcUnavailable: no node could be asked. Nothing was stored.
        InvalidTransition: somebody else has sent it, or it is not to be sent any more.
    """
    call = _TRANSFER + encode(["address", "uint256"], [refund.payer, int(refund.amount)])
    unbound = draft(refund.network, account, refund.asset, call, None, _GAS, 0)
    row = store(replace(unbound, refund=refund))
    send_orphans(row)
    if broadcast(row) is Verdict.SUPERSEDED:
        catch_up(row)
    return row


def place_of(refund: Refund, row: ChainTransaction) -> Place | None:
    """Where the refund's transaction is now; None: in no block. Raises RpcUnavailable."""
    receipt = find_receipt(row) if row.status == Status.DROPPED else follow(row)
    return None if receipt is None else _place(refund, receipt, row.wallet)


def is_lost(row: ChainTransaction, *, depth: int) -> bool:
    """Whether another transaction has its nonce for good, ``depth`` blocks deep.

    Raises RpcUnavailable.
    """
    if row.status != Status.DROPPED:
        return False
    with rpc_errors(row.network):
        deep = get_web3(row.network).eth.block_number - depth + 1
    return deep >= 0 and chain_nonce(row.network, row.wallet, deep) > row.nonce


def _place(refund: Refund, receipt: Mapping[str, Any], sender: str) -> Place:
    transfers = plain_transfers(receipt, refund.asset, refund.payer)
    log_index = next(
        (
            one.log_index
            for one in transfers
            if receipt["status"] == 1 and (one.sender, one.value) == (sender, int(refund.amount))
        ),
        None,
    )
    with rpc_errors(refund.network):
        head = get_web3(refund.network).eth.block_number
    return Place(
        transaction="0x" + bytes(receipt["transactionHash"]).hex(),
        sender=sender,
        block_number=receipt["blockNumber"],
        block_hash="0x" + bytes(receipt["blockHash"]).hex(),
        log_index=log_index,
        confirmations=max(head - receipt["blockNumber"] + 1, 1),
    )
