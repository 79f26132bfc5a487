"""What must hold at the end: to the unit, and for every single purchase."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from chaos.buyers import Purchase
from x402_django.constants import FLOW_DEFERRED, FLOW_UPFRONT

#: States in which something is still to happen to a payment.
UNSETTLED: Final = ("claimed", "verified", "settling", "settled", "reversed")
_ZERO: Final = "0x" + "0" * 40


@dataclass(slots=True)
class Books:
    """What was counted, in atomic units where it is money.

    ``defaulted`` is what was delivered under the flow ``deferred`` and could not be collected, the
    buyer's money being spent: the risk of that flow. ``lost`` and ``doubled`` say, each in a
    sentence, what must not be.
    """

    payments: int = 0
    by_flow: dict[str, int] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    receipts: int = 0
    received: int = 0
    booked: int = 0
    delivered: int = 0
    defaulted: int = 0
    owed: int = 0
    runs: int = 0
    debts: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chain:
    """What the chain says: balances, what was given out, and which authorizations were used."""

    payee: int
    spent: int
    used: frozenset[tuple[str, str]]


def wait_until_quiet(seconds: float, tend: Callable[[], None]) -> list[str]:
    """Wait until nothing is under way; what still is when the time is over, in sentences."""
    from django.db import close_old_connections

    deadline = time.monotonic() + seconds
    while True:
        tend()
        close_old_connections()
        left = _under_way()
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.5)


def _under_way() -> list[str]:
    from x402_django.models import ChainTransaction, Payment

    payments = Payment.objects.filter(state__in=UNSETTLED)
    transactions = ChainTransaction.objects.filter(status__in=("signed", "sent"))
    return [
        *(f"Payment {one.public_id} is still {one.state}." for one in payments),
        *(
            f"Transaction {one.hash}, nonce {one.nonce}, is still {one.status}: {one.last_error}"
            for one in transactions
        ),
    ]


def read_chain(network: str, payee: str, purses: Collection[str]) -> Chain:
    """Read it from its logs, from the first block on."""
    from x402_django.chain.methods import AUTHORIZATION_USED, TRANSFER
    from x402_django.chain.rpc import get_web3
    from x402_django.testing.chain import token_contract

    w3 = get_web3(network)
    token = token_contract(w3)

    def logs(topic: bytes, first: str | None = None) -> Any:
        topics = ["0x" + topic.hex(), *((first,) if first else ())]
        return w3.eth.get_logs(
            {"address": token.address, "fromBlock": 0, "toBlock": "latest", "topics": topics}  # type: ignore[typeddict-item]
        )

    given: Counter[str] = Counter()
    for log in logs(TRANSFER, "0x" + "0" * 64):
        given[bytes(log["topics"][2])[12:].hex()] += int.from_bytes(log["data"], "big")
    left = {purse: int(token.functions.balanceOf(purse).call()) for purse in purses}
    return Chain(
        payee=int(token.functions.balanceOf(payee).call()),
        spent=sum(given[purse[2:].lower()] - left[purse] for purse in purses),
        used=frozenset(
            ("0x" + bytes(log["topics"][1])[12:].hex(), "0x" + bytes(log["topics"][2]).hex())
            for log in logs(AUTHORIZATION_USED)
        ),
    )


def audit(
    chain: Chain, network: str, purchases: Sequence[Purchase], poor: Collection[str]
) -> Books:
    """Compare what buyers have, what the ledger says and what the chain says.

    ``poor`` are the addresses of buyers who may have had too little for what they bought.
    """
    from django.db.models import Count

    from chaos.models import Run
    from x402_django.models import ChainTransaction, ExactSum, Payment, Receipt

    books = Books(payments=Payment.objects.count(), receipts=Receipt.objects.count())
    counted = Payment.objects.order_by().values_list("state").annotate(count=Count("pk"))
    books.states = dict(counted)
    books.by_flow = dict(Payment.objects.order_by().values_list("flow").annotate(Count("pk")))
    sizes = ChainTransaction.objects.values_list("payments_count", flat=True)
    books.groups = {str(size): count for size, count in sorted(Counter(sizes).items())}
    books.runs = Run._default_manager.count()
    books.received = chain.payee
    books.booked = Receipt.objects.aggregate(total=ExactSum("amount"))["total"] or 0
    if books.received != books.booked:
        books.lost.append(f"The payee has {books.received}; the receipts say {books.booked}.")
    if chain.spent != books.received:
        books.lost.append(f"The buyers spent {chain.spent}; the payee has {books.received}.")
    _reconcile(books, network)
    _judge_purchases(books, chain, purchases, poor)
    _judge_runs(books)
    if books.booked != books.delivered - books.defaulted + books.owed:
        books.lost.append(
            f"Receipts say {books.booked}; what was delivered costs {books.delivered}, of which "
            f"{books.defaulted} could not be collected, and {books.owed} are owed."
        )
    return books


def _reconcile(books: Books, network: str) -> None:
    """The same question to ``x402_reconcile``, transfer by transfer."""
    from x402_django.payments.period import period_by_blocks
    from x402_django.payments.reconciliation import Finding, reconcile

    def found(finding: Finding) -> None:
        about = finding.transfer or finding.receipt
        books.lost.append(f"Reconciliation: {finding.kind.value}: {about}.")

    reconcile(period_by_blocks(network, 0, None), found=found)


def _judge_purchases(
    books: Books, chain: Chain, purchases: Sequence[Purchase], poor: Collection[str]
) -> None:
    from x402_django.models import Payment

    rows = Payment.objects.select_related("receipt").defer("response_body")
    payments = {payment.nonce: payment for payment in rows.iterator()}
    for purchase in purchases:
        paid = [one for one in purchase.nonces if (purchase.buyer.lower(), one) in chain.used]
        _judge(books, purchase, paid, payments)
        if purchase.copies and not paid:
            rows = [payments.get(nonce) for nonce in purchase.nonces]
            _judge_unpaid(books, purchase, rows, is_poor=purchase.buyer in poor)
    known = {nonce for purchase in purchases for nonce in purchase.nonces}
    for nonce in {nonce for _, nonce in chain.used} - known:
        books.lost.append(f"Authorization {nonce} was used, and nobody has signed it.")
    owed = Payment.objects.debts()
    books.debts = [f"{one.public_id}: {one.amount} for {one.resource_url}" for one in owed]


def _judge(books: Books, purchase: Purchase, paid: list[str], payments: dict[str, Any]) -> None:
    """One purchase: paid at most once, booked if paid, and delivered or owed if paid."""
    if len(paid) > 1:
        books.doubled.append(f"{purchase} was paid {len(paid)} times: {', '.join(paid)}.")
    if len(set(purchase.copies)) > 1:
        books.doubled.append(f"{purchase} came in {len(set(purchase.copies))} versions.")
    for nonce in purchase.nonces:
        receipt = getattr(payments.get(nonce), "receipt", None)
        booked = receipt.amount if receipt else 0
        if booked != (purchase.price if nonce in paid else 0):
            books.lost.append(
                f"{purchase}, payment {nonce}: {booked} are booked, and it "
                f"{'was' if nonce in paid else 'was never'} paid."
            )
    if purchase.copies:
        books.delivered += purchase.price
    elif paid:
        books.owed += purchase.price * len(paid)
        if not any(_is_to_be_had(payments[nonce]) for nonce in paid if nonce in payments):
            books.lost.append(f"{purchase} was paid, not delivered, and is not owed.")


def _judge_unpaid(books: Books, purchase: Purchase, payments: list[Any], *, is_poor: bool) -> None:
    """Delivered and not paid: that may happen on trust alone, with somebody who has no money."""
    if is_poor and any(
        one.flow == FLOW_DEFERRED and one.state == "failed" and one.delivered_at is not None
        for one in payments
        if one is not None
    ):
        books.defaulted += purchase.price
    else:
        states = ", ".join(one.state if one else "unknown" for one in payments)
        books.lost.append(f"{purchase} was delivered and never paid: {states}.")


def _is_to_be_had(payment: Any) -> bool:
    """Whether who presents the payment again gets what it bought: by a debt, or from the store."""
    return payment.delivered_at is None or payment.response_expires_at is not None


def _judge_runs(books: Books) -> None:
    """A view runs once in each attempt at a payment, and never for what was delivered."""
    from django.db.models import Count

    from chaos.models import Run
    from x402_django.models import Payment

    runs = Run._default_manager.order_by("pk")
    twice = runs.order_by().values("payment", "attempt").annotate(n=Count("pk")).filter(n__gt=1)
    for one in twice:
        books.doubled.append(
            f"A view ran {one['n']} times in attempt {one['attempt']} of {one['payment']}."
        )
    delivered = dict(Payment.objects.values_list("public_id", "delivered_at"))
    for run in runs:
        at = delivered[run.payment]
        if at is not None and run.at > at:
            books.doubled.append(f"A view ran for payment {run.payment} after it was delivered.")
        if run.flow == FLOW_UPFRONT and not run.is_paid:
            books.lost.append(f"A view ran for payment {run.payment} before it was paid.")
