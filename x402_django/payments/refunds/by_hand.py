"""Refunds that the merchant has sent from a wallet of its own: the chain is asked, not believed."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db import IntegrityError, transaction

from x402_django.conf import x402
from x402_django.exceptions import RefundRefused
from x402_django.models import Refund
from x402_django.payments.refunds.moving import move

if TYPE_CHECKING:
    from x402_django.chain.refunding import Place

_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}")
#: By how much a block's time may be before our own.
_SLACK: Final = timedelta(minutes=10)


def enter_transaction(refund: Refund, sent_in: str, *, user: Any) -> None:
    """The refund was sent in the transaction ``sent_in``.

    It must be mined and hold one transfer of exactly the amount, in the token, to the payer, from
    somebody else, after the payment, which is no other refund.

    Raises:
        RefundRefused: it is not so; a sentence says what is missing.
        InvalidTransition: the refund is not to be sent, or is on its way already.
        RpcUnavailable: the chain could not be asked.
    """
    sent_in = sent_in.strip().lower()
    if _HASH.fullmatch(sent_in) is None:
        raise RefundRefused(
            "A transaction's hash is 0x and 64 hexadecimal digits.", code="invalid_transaction"
        )
    if refund.network not in x402.networks or not x402.network(refund.network).has_rpc:
        raise RefundRefused(
            "This site cannot read that network, and so cannot see whether it was sent.",
            code="network_not_readable",
        )
    place = _find(refund, sent_in)
    try:
        with transaction.atomic():
            move(
                refund,
                Refund.State.SENT,
                actor=user.get_username(),
                reason="Sent by hand.",
                is_by_hand=True,
                hindrance="",
                **place.as_fields(),
            )
    except IntegrityError:
        raise RefundRefused(
            "The transfer in that transaction is another refund's.", code="transfer_used"
        ) from None


def place_of(refund: Refund) -> Place | None:
    """Where its transaction is now; None: in no block. Raises RpcUnavailable."""
    from x402_django.chain.refunding import Place
    from x402_django.chain.transfers import read_transfers

    mined = read_transfers(
        refund.network, refund.transaction, asset=refund.asset, pay_to=refund.payer
    )
    if mined is None:
        return None
    same = (
        one
        for one in mined.transfers
        if (one.sender, one.value) == (refund.sender, int(refund.amount))
    )
    found = next(same, None)
    return Place(
        transaction=mined.transaction,
        sender=refund.sender,
        block_number=mined.block_number,
        block_hash=mined.block_hash,
        log_index=None if found is None else found.log_index,
        confirmations=mined.confirmations,
    )


def _find(refund: Refund, sent_in: str) -> Place:
    from x402_django.chain.refunding import Place
    from x402_django.chain.transfers import read_transfers

    mined = read_transfers(refund.network, sent_in, asset=refund.asset, pay_to=refund.payer)
    if mined is None:
        raise RefundRefused(
            "The network knows no such transaction, or has not mined it yet.",
            code="transaction_not_found",
        )
    settled_at = refund.payment.settled_at
    oldest = 0.0 if settled_at is None else (settled_at - _SLACK).timestamp()
    if mined.timestamp is not None and mined.timestamp < oldest:
        raise RefundRefused(
            "That transaction is older than the payment.", code="transaction_too_old"
        )
    taken = Refund.objects.filter(network=refund.network, transaction=sent_in)
    used = set(taken.values_list("log_index", flat=True))
    fitting = [
        one
        for one in mined.transfers
        if one.value == int(refund.amount) and one.sender != refund.payer
    ]
    free = [one for one in fitting if one.log_index not in used]
    if not free:
        raise RefundRefused(
            "The transfer in that transaction is another refund's."
            if fitting
            else "That transaction has no transfer of exactly this amount, in this token, to the "
            "payer.",
            code="transfer_used" if fitting else "transfer_not_found",
        )
    return Place(
        transaction=sent_in,
        sender=free[0].sender,
        block_number=mined.block_number,
        block_hash=mined.block_hash,
        log_index=free[0].log_index,
        confirmations=mined.confirmations,
    )
