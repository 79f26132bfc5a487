"""Refunds are sent, and followed until nothing can undo them.

Only what is final is given back: of a payment that the chain may still undo, nothing. Each refund
is one independent step, and may be killed anywhere (``chain.refunding``).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.db import IntegrityError, router, transaction
from django.db.models import QuerySet

from x402_django import clock
from x402_django.conf import x402
from x402_django.exceptions import (
    ConfigurationError,
    InvalidTransition,
    ServiceUnavailable,
    SettlementFailed,
)
from x402_django.finality import required_depth
from x402_django.models import ExactSum, Payment, Refund, RefundReceipt
from x402_django.payments.depth import DEEP, is_deep
from x402_django.payments.machine import Step, advance
from x402_django.payments.periodic import recorded
from x402_django.payments.refunds import by_hand
from x402_django.payments.refunds.moving import move
from x402_django.payments.refunds.wallets import account_for
from x402_django.payments.report import Counts

if TYPE_CHECKING:
    from x402_django.chain.refunding import Place

logger = logging.getLogger("x402_django.payments")

State = Refund.State
ACTOR: Final = "refunds"


@dataclass(slots=True)
class Report(Counts):
    """What one run did, counted in refunds."""

    sent: int = 0
    arrived: int = 0
    failed: int = 0
    hindered: int = 0
    out_of_reach: int = 0


@recorded("send_refunds")
def send_refunds(*, limit: int = 200) -> Report:
    """Send what is approved, follow what is on its way, close what was given back whole."""
    report = Report()
    for refund in _open(State.APPROVED).filter(payment__state=Payment.State.FINAL)[:limit]:
        _attempt(refund, report)
    for refund in _open(State.SENDING, State.SENT)[:limit]:
        try:
            _follow(refund, report)
        except InvalidTransition:
            continue  # another worker was first
        except (ServiceUnavailable, ConfigurationError) as trouble:
            logger.warning("Refund %s cannot be followed: %s", refund.public_id, trouble)
            report.out_of_reach += 1
        except Exception:
            logger.exception("Refund %s could not be followed.", refund.public_id)
            report.out_of_reach += 1
    _close_payments(limit)
    return report


def _open(*states: str) -> QuerySet[Refund]:
    rows = Refund.objects.filter(state__in=states)
    return rows.select_related("payment", "chain_transaction").order_by("pk")


def _attempt(refund: Refund, report: Report) -> None:
    try:
        account = account_for(refund.payment.pay_to)
        if account is None:
            return  # for the merchant to send
        if not x402.network(refund.network).has_rpc:
            return
        from web3.exceptions import ContractLogicError

        from x402_django.chain.refunding import send_refund

        try:
            send_refund(refund, account)
        except ContractLogicError:
            _hinder(refund, "The refund wallet has too little of the token, or may not send it.")
            report.hindered += 1
            return
        report.sent += 1
    except InvalidTransition:
        return  # another worker was first
    except SettlementFailed as failure:
        _hinder(refund, str(failure))
        report.hindered += 1
    except ConfigurationError as trouble:
        logger.error("Refund %s cannot be sent: %s", refund.public_id, trouble)
        _hinder(refund, "The refund wallet is set up wrongly; the log says how.")
        report.hindered += 1
    except ServiceUnavailable as trouble:
        logger.warning("Refund %s cannot be sent now: %s", refund.public_id, trouble)
        report.out_of_reach += 1


def _hinder(refund: Refund, words: str) -> None:
    """Say what is in the way, where somebody looks; it is tried again."""
    if refund.hindrance != words:
        Refund.objects.filter(pk=refund.pk, state=State.APPROVED).update(hindrance=words[:300])


def _follow(refund: Refund, report: Report) -> None:
    from x402_django.chain import refunding  # loads web3

    row = refund.chain_transaction
    place = by_hand.place_of(refund) if row is None else refunding.place_of(refund, row)
    if place is None:
        if refund.state == State.SENT:
            move(
                refund, State.SENDING, actor=ACTOR, code="reorganised",
                reason="The chain no longer knows the transfer.",
                block_number=None, block_hash="", log_index=None,
            )  # fmt: skip
        if row is not None and refunding.is_lost(row, depth=_depth(refund)):
            move(
                refund, State.FAILED, actor=ACTOR, code="nonce_used",
                reason="Another transaction of the wallet has its nonce; it cannot be mined.",
            )  # fmt: skip
            report.failed += 1
        return
    deep = is_deep(refund, block_number=place.block_number, confirmations=place.confirmations)
    if place.log_index is None:
        if deep:
            move(
                refund, State.FAILED, actor=ACTOR, code="moved_nothing",
                reason="The transaction has failed, or has moved nothing.",
                transaction=place.transaction,
            )  # fmt: skip
            report.failed += 1
    elif deep:
        _arrive(refund, place)
        report.arrived += 1
    elif refund.state == State.SENDING or refund.block_hash != place.block_hash:
        _place(refund, place)


def _place(refund: Refund, place: Place) -> None:
    """On chain, and not deep enough yet."""
    if refund.state == State.SENDING:
        move(refund, State.SENT, actor=ACTOR, reason="On chain.", **place.as_fields())
    else:
        Refund.objects.filter(pk=refund.pk, state=State.SENT).update(**place.as_fields())


def _arrive(refund: Refund, place: Place) -> None:
    """Final, with its receipt, in one transaction."""
    with transaction.atomic(using=router.db_for_write(Refund), durable=True):
        move(
            refund, State.FINAL, actor=ACTOR, reason=f"{place.confirmations} confirmations.",
            **place.as_fields(),
        )  # fmt: skip
        payment = refund.payment
        RefundReceipt.objects.create(
            refund=refund,
            merchant=refund.merchant,
            issued_at=clock.now(),
            network=refund.network,
            asset=refund.asset,
            asset_symbol=refund.asset_symbol,
            asset_decimals=refund.asset_decimals,
            amount=refund.amount,
            price_usd=refund.price_usd,
            payer=refund.payer,
            sender=place.sender,
            transaction=place.transaction,
            resource_url=payment.resource_url,
            description=payment.description,
            reason=refund.reason,
        )
    logger.info("Refund %s of payment %s arrived.", refund.public_id, payment.public_id)


def _close_payments(limit: int) -> None:
    """What was given back whole, and finally, is ``refunded``: it opens nothing any more."""
    whole = Refund.objects.filter(
        state=State.FINAL, is_whole=True, payment__state=Payment.State.FINAL
    )
    for refund in whole.select_related("payment").order_by("pk")[:limit]:
        payment = refund.payment
        final = Refund.objects.filter(payment=payment, state=State.FINAL)
        if final.aggregate(total=ExactSum("amount"))["total"] != payment.amount:
            continue  # one before it is still on its way
        try:
            advance(
                payment,
                Step(Payment.State.REFUNDED, "All that was paid was given back.", "refunded"),
                actor=ACTOR,
            )
        except (InvalidTransition, IntegrityError):
            continue


def _depth(refund: Refund) -> int:
    depth = required_depth(x402.network(refund.network).confirmations, refund.price_usd)
    return depth if isinstance(depth, int) else DEEP
