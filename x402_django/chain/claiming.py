"""A claim from payment channels on chain: stored with its transaction, sent, followed.

As with refunds (``refunding``), the claim is bound to one transaction of the outbox in the commit
that stores both. Should that come to nothing, the next claim is made out to what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from web3.exceptions import ContractLogicError

from x402_django.chain.broadcast import Verdict, broadcast, find_receipt
from x402_django.chain.channels import VoucherClaim, claiming_call, swept
from x402_django.chain.outbox import draft, follow, send_orphans
from x402_django.chain.rpc import get_web3, rpc_errors
from x402_django.chain.storing import Draft, catch_up, store
from x402_django.constants import ESCROW_ADDRESS
from x402_django.exceptions import SettlementFailed
from x402_django.models import ChainTransaction, ChannelClaim, ChannelClaimItem

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

Status = ChainTransaction.Status

#: Channels in one transaction.
MOST: Final = 50
#: Gas that a claim may use: for the sweep, and for each channel, of which some 40,000 are used.
_GAS_FOR_SWEEP: Final = 200_000
_GAS_PER_CHANNEL: Final = 100_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where the chain has a claim's transaction. ``moved`` None: it has moved nothing."""

    transaction: str
    block_number: int
    block_hash: str
    log_index: int | None
    moved: int | None
    confirmations: int

    def as_fields(self) -> dict[str, Any]:
        """As columns of ``ChannelClaim``."""
        return {
            "transaction": self.transaction,
            "block_number": self.block_number,
            "block_hash": self.block_hash,
            "log_index": self.log_index,
            "moved": self.moved,
        }


def send_claim(
    claim: ChannelClaim,
    items: Sequence[ChannelClaimItem],
    vouchers: Sequence[VoucherClaim],
    account: LocalAccount,
) -> ChainTransaction:
    """Store ``claim`` (unsaved) and its items with their transaction, and hand it to the nodes.

    Raises:
        web3.exceptions.ContractLogicError: it would revert. Nothing was stored.
        SettlementFailed: it would need too much gas. Nothing was stored.
        RpcUnavailable: no node could be asked. Nothing was stored.
        IntegrityError: another claim of the payee's is open. Nothing was stored.
    """
    row = store(replace(_draft(claim, vouchers, account), claim=(claim, tuple(items))))
    send_orphans(row)
    if broadcast(row) is Verdict.SUPERSEDED:
        catch_up(row)
    return row


def claimable(
    claim: ChannelClaim, vouchers: Sequence[VoucherClaim], account: LocalAccount
) -> list[VoucherClaim]:
    """Those of ``vouchers``, together in one claim that reverts, that are not to blame for it.

    The chain is asked about halves, halves of halves and so on. Raises RpcUnavailable.
    """
    try:
        _draft(claim, vouchers, account)
    except (ContractLogicError, SettlementFailed):
        if len(vouchers) == 1:
            return []
        middle = len(vouchers) // 2
        halves = (vouchers[:middle], vouchers[middle:])
        return [one for half in halves for one in claimable(claim, half, account)]
    return list(vouchers)


def _draft(claim: ChannelClaim, vouchers: Sequence[VoucherClaim], account: LocalAccount) -> Draft:
    call = claiming_call(vouchers, pay_to=claim.pay_to, asset=claim.asset)
    most = _GAS_FOR_SWEEP + _GAS_PER_CHANNEL * len(vouchers)
    return draft(claim.network, account, ESCROW_ADDRESS, call, None, most, 0)


def place_of(claim: ChannelClaim) -> Place | None:
    """Where the claim's transaction is now; None: in no block. Raises RpcUnavailable."""
    row = claim.chain_transaction
    receipt = find_receipt(row) if row.status == Status.DROPPED else follow(row)
    if receipt is None:
        return None
    with rpc_errors(claim.network):
        head = get_web3(claim.network).eth.block_number
    moved, log_index = swept(receipt, pay_to=claim.pay_to, asset=claim.asset) or (None, None)
    return Place(
        transaction="0x" + bytes(receipt["transactionHash"]).hex(),
        block_number=receipt["blockNumber"],
        block_hash="0x" + bytes(receipt["blockHash"]).hex(),
        log_index=log_index,
        moved=moved,
        confirmations=max(head - receipt["blockNumber"] + 1, 1),
    )
