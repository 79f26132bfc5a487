"""The periodic look at the chain: unknown outcomes, confirmations, reorganisations.

Everything here may be killed at any point and started again: each payment is one independent
step, and each step is one conditional write.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Q

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import SCHEME_EXACT
from x402_django.exceptions import (
    InvalidTransition,
    ServiceUnavailable,
    SettlementFailed,
    SettlementUnknown,
)
from x402_django.facilitators.base import get_facilitator
from x402_django.models import ChainTransaction, Payment
from x402_django.payments.machine import Step, advance, annotate
from x402_django.payments.recording import mark_settled
from x402_django.payments.resolution import resolve
from x402_django.payments.transfer_confirmation import confirm_transfers
from x402_django.protocol.types import SignedPayment

logger = logging.getLogger("x402_django.payments")

State = Payment.State
ACTOR = "confirmation"


@dataclass(slots=True)
class Report:
    """What one run did, counted in payments."""

    settled: int = 0
    failed: int = 0
    final: int = 0
    reversed: int = 0
    still_unknown: int = 0
    out_of_reach: int = 0

    def __str__(self) -> str:
        counts = ((name.replace("_", " "), getattr(self, name)) for name in self.__slots__)
        return ", ".join(f"{name}: {count}" for name, count in counts)


def confirm_pending_payments(*, limit: int = 500) -> Report:
    """Resolve unknown outcomes, then bring settled payments to their confirmations.

    ``limit`` bounds each pass, oldest first, so that one run stays short.
    """
    report = Report()
    _resume_outbox()
    _resolve_unknown(report, limit)
    _recheck_let_go(report, limit)
    _confirm_settled(report, limit)
    for outcome, count in confirm_transfers(limit=limit).items():
        setattr(report, outcome, getattr(report, outcome) + count)
    return report


def _resume_outbox() -> None:
    """Send again what a dead process had stored, and follow what is on its way."""
    if not ChainTransaction.objects.filter(status__in=("signed", "sent")).exists():
        return
    from x402_django.chain import outbox  # loads web3, which web processes may never need

    outbox.resume(older_than=timedelta(seconds=x402.confirmation_interval / 2))


def _resolve_unknown(report: Report, limit: int) -> None:
    now = clock.now()
    dead = now - timedelta(seconds=2 * x402.settlement_timeout + 30)
    looked_at = now - timedelta(seconds=x402.confirmation_interval / 2)
    unknown = Payment.objects.filter(
        Q(state=State.SETTLING, outcome_unknown_at__isnull=False, state_changed_at__lt=looked_at)
        | Q(state=State.SETTLING, state_changed_at__lt=dead)
        | Q(state=State.REVERSED, valid_before__gt=clock.timestamp())
    ).order_by("state_changed_at")
    for payment in unknown.defer("response_body")[:limit]:
        try:
            resolve(payment, actor=ACTOR)
        except SettlementFailed:
            report.failed += 1
        except (SettlementUnknown, InvalidTransition):
            report.still_unknown += 1
        except ServiceUnavailable:
            report.out_of_reach += 1
        except Exception:
            # One payment that cannot be judged must not keep the others from being judged.
            logger.exception("Payment %s could not be resolved.", payment.public_id)
            report.still_unknown += 1
        else:
            report.settled += 1


def _recheck_let_go(report: Report, limit: int) -> None:
    """Watch payments that were let go, for as long as a facilitator could still settle them.

    One that is not ours was shown a signed authorization. Should it use it after all, the payer is
    owed. What was used before it was presented here paid for something else; a failed payment was
    unused when it was verified, so whatever used it came later.
    """
    from x402_django.chain import evidence  # loads web3, which web processes may never need

    aliases = [alias for alias in x402.facilitators if not get_facilitator(alias).trusted]
    let_go = Payment.objects.filter(
        state__in=(State.FAILED, State.RELEASED, State.REJECTED),
        facilitator__in=aliases,
        network__in=_readable_networks(),
        created_at__gte=clock.now() - timedelta(days=1),
        valid_before__gt=max(clock.timestamp() - 300, 0),
    ).order_by("created_at")
    for payment in let_go.defer("response_body")[:limit]:
        signed = SignedPayment.from_row(payment)
        try:
            found = evidence.find_settlement(signed, since=payment.created_at)
            if found is None:
                continue
            used_at = evidence.chain_time(payment.network, found.block_number)
            if payment.state == State.FAILED or used_at > payment.created_at.timestamp():
                mark_settled(payment, found.as_settlement(), {}, actor=ACTOR)
                report.settled += 1
        except ServiceUnavailable:
            report.out_of_reach += 1
        except (SettlementUnknown, InvalidTransition):
            report.still_unknown += 1


def _readable_networks() -> list[str]:
    return [name for name, network in x402.networks.items() if network.has_rpc]


def _confirm_settled(report: Report, limit: int) -> None:
    looked_at = clock.now() - timedelta(seconds=x402.confirmation_interval / 2)
    settled = Payment.objects.filter(
        state=State.SETTLED,
        scheme=SCHEME_EXACT,
        network__in=_readable_networks(),
        state_changed_at__lt=looked_at,
    ).order_by("state_changed_at")
    for payment in settled.defer("response_body")[:limit]:
        try:
            _confirm(payment, report)
        except InvalidTransition:
            continue  # another worker confirmed it first
        except ServiceUnavailable:
            report.out_of_reach += 1
        except Exception:
            logger.exception("Payment %s could not be confirmed.", payment.public_id)
            report.out_of_reach += 1


def _confirm(payment: Payment, report: Report) -> None:
    from x402_django.chain import evidence  # loads web3, which web processes may never need

    signed = SignedPayment.from_row(payment)
    found = evidence.find_settlement(signed, transaction=payment.transaction)
    if found is None:  # not in that transaction any more: anywhere else?
        found = evidence.find_settlement(signed, since=payment.created_at)
    if found is None:
        if evidence.authorization_used(signed):  # our node knows the spending, not yet where it was
            report.out_of_reach += 1
        else:
            _reverse(payment, report)
        return
    settlement = found.as_settlement()
    where: dict[str, Any] = {
        "transaction": settlement.transaction,
        "block_number": settlement.block_number,
        "block_hash": settlement.block_hash or "",
        "log_index": settlement.log_index,
    }
    if found.confirmations >= x402.network(payment.network).confirmations:
        advance(
            payment,
            Step(State.FINAL, f"{found.confirmations} confirmations."),
            actor=ACTOR,
            **where,
        )
        report.final += 1
    else:
        annotate(payment, state_changed_at=clock.now(), **where)


def _reverse(payment: Payment, report: Report) -> None:
    """The chain no longer knows the transfer: what was delivered is not paid for (threat 1)."""
    advance(
        payment,
        Step(State.REVERSED, "The transfer is no longer on chain.", "reorganised"),
        actor=ACTOR,
        transaction="",
        block_number=None,
        block_hash="",
        log_index=None,
    )
    logger.error(
        "Payment %s was reversed by a reorganisation of %s; it will be settled again while its "
        "authorization lives.",
        payment.public_id,
        payment.network,
    )
    report.reversed += 1
