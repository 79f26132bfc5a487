"""One stored transaction and the nodes: handing it over, and finding out what became of it."""

from __future__ import annotations

import enum
import logging
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from django.db import router, transaction
from django.db.models import F

from x402_django import clock
from x402_django.chain.batch import RpcRefused, ask
from x402_django.chain.endpoints import KNOWN, SEND_RAW
from x402_django.chain.receipts import read_receipt
from x402_django.conf import x402
from x402_django.exceptions import RpcUnavailable
from x402_django.models import ChainTransaction, ChainTransactionItem, ReplacedTransaction

logger = logging.getLogger("x402_django.chain")

Status = ChainTransaction.Status
ItemStatus = ChainTransactionItem.Status

_NONCE_TAKEN: Final = re.compile(r"nonce ?(is )?too ?low|replacement ?(transaction|not)", re.I)
#: Of those, what is said of a nonce that waits for its block and may yet be any transaction's.
_REPLACES: Final = re.compile(r"replacement", re.I)
#: Refusals after which the node surely does not keep the transaction.
_REFUSED: Final = re.compile(
    r"insufficient funds|intrinsic gas|underpriced|fee per gas|fee cap|max fee|"
    r"exceeds block gas|gas limit|invalid sender|chain ?id|tx fee|too large|txpool is full",
    re.I,
)
#: How often the receipt is looked for before "nonce too low" means another transaction: the
#: nodes behind one address are not all equally far.
_PATIENCE: Final = 3


class Verdict(enum.Enum):
    """What came of handing a transaction to the nodes."""

    #: A node has it, or it is mined.
    SENT = "sent"
    #: Nobody answered, or not clearly: it may have been taken.
    UNKNOWN = "unknown"
    #: The node does not keep it.
    REFUSED = "refused"
    #: Another transaction has its nonce.
    SUPERSEDED = "superseded"


def broadcast(row: ChainTransaction, *, note: bool = True) -> Verdict:
    """Hand a stored transaction to the nodes and note on the row how that went.

    Without ``note`` a success is not noted: for callers that ``look_once`` right afterwards and
    then write down both. Should they die before that, it counts as not known to be sent.
    """
    try:
        error = hand_over(row)
    except RpcUnavailable as trouble:
        _note(row, str(trouble))
        return Verdict.UNKNOWN
    if error is None or KNOWN.search(error):
        if note:
            _note(row, "", status=Status.SENT)
        return Verdict.SENT
    logger.warning("Transaction %s was not taken: %s", row.hash, error[:200])
    if _NONCE_TAKEN.search(error) and not (row.bumps and _REPLACES.search(error)):
        return _nonce_taken(row)
    # What cannot be replaced by a form with a raised fee is our own earlier form, which will do.
    _note(row, error)
    return Verdict.REFUSED if _REFUSED.search(error) else Verdict.UNKNOWN


def hand_over(row: ChainTransaction) -> str | None:
    """Send the bytes. None if a node took them, else the node's words. Raises RpcUnavailable."""
    try:
        ask(row.network, [(SEND_RAW, ["0x" + bytes(row.raw).hex()])])
    except RpcRefused as refusal:
        return refusal.reason or "no reason given"
    return None


def look(row: ChainTransaction) -> Mapping[str, Any] | None:
    """The receipt, if there is one by now; the row then says what it says.

    A mined row without a receipt has lost its block to a reorg and counts as sent again.
    Raises RpcUnavailable.
    """
    receipt = find_receipt(row)
    if receipt is not None:
        record(row, receipt)
    else:
        mark_lost(row)
    return receipt


def find_receipt(row: ChainTransaction) -> Mapping[str, Any] | None:
    """The receipt of the row, or of an earlier form of it. Raises RpcUnavailable."""
    receipt = read_receipt(row.network, row.hash)
    if receipt is None and row.bumps:
        receipt = _of_an_earlier_form(row)
    return receipt


