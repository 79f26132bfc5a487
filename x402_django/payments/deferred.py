"""The flow ``deferred``: deliver now, settle later, many at once.

After the view has answered well, one write makes the payment ``verified``, stores its response
and marks it delivered, if the payer may owe that much more (``models.exposure``). From then on it
is the merchant who is owed. The task takes such payments oldest first, moves each to ``settling``
(one conditional write, so that of several workers one has it) and hands them to their facilitator
together. What comes of each is judged as after any settlement.

Killed after ``settling``, a payment is one of unknown outcome and is resolved from the chain.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.db import connections, router

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import FLOW_DEFERRED, SCHEME_EXACT
from x402_django.exceptions import (
    ConfigurationError,
    InvalidTransition,
    SettlementFailed,
    X402Error,
)
from x402_django.facilitators.base import BaseFacilitator, get_facilitator
from x402_django.models import Payment
from x402_django.models.exposure import VENDORS, exposure_guard
from x402_django.payments.batches import batch_size, settle_batch
from x402_django.payments.machine import Step, advance
from x402_django.payments.periodic import recorded
from x402_django.payments.report import Counts
from x402_django.payments.resolution import resolve
from x402_django.payments.settlement import judge, nothing_to_store
from x402_django.protocol.networks import is_solana
from x402_django.protocol.types import Settlement, SignedPayment

logger = logging.getLogger("x402_django.payments")

State = Payment.State
ACTOR: Final = "settlement"


@dataclass(slots=True)
class Report(Counts):
    """What one run did, counted in payments."""

    settled: int = 0
    failed: int = 0
    unknown: int = 0
    waiting: int = 0


def defer(payment: Payment, fields: dict[str, Any]) -> bool:
    """Let ``payment`` be owed; ``fields`` store its response. False: settle it at once instead.

    It is refused where the payer would owe too much, has not paid often enough or is in default;
    where the authorization might not live until its batch; where the price in dollars is not
    known; and where the view has registered an ``on_settled`` callback, which could not be kept.
    """
    connection = connections[router.db_for_write(Payment)]
    if (
        payment.price_usd is None
        or payment.awaits_settlement
        or is_solana(payment.network)  # lives for a minute or two
        or payment.valid_before < clock.timestamp() + _time_to_settle()
        or connection.vendor not in VENDORS
    ):
        return False
    guard = exposure_guard(
        payment,
        payment.price_usd,
        connection=connection,
        per_payer=x402.deferred_max_exposure_per_payer,
        total=x402.deferred_max_exposure,
        min_settled=x402.deferred_min_settled,
        failed_since=clock.now() - timedelta(seconds=x402.failed_payer_memory),
    )
    step = Step(State.VERIFIED, "Delivered; settlement follows in a batch.", FLOW_DEFERRED)
    try:
        advance(payment, step, actor="request", guard=guard, **fields)
    except InvalidTransition:
        return False  # or another worker has the payment: then settling it at once fails too
    return True


def _time_to_settle() -> float:
    """Seconds an authorization must have left: the wait for its batch, missed twice, and time for
    another worker to find the one dead that took it, and to settle it.
    """
    waits = 3 * x402.confirmation_interval
    return waits + x402.presumed_dead_after + x402.settlement_timeout


@recorded("settle_deferred")
def settle_deferred(*, limit: int = 5000) -> Report:
    """Settle what is owed, oldest first, at most ``limit`` payments. Safe to run many times over.

    A facilitator that is out of reach is asked once per run and network; its payments wait.
    """
    report = Report()
    queue = (
        Payment.objects.filter(
            state=State.VERIFIED,
            flow=FLOW_DEFERRED,
            scheme=SCHEME_EXACT,
            delivered_at__isnull=False,
        )
        .order_by("state_changed_at", "pk")
        .defer("response_body", "response_headers")
    )
    groups: dict[tuple[str, str], list[Payment]] = {}
    for payment in queue[:limit]:
        groups.setdefault((payment.facilitator, payment.network), []).append(payment)
    for (alias, network), payments in groups.items():
        try:
            facilitator = get_facilitator(alias)
        except ConfigurationError as error:
            logger.error("Deferred payments on %s cannot be settled: %s", network, error)
            report.waiting += len(payments)
            continue
        _settle_group(facilitator, payments, report)
    return report


def _settle_group(facilitator: BaseFacilitator, payments: list[Payment], report: Report) -> None:
    size = batch_size(facilitator)
    for start in range(0, len(payments), size):
        batch = list(_take(payments[start : start + size], report))
        waiting = report.waiting
        outcomes = settle_batch(facilitator, batch)
        for (signed, payment), outcome in zip(batch, outcomes, strict=True):
            _judge(payment, signed, outcome, report)
        if report.waiting > waiting:  # out of reach: it need not be asked again and again
            report.waiting += len(payments[start + size :])
            return


def _take(payments: Iterable[Payment], report: Report) -> Iterator[tuple[SignedPayment, Payment]]:
    """Those that are ours to settle now: ``settling``, committed."""
    for payment in payments:
        late = payment.valid_before <= clock.timestamp()
        try:
            advance(payment, Step(State.SETTLING, "Settlement begins."), actor=ACTOR)
        except InvalidTransition:
            continue  # another worker has it
        if late:  # only the chain can tell whether somebody has used it in time
            _resolve(payment, report)
        else:
            yield SignedPayment.from_row(payment), payment


def _judge(
    payment: Payment, signed: SignedPayment, outcome: Settlement | Exception, report: Report
) -> None:
    now = time.monotonic()  # nobody waits: what is not seen at once is looked for later
    with _counted(payment, report):
        judge(payment, signed, outcome, nothing_to_store, actor=ACTOR, deadline=now)


def _resolve(payment: Payment, report: Report) -> None:
    with _counted(payment, report):
        resolve(payment, actor=ACTOR)


@contextmanager
def _counted(payment: Payment, report: Report) -> Iterator[None]:
    try:
        yield
    except SettlementFailed:
        report.failed += 1
    except Exception as error:
        if not isinstance(error, X402Error):
            # One payment that cannot be judged must not keep the others from being judged.
            logger.exception("Deferred payment %s could not be settled.", payment.public_id)
        if payment.state == State.VERIFIED:
            report.waiting += 1
        else:
            report.unknown += 1
    else:
        report.settled += 1
