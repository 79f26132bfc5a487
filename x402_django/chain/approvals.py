"""Approvals of Permit2 that the payer has signed as a transaction and the settling wallet pays for.

The payer has no ether: it is given what its transaction may cost at the most, then its transaction
is sent, and when that is mined the payment can be settled like any other. Both are stored before
they are broadcast and name the payment that they prepare, so a process may die anywhere: the next
one finds how far it got. A payer's nonce admits one approval, and a payment one gift (unique
constraints), however many workers there are.

What the approval does not use up, the payer keeps. One who spends the gift on something else has
cost us that much, and gets nothing; so what is given in an hour is limited.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from django.db import IntegrityError, transaction
from eth_typing import HexStr
from web3.exceptions import ContractLogicError
from web3.types import TxParams

from x402_django import clock
from x402_django.chain import budget, outbox
from x402_django.chain.broadcast import Verdict, broadcast
from x402_django.chain.fees import current_fees
from x402_django.chain.funds import allowance
from x402_django.chain.rpc import checksum, get_web3, rpc_errors
from x402_django.chain.storing import alias, chain_nonce, drop
from x402_django.conf import x402
from x402_django.exceptions import FacilitatorUnavailable, PaymentRefused, SettlementFailed
from x402_django.models import ChainTransaction

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from x402_django.protocol.approvals import Approval
    from x402_django.protocol.types import SignedPayment

Status = ChainTransaction.Status

#: The code of an approval whose nonce was used, by itself or by another transaction.
NOT_NEXT: Final = "erc20_approval_nonce_mismatch"

#: How often a node is asked for what another one has said: not all are equally far.
_PATIENCE: Final = 5


def missing(signed: SignedPayment) -> Approval | None:
    """The payer's transaction without which ``signed`` cannot settle now; None if there is none.

    Raises RpcUnavailable.
    """
    if signed.sponsorship is None:
        return None
    approval = signed.sponsorship.approval(signed.offer)
    if approval is None or allowance(signed) >= signed.offer.amount:
        return None
    return approval


def came_into_force(signed: SignedPayment) -> bool:
    """Whether no approval is missing now; not all nodes know at once. Raises RpcUnavailable."""
    return any(missing(signed) is None for _ in _attempts(signed.offer.network))


def refuse_unfit(signed: SignedPayment, approval: Approval, *, max_gas: int, max_cost: int) -> None:
    """Raise PaymentRefused if ``approval`` would not be mined now, or costs too much.

    ``max_cost`` is in wei. Raises RpcUnavailable.
    """
    network = signed.offer.network
    if approval.gas > max_gas or approval.cost > max_cost:
        _refuse("may cost more than is paid for it", "erc20_approval_too_expensive")
    if approval.max_fee < current_fees(network).base_fee:
        _refuse("offers less for gas than the network charges", "erc20_approval_fee_too_low")
    if approval.nonce != chain_nonce(network, signed.payer, "latest"):
        _refuse("is not the payer's next transaction", NOT_NEXT)
    call: TxParams = {
        "from": checksum(signed.payer),
        "to": checksum(signed.offer.asset),
        "data": HexStr("0x" + approval.call.hex()),
    }
    w3 = get_web3(network)
    try:
        with rpc_errors(network):
            needed = w3.eth.estimate_gas(call)
    except ContractLogicError:
        needed = approval.gas + 1
    if needed > approval.gas:
        _refuse("would fail", "erc20_approval_tx_failed")


def carry_out(
    signed: SignedPayment,
    approval: Approval,
    account: LocalAccount,
    *,
    payment_id: int,
    gifts_per_hour: int,
    deadline: float,
) -> None:
    """Pay for ``approval``, send it, and return when it is in force.

    Safe to repeat. ``account`` gives the gas, where no more than ``gifts_per_hour`` (wei) were
    given in the last hour; ``deadline`` is of ``time.monotonic``.

    Raises:
        SettlementFailed: it will not come into force. The payment has not been sent.
        FacilitatorUnavailable, RpcUnavailable: not yet; the next attempt goes on from here.
    """
    row = _stored(signed, approval, payment_id)
    if row.status in (Status.SIGNED, Status.SENT):
        _give_gas(row, account, gifts_per_hour, deadline)
        _send(row, deadline)
    receipt = outbox.await_receipt(row, deadline=deadline)
    if receipt is None and row.status != Status.DROPPED:
        raise FacilitatorUnavailable("The approval is not mined yet. Retry with the same payment.")
    if came_into_force(signed):
        return
    if receipt is not None and receipt["status"] == 1:
        raise FacilitatorUnavailable()  # the node is behind
    raise SettlementFailed("The approval of Permit2 failed.", code="erc20_approval_tx_failed")


def _stored(signed: SignedPayment, approval: Approval, payment_id: int) -> ChainTransaction:
    """The row of ``approval``, or of another one that has its nonce."""
    network, payer = signed.offer.network, signed.payer
    row = ChainTransaction(
        network=network,
        wallet=payer,
        nonce=approval.nonce,
        hash=approval.hash,
        raw=approval.raw,
        to=checksum(signed.offer.asset),
        gas_limit=approval.gas,
        max_fee_per_gas=approval.max_fee,
        max_priority_fee_per_gas=approval.priority_fee,
        prepares_id=payment_id,
        created_at=clock.now(),
    )
    rows = ChainTransaction.objects.using(alias()).filter(network=network)
    try:
        with transaction.atomic(using=alias(), durable=True):
            row.save(using=alias(), force_insert=True)
    except IntegrityError:
        same_nonce = rows.filter(wallet=payer, nonce=approval.nonce).exclude(status=Status.DROPPED)
        return same_nonce.first() or rows.get(hash=approval.hash)
    return row


def _give_gas(row: ChainTransaction, account: LocalAccount, per_hour: int, deadline: float) -> None:
    """See that the payer can pay for its transaction. Raises as ``carry_out``."""
    gifts = (
        ChainTransaction.objects.using(alias())
        .filter(network=row.network, prepares_id=row.prepares_id, to=row.wallet)
        .exclude(status=Status.DROPPED)
    )
    gift = gifts.first()
    lacking = _lacking(row)
    if gift is None and lacking > 0:
        budget.refuse_gift_over(row.network, account.address, lacking, per_hour=per_hour)
        try:
            gift = outbox.send(
                network=row.network,
                account=account,
                to=row.wallet,
                data=b"",
                value=lacking,
                prepares=row.prepares_id,
            )
        except ContractLogicError as error:
            raise SettlementFailed(
                "The payer cannot be given gas.", code="erc20_approval_tx_failed"
            ) from error
        except IntegrityError:
            gift = gifts.get()  # another worker was first
    if gift is None:
        return
    if outbox.await_receipt(gift, deadline=deadline) is None:
        raise FacilitatorUnavailable("The gas for the approval is on its way.")
    if not any(_lacking(row) <= 0 or _is_mined(row) for _ in _attempts(row.network)):
        raise SettlementFailed(
            "The gas for the approval was spent on something else.",
            code="erc20_approval_gas_spent",
        )


def _lacking(row: ChainTransaction) -> int:
    """Wei that the payer lacks for its transaction."""
    w3 = get_web3(row.network)
    with rpc_errors(row.network):
        balance = int(w3.eth.get_balance(checksum(row.wallet)))
    return row.gas_limit * int(row.max_fee_per_gas) - balance


def _is_mined(row: ChainTransaction) -> bool:
    """Another worker may have sent it."""
    return outbox.refresh(row).status in (Status.MINED, Status.REVERTED)


def _send(row: ChainTransaction, deadline: float) -> None:
    """Hand it to the nodes; some may not know yet that the payer has gas now."""
    while (verdict := broadcast(row)) is Verdict.REFUSED:
        if time.monotonic() >= deadline:
            raise FacilitatorUnavailable("No node takes the approval.")
        time.sleep(x402.network(row.network).poll_interval)
    if verdict is Verdict.SUPERSEDED:
        drop(row, "its nonce was used by another transaction")


def _attempts(network: str) -> Iterator[int]:
    for attempt in range(_PATIENCE):
        if attempt:
            time.sleep(x402.network(network).poll_interval)
        yield attempt


def _refuse(what: str, code: str) -> None:
    raise PaymentRefused(f"The payment's approval transaction {what}.", code=code)