def mark_lost(row: ChainTransaction) -> None:
    """A row that was in a block is in none any more: it may be mined again."""
    over = (Status.MINED, Status.REVERTED)
    if row.status in over:
        where = {"mined_at": None, "block_number": None, "block_hash": ""}
        _update(row, over, status=Status.SENT, **where)


def look_once(row: ChainTransaction) -> Mapping[str, Any] | None:
    """The receipt, right after an unnoted broadcast; writes down that the row was sent.

    One write for both where the transaction is mined at once. Raises RpcUnavailable.
    """
    if row.status != Status.SIGNED:
        return look(row)
    sent = {"sent_at": clock.now(), "sends": F("sends") + 1}
    try:
        receipt = read_receipt(row.network, row.hash)
    except RpcUnavailable:
        _note(row, "", status=Status.SENT)
        raise
    if receipt is None:
        _note(row, "", status=Status.SENT)
    else:
        sends = row.sends + 1
        record(row, receipt, **sent)
        row.sends = sends
    return receipt


def _of_an_earlier_form(row: ChainTransaction) -> Mapping[str, Any] | None:
    """The receipt of the transaction as it was before its fee was raised, if that is mined."""
    for form in row.replaced.all():
        receipt = read_receipt(row.network, form.hash)
        if receipt is not None:
            _exchange(row, form)
            return receipt
    return None


def _exchange(row: ChainTransaction, form: ReplacedTransaction) -> None:
    """The earlier form is what counts; the later one becomes history."""
    with transaction.atomic(using=router.db_for_write(ChainTransaction)):
        for name in ("hash", "raw", "max_fee_per_gas", "max_priority_fee_per_gas"):
            mine, theirs = getattr(row, name), getattr(form, name)
            setattr(row, name, theirs)
            setattr(form, name, mine)
        form.save(update_fields=["hash", "raw", "max_fee_per_gas", "max_priority_fee_per_gas"])
        row.save(update_fields=["hash", "raw", "max_fee_per_gas", "max_priority_fee_per_gas"])


def _nonce_taken(row: ChainTransaction) -> Verdict:
    """It may be our own transaction that took the nonce, sent by somebody before us."""
    for attempt in range(_PATIENCE):
        if attempt:
            time.sleep(x402.network(row.network).poll_interval)
        try:
            if look(row) is not None:
                return Verdict.SENT
        except RpcUnavailable:
            return Verdict.UNKNOWN
    return Verdict.SUPERSEDED


def record(row: ChainTransaction, receipt: Mapping[str, Any], **more: Any) -> None:
    """Write down what the receipt of a row says, if that is news."""
    block_hash = "0x" + bytes(receipt["blockHash"]).hex()
    if row.status in (Status.MINED, Status.REVERTED) and row.block_hash == block_hash:
        return
    reverted = receipt["status"] != 1
    _update(
        row,
        (Status.SIGNED, Status.SENT, Status.MINED, Status.REVERTED),
        status=Status.REVERTED if reverted else Status.MINED,
        mined_at=clock.now(),
        block_number=receipt["blockNumber"],
        block_hash=block_hash,
        gas_used=receipt["gasUsed"],
        effective_gas_price=receipt.get("effectiveGasPrice", row.max_fee_per_gas),
        last_error="",
        **more,
    )
    if reverted:  # nothing moved in it: its payments may ride in another
        row.items.filter(status=ItemStatus.RIDING).update(status=ItemStatus.MISSED)


def _note(row: ChainTransaction, error: str, **values: Any) -> None:
    sends = row.sends + 1
    _update(
        row,
        (Status.SIGNED, Status.SENT),
        last_error=error[:200],
        sent_at=clock.now(),
        sends=F("sends") + 1,
        **values,
    )
    row.sends = sends


def _update(row: ChainTransaction, expected: tuple[str, ...], **values: Any) -> None:
    """Change the row in one statement, if its status is still one of ``expected``."""
    rows = ChainTransaction.objects.using(router.db_for_write(ChainTransaction))
    if not rows.filter(pk=row.pk, status__in=expected).update(**values):
        row.refresh_from_db()
        return
    for name, value in values.items():
        setattr(row, name, value)
