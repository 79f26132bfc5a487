"""Which transfer a receipt, or a payment without one, stands for."""

from __future__ import annotations

from collections.abc import Callable

from x402_django.chain.incoming import IncomingTransfer
from x402_django.payments.booked import Booked, Unbooked, UnbookedTransfer


def taken_for(transfer: IncomingTransfer, payments: list[UnbookedTransfer]) -> Unbooked | None:
    """The payment of a proven transfer; each is taken out of ``payments``, so it is named once."""
    paid = (transfer.asset, transfer.sender, transfer.pay_to)
    for one in payments:
        if (one.asset, one.payer, one.pay_to) == paid and one.log_index in (
            transfer.log_index,
            None,
        ):
            payments.remove(one)
            return one.payment
    return None


def paired(
    transfers: list[IncomingTransfer],
    receipts: list[Booked],
    fits: Callable[[IncomingTransfer, Booked], bool],
) -> tuple[list[IncomingTransfer], list[tuple[IncomingTransfer, Booked]], list[Booked]]:
    """The pairs that fit, each transfer and each receipt in one at most; and what is left."""
    left, pairs, receipts = [], [], list(receipts)
    for transfer in transfers:
        for receipt in receipts:
            if fits(transfer, receipt):
                pairs.append((transfer, receipt))
                receipts.remove(receipt)
                break
        else:
            left.append(transfer)
    return left, pairs, receipts


def same_parties(transfer: IncomingTransfer, receipt: Booked) -> bool:
    """Of one token, from the payer to the payee."""
    paid = (transfer.asset, transfer.sender, transfer.pay_to)
    return paid == (receipt.asset, receipt.payer, receipt.pay_to)


def same(transfer: IncomingTransfer, receipt: Booked) -> bool:
    """And of one amount."""
    return transfer.value == receipt.amount and same_parties(transfer, receipt)


def same_log(transfer: IncomingTransfer, receipt: Booked) -> bool:
    """And at one place in its block."""
    return transfer.log_index == receipt.log_index and same(transfer, receipt)
