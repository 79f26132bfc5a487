"""Settling any number of payments from the site's own wallet, each to its own result.

What the outbox already holds for a payment comes first; then plain payers go through the lane,
where they may share a transaction, and all others by themselves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from x402_django.conf import x402
from x402_django.exceptions import RpcUnavailable, SettlementUnknown, X402Error
from x402_django.facilitators import single
from x402_django.facilitators.journey import Fate, Party
from x402_django.facilitators.plain import is_plain
from x402_django.protocol.types import Settlement, SignedPayment

if TYPE_CHECKING:
    from x402_django.facilitators.local import LocalFacilitator
    from x402_django.models import ChainTransaction

Result = Settlement | X402Error


def settle_batch(facilitator: LocalFacilitator, batch: Mapping[int, SignedPayment]) -> list[Result]:
    """The results in the order of ``batch`` (payments by primary key)."""
    groups = math.ceil(len(batch) / max(facilitator.group_size, 1))
    deadline = time.monotonic() + x402.settlement_timeout * groups
    results: dict[int, Result] = {}
    todo = _round(facilitator, batch, results, deadline)
    while todo:
        todo = _round(facilitator, todo, results, deadline, again=True)
    return [_only_if_nothing_is_sent(payment_id, results[payment_id]) for payment_id in batch]


def _round(
    facilitator: LocalFacilitator,
    todo: Mapping[int, SignedPayment],
    results: dict[int, Result],
    deadline: float,
    *,
    again: bool = False,
) -> dict[int, SignedPayment]:
    """Try all of ``todo`` once; those that are to be tried again."""
    from x402_django.chain import outbox

    alone: dict[int, SignedPayment] = {}
    more: dict[int, SignedPayment] = {}
    lanes: dict[str, dict[int, SignedPayment]] = {}
    sharing = {
        key for key, signed in todo.items() if facilitator.group_size > 1 and is_plain(signed)
    }
    # Of those that share, the lane finds out: for many payments at once.
    earlier = outbox.having_transactions(todo if again else todo.keys() - sharing)
    for payment_id, signed in todo.items():
        if payment_id in earlier:
            result = _caught(lambda: _earlier(facilitator, signed, payment_id, deadline))  # noqa: B023
            if result is not None:
                results[payment_id] = result
                continue
        refusal = _caught(lambda: facilitator.refuse_over_budget(signed))  # noqa: B023
        if refusal is not None:
            if payment_id in sharing and not again:
                more[payment_id] = signed  # it may have been settled before
            else:
                results[payment_id] = refusal
            continue
        if payment_id in sharing:
            lanes.setdefault(signed.offer.network, {})[payment_id] = signed
        else:
            alone[payment_id] = signed
    for network, riders in lanes.items():
        party = Party(riders, seconds=max(deadline - time.monotonic(), 0), examined=again)
        facilitator.lane(network).settle(party)
        for seat in party.seats:
            if seat.result is Fate.ALONE:
                alone[seat.payment_id] = seat.signed
            elif isinstance(seat.result, Settlement | X402Error):
                results[seat.payment_id] = seat.result
            elif time.monotonic() < deadline:
                more[seat.payment_id] = seat.signed
            else:
                results[seat.payment_id] = SettlementUnknown(transaction=seat.transaction)
    _each_by_itself(facilitator, alone, results, deadline)
    return more


def _earlier(
    facilitator: LocalFacilitator, signed: SignedPayment, payment_id: int, deadline: float
) -> Settlement | None:
    """What an earlier transaction of the payment has done; None if another is to be made."""
    from x402_django.chain import outbox

    row = outbox.transaction_for(payment_id)
    if row is None or _is_over(row, signed, payment_id):
        return None
    row = outbox.rebroadcast(row)
    if row.status == row.Status.DROPPED:
        return None
    return _outcome(facilitator, row, None, signed, payment_id, deadline)


def _is_over(row: ChainTransaction, signed: SignedPayment, payment_id: int) -> bool:
    """Whether the transaction is mined and has left the authorization unused."""
    from x402_django.chain import queue
    from x402_django.chain.broadcast import look
    from x402_django.chain.evidence import authorization_used, paying_log

    try:
        receipt = look(row)
        if receipt is None or paying_log(row.network, receipt, signed) is not None:
            return False
        if authorization_used(signed):
            return False
    except RpcUnavailable as error:
        raise SettlementUnknown(transaction=row.hash) from error
    queue.mark_missed(row.pk, [payment_id])
    return True


def _each_by_itself(
    facilitator: LocalFacilitator,
    alone: dict[int, SignedPayment],
    results: dict[int, Result],
    deadline: float,
) -> None:
    """Send all of ``alone``, then wait for them: nobody waits for the block of another."""
    sent = {}
    for payment_id, signed in alone.items():
        try:
            sent[payment_id] = single.send(facilitator, signed, payment_id, deadline=deadline)
        except X402Error as error:
            results[payment_id] = error
    for payment_id, (row, receipt) in sent.items():
        signed = alone[payment_id]
        result = _caught(lambda: _outcome(facilitator, row, receipt, signed, payment_id, deadline))  # noqa: B023
        results[payment_id] = result or SettlementUnknown()


def _outcome(
    facilitator: LocalFacilitator,
    row: ChainTransaction,
    receipt: Mapping[str, Any] | None,
    signed: SignedPayment,
    payment_id: int,
    deadline: float,
) -> Settlement:
    """Judge a stored transaction by its receipt, when it has one."""
    from x402_django.chain.evidence import paying_log
    from x402_django.chain.outbox import await_receipt

    receipt = receipt or await_receipt(row, deadline=deadline)
    if receipt is None:
        raise SettlementUnknown(transaction=row.hash)
    try:
        log_index = paying_log(row.network, receipt, signed)
    except RpcUnavailable as error:
        raise SettlementUnknown(transaction=row.hash) from error
    if log_index is None:
        raise facilitator.not_settled(row, signed, payment_id)
    return Settlement(
        transaction="0x" + bytes(receipt["transactionHash"]).hex(),
        block_number=receipt["blockNumber"],
        block_hash="0x" + bytes(receipt["blockHash"]).hex(),
        log_index=log_index,
    )


def _caught(work: Callable[[], Settlement | None]) -> Result | None:
    try:
        return work()
    except X402Error as error:
        return error


def _only_if_nothing_is_sent(payment_id: int, result: Result) -> Result:
    """No "it failed" and no "nothing was sent" while it may still be sent, or mined."""
    from x402_django.chain import queue, returning

    if isinstance(result, Settlement | SettlementUnknown):
        return result
    if queue.withdraw(payment_id) and not returning.may_be_mined(payment_id):
        return result
    return SettlementUnknown()
