"""What must hold at the end: to the unit, and for every single purchase."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from chaos.buyers import PURSE, Purchase

#: States in which something is still to happen to a payment.
UNSETTLED: Final = ("claimed", "verified", "settling", "settled", "reversed")


@dataclass(slots=True)
class Books:
    """What was counted. ``lost`` and ``doubled`` say, each in a sentence, what must not be."""

    payments: int = 0
    receipts: int = 0
    received: int = 0
    booked: int = 0
    delivered: int = 0
    owed: int = 0
    debts: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)


def wait_until_quiet(seconds: float, tend: Callable[[], None]) -> int:
    """Wait until no payment is under way; how many still are when the time is over."""
    from django.db import close_old_connections

    from x402_django.models import Payment

    deadline = time.monotonic() + seconds
    while True:
        tend()
        close_old_connections()
        left = Payment.objects.filter(state__in=UNSETTLED).count()
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.5)


def audit(payee: str, network: str, purchases: Sequence[Purchase], purses: Sequence[str]) -> Books:
    """Compare what buyers have, what the ledger says and what the chain says."""
    from django.db.models import Count

    from x402_django.models import ExactSum, Payment, Receipt

    books = Books(payments=Payment.objects.count(), receipts=Receipt.objects.count())
    counted = Payment.objects.order_by().values_list("state").annotate(count=Count("pk"))
    books.states = dict(counted)
    books.booked = Receipt.objects.aggregate(total=ExactSum("amount"))["total"] or 0
    books.received = _dollars(network, payee)
    _balance(books, network, purses)
    _reconcile(books, network)
    debts = {payment.nonce: payment for payment in Payment.objects.debts()}
    for purchase in purchases:
        _judge(books, purchase, debts)
    _runs_after_delivery(books)
    books.debts = [f"{one.public_id}: {one.amount}" for one in debts.values()]
    if books.booked != books.delivered + books.owed:
        books.lost.append(
            f"Receipts say {books.booked}; what was delivered costs {books.delivered}, "
            f"and {books.owed} are owed."
        )
    return books


def _balance(books: Books, network: str, purses: Sequence[str]) -> None:
    if books.received != books.booked:
        books.lost.append(f"The payee has {books.received}; the receipts say {books.booked}.")
    spent = sum(PURSE - _dollars(network, purse) for purse in purses)
    if spent != books.received:
        books.lost.append(f"The buyers spent {spent}; the payee has {books.received}.")


def _reconcile(books: Books, network: str) -> None:
    """The same question to ``x402_reconcile``, transfer by transfer."""
    from x402_django.payments.period import period_by_blocks
    from x402_django.payments.reconciliation import Finding, reconcile

    def found(finding: Finding) -> None:
        about = finding.transfer or finding.receipt
        books.lost.append(f"Reconciliation: {finding.kind.value}: {about}.")

    reconcile(period_by_blocks(network, 0, None), found=found)


def _judge(books: Books, purchase: Purchase, debts: dict[str, Any]) -> None:
    """One purchase: paid once if anything was delivered, and not at all otherwise."""
    from x402_django.models import Receipt

    what = f"{purchase.method} {purchase.path} of {purchase.buyer}"
    paid = [nonce for nonce in purchase.nonces if _used(purchase, nonce)]
    receipts = Receipt.objects.filter(
        payer=purchase.buyer, resource_url__endswith=purchase.path
    ).count()
    if len(paid) > 1:
        books.doubled.append(f"{what} was paid {len(paid)} times: {', '.join(paid)}.")
    if receipts != len(paid):
        books.lost.append(f"{what} was paid {len(paid)} times and has {receipts} receipts.")
    if len(set(purchase.copies)) > 1:
        books.doubled.append(f"{what} was delivered in {len(set(purchase.copies))} versions.")
    if purchase.copies:
        books.delivered += purchase.price
        if not paid:
            books.lost.append(f"{what} was delivered and never paid.")
    elif paid:
        books.owed += purchase.price
        if not any(nonce in debts for nonce in paid) and not _stored(paid):
            books.lost.append(f"{what} was paid, not delivered, and is not owed.")


def _stored(nonces: list[str]) -> bool:
    """Whether the answer lies ready for whoever presents the payment again."""
    from x402_django.models import Payment

    return Payment.objects.filter(nonce__in=nonces, response_body__isnull=False).exists()


def _used(purchase: Purchase, nonce: str) -> bool:
    """Whether the chain has this authorization as used."""
    from x402_django.chain.rpc import get_web3
    from x402_django.conf import x402
    from x402_django.testing.chain import token_contract

    network = next(iter(x402.networks))
    token = token_contract(get_web3(network))
    used = token.functions.authorizationState(purchase.buyer, bytes.fromhex(nonce[2:])).call()
    return bool(used)


def _dollars(network: str, address: str) -> int:
    from x402_django.chain.rpc import get_web3
    from x402_django.testing.chain import token_contract

    return int(token_contract(get_web3(network)).functions.balanceOf(address).call())


def _runs_after_delivery(books: Books) -> None:
    """A view must not run for what was delivered already."""
    from chaos.models import Run
    from x402_django.models import Payment

    delivered = dict(
        Payment.objects.filter(delivered_at__isnull=False).values_list("public_id", "delivered_at")
    )
    for run in Run._default_manager.order_by("pk"):
        at = delivered.get(run.payment)
        if at is not None and run.at > at:
            books.doubled.append(f"A view ran for payment {run.payment} after it was delivered.")
