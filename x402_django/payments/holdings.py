"""What a wallet holds: passes and credits that its settled payments have bought.

The payment is what counts. A pass is good while its payment stands; what was credited for a
payment is what the payment granted while it stands, and nothing once it is undone. ``book`` makes
that so, from any state and as often as it is called: as a payment settles or is reversed, when
its token is presented, and by the maintenance task for what a killed process left.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.db import IntegrityError, router, transaction
from django.db.models import Exists, F, OuterRef, QuerySet, Sum

from x402_django import clock, signals
from x402_django.constants import GRANT_CREDITS
from x402_django.models import CreditAccount, CreditEntry, Pass, Payment
from x402_django.pricing.grants import Grant

logger = logging.getLogger("x402_django.payments")

State = Payment.State
_PAID: Final = (State.SETTLED, State.FINAL)
#: Purchases of one wallet that are looked at when it signs in; the newest.
_RECENT: Final = 50


@dataclass(frozen=True, slots=True)
class Holder:
    """A wallet that has proved who it is.

    ``network`` is where: a contract is itself on one network alone. None: an account's own key,
    which is the same everywhere.
    """

    payer: str
    network: str | None = None


def grant_of(payment: Payment) -> Grant | None:
    """What ``payment`` has bought beside its request."""
    return None if payment.grant is None else Grant.from_json(payment.grant)


def purchases_of(holder: Holder, merchant_id: int) -> Iterator[Payment]:
    """The wallet's paid purchases of passes and credits, the newest first."""
    rows = Payment.objects.filter(
        payer=holder.payer, merchant_id=merchant_id, grant__isnull=False, state__in=_PAID
    )
    if holder.network is not None:
        rows = rows.filter(network=holder.network)
    yield from rows.defer("response_body").order_by("-pk")[:_RECENT]


def has_purchases(payer: str, network: str, merchant_id: int) -> bool:
    """Whether a wallet has ever bought a pass or credits there. One query."""
    return Payment.objects.filter(
        payer=payer, network=network, merchant_id=merchant_id, grant__isnull=False
    ).exists()


def pass_of(payment: Payment) -> Pass | None:
    """The pass that ``payment`` has bought, made if need be; None if it is undone or none.

    It begins with the settlement, whenever the row is made.
    """
    grant = grant_of(payment)
    if grant is None or not grant.is_pass or not payment.is_paid or payment.settled_at is None:
        return None
    found = Pass.objects.filter(payment=payment).first()
    if found is not None:
        return found
    found, _ = Pass.objects.get_or_create(
        payment=payment,
        defaults={
            "merchant": payment.merchant,
            "payer": payment.payer,
            "uses": grant.uses,
            "expires_at": grant.expires(payment.settled_at),
            "created_at": payment.settled_at,
        },
    )
    return found


def is_good(held: Pass) -> bool:
    """Whether a pass may still be used, as far as its row says; its uses are taken by a lock."""
    if held.revoked_at is not None:
        return False
    if held.expires_at is not None and clock.now() >= held.expires_at:
        return False
    return held.uses is None or held.uses_taken < held.uses


def revoke(passes: QuerySet[Pass]) -> list[Pass]:
    """Have passes open nothing any more; those that were revoked now. Nobody is paid back."""
    revoked = []
    for held in passes:
        rows = Pass.objects.filter(pk=held.pk, revoked_at__isnull=True)
        if rows.update(revoked_at=clock.now()):
            revoked.append(held)
    return revoked


def account_of(payment: Payment) -> CreditAccount:
    """The account of the payer of ``payment``, opened if need be."""
    account, _ = CreditAccount.objects.get_or_create(
        payer=payment.payer,
        merchant=payment.merchant,
        network=payment.network,
        defaults={"created_at": clock.now()},
    )
    return account


def accounts_of(holder: Holder, merchant_id: int) -> list[CreditAccount]:
    """The wallet's accounts with a merchant, the fullest first."""
    rows = CreditAccount.objects.filter(payer=holder.payer, merchant_id=merchant_id)
    if holder.network is not None:
        rows = rows.filter(network=holder.network)
    return list(rows.order_by("-balance"))


def book(payment: Payment) -> int:
    """Have the account say what ``payment`` has bought; what was credited or withdrawn now.

    In 10⁻⁸ US dollars. What was spent before its payment was undone is not taken from anywhere:
    the balance stops at zero, and ``CreditEntry`` shows how much was withdrawn.
    """
    grant = grant_of(payment)
    if grant is None or grant.kind != GRANT_CREDITS:
        return 0
    account = account_of(payment)
    alias = router.db_for_write(CreditAccount)
    with transaction.atomic(using=alias):
        # Takes the row's lock on every database: nobody else books or spends until the commit.
        CreditAccount.objects.using(alias).filter(pk=account.pk).update(balance=F("balance"))
        balance = CreditAccount.objects.using(alias).values_list("balance").get(pk=account.pk)[0]
        stands = (
            Payment.objects.using(alias)
            .filter(pk=payment.pk, state__in=_PAID, settled_at__isnull=False)
            .exists()
        )
        booked = CreditEntry.objects.using(alias).filter(account=account, payment=payment)
        so_far = booked.aggregate(total=Sum("amount"))["total"] or 0
        change = max((grant.credits if stands else 0) - so_far, -balance)
        if change:
            CreditAccount.objects.using(alias).filter(pk=account.pk).update(
                balance=F("balance") + change
            )
            kind = CreditEntry.Kind.TOP_UP if change > 0 else CreditEntry.Kind.WITHDRAWN
            CreditEntry.objects.using(alias).create(
                account=account,
                at=clock.now(),
                kind=kind,
                amount=change,
                balance=balance + change,
                payment=payment,
            )
    return int(change)


def book_what_is_left(*, limit: int = 1000) -> int:
    """Credit the paid purchases that no process has credited, and undo those that were undone.

    Returns how many. Also makes the passes whose rows are missing.
    """
    entries = CreditEntry.objects.filter(payment=OuterRef("pk"))
    sold = Payment.objects.filter(grant__isnull=False).defer("response_body").order_by("pk")
    paid = sold.filter(state__in=_PAID)
    missing = paid.filter(~Exists(entries), grant__kind=GRANT_CREDITS)
    undone = sold.filter(Exists(entries), state__in=(State.REVERSED, State.REFUNDED))
    done = sum(bool(book(payment)) for rows in (missing, undone) for payment in rows[:limit])
    without = paid.filter(grant__kind="pass", pass_sold__isnull=True)
    return done + sum(pass_of(payment) is not None for payment in without[:limit])


def _bring_up_to_date(sender: object, payment: Payment, **kwargs: Any) -> None:
    """Receiver of ``payment_settled`` and ``payment_reversed``."""
    if payment.grant is None:
        return
    try:
        book(payment)
        pass_of(payment)
    except IntegrityError:
        # Two made the same row at once; what is missing is made when it is asked for.
        logger.info("What payment %s has bought is being written elsewhere.", payment.public_id)


def connect() -> None:
    """Book as payments settle and are reversed."""
    for signal in (signals.payment_settled, signals.payment_reversed):
        signal.connect(_bring_up_to_date, dispatch_uid="x402_django.holdings")
