"""The periodic look at the chain: unknown outcomes, confirmations, reorganisations.

One scan per network answers for nearly all payments (``scanner``). What it leaves is looked at
one by one: outcomes that are still unknown, payments that were let go, and settled ones that are
not where they should be, or on a network whose logs cannot be read now.

Everything here may be killed at any point and started again: each payment is one independent
step, and each step is one conditional write.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from django.db.models import Q

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import SCHEME_BATCH, SCHEME_TRANSFER, SIGNED_SCHEMES
from x402_django.exceptions import (
    ConfigurationError,
    InvalidTransition,
    RpcUnavailable,
    ServiceUnavailable,
    SettlementUnknown,
)
from x402_django.facilitators.base import get_facilitator
from x402_django.models import Payment, SettlementWallet
from x402_django.payments.depth import is_deep
from x402_django.payments.machine import Step, advance, annotate
from x402_django.payments.periodic import recorded
from x402_django.payments.recording import mark_settled, place_fields
from x402_django.payments.refunds.wallets import keepers as refund_keepers
from x402_django.payments.report import Report
from x402_django.payments.stale import looked_at_before
from x402_django.payments.transfer_confirmation import confirm_transfer, seek_transfers
from x402_django.payments.unresolved import Reach, resolve_unknown
from x402_django.protocol.types import SignedPayment

if TYPE_CHECKING:
    from x402_django.chain.upkeep import Keeper

logger = logging.getLogger("x402_django.payments")

State = Payment.State
ACTOR = "confirmation"

#: Runs that a payment waits for a chain that holds still.
_ROUNDS: Final = 10


@recorded("confirm_pending_payments")
def confirm_pending_payments(*, limit: int = 500) -> Report:
    """Read what is new on each network, and look one by one at what that leaves open.

    ``limit`` bounds the payments that are looked at one by one in each step, oldest first, so
    that one run stays short; those met by the scan cost so little that they are not limited.
    """
    report, reach = Report(), Reach()
    _resume_outbox()
    doubts = Q(pk__in=())
    for network in _readable_networks():
        doubts |= _scan(network, report, limit)
    resolve_unknown(report, limit, reach, doubts)
    _recheck_let_go(report, limit)
    _confirm_settled(report, limit, reach, doubts)
    return report


def _scan(network: str, report: Report, limit: int) -> Q:
    """Scan ``network``; which payments are still to be looked at one by one.

    Transfers are so only if they are among these; unknown outcomes of authorizations always.
    """
    from x402_django.chain.scan import ChainMoved  # loads web3, as does the next
    from x402_django.payments import scanner

    try:
        doubtful = scanner.scan(network, report)
    except ChainMoved as error:
        # The next run will do; only who has been waiting for several is looked at now.
        logger.warning("%s", error)
        rounds = timedelta(seconds=_ROUNDS * x402.confirmation_interval)
        return Q(network=network, state_changed_at__lt=clock.now() - rounds)
    except RpcUnavailable as error:
        logger.warning("The logs of %s could not be read: %s", network, error)
        return Q(network=network)
    except ConfigurationError:
        logger.exception("The logs of %s cannot be read.", network)
        return Q(network=network)
    if doubtful is None:
        return Q(pk__in=())
    doubtful = [*doubtful[:limit], *seek_transfers(network, report, limit=limit)]
    return Q(pk__in=doubtful) | Q(network=network, state=State.SETTLED, block_number__isnull=True)


def _resume_outbox() -> None:
    """Send again what a dead process had stored, follow what is on its way, mind the wallets."""
    if not SettlementWallet.objects.exists():
        return
    from x402_django.chain import outbox  # loads web3, which web processes may never need

    keepers: list[Keeper] = []
    for alias in x402.facilitators:
        try:
            keepers += get_facilitator(alias).keepers()
        except ConfigurationError as error:  # its keys may be on other machines only
            logger.info("Wallets of facilitator %s are not looked after here: %s", alias, error)
    try:
        keepers += refund_keepers()
    except ConfigurationError as error:
        logger.info("Refund wallets are not looked after here: %s", error)
    older_than = timedelta(seconds=x402.confirmation_interval / 2)
    outbox.resume(older_than=older_than, keepers=keepers)


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
        scheme__in=SIGNED_SCHEMES,
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


def _confirm_settled(report: Report, limit: int, reach: Reach, doubts: Q) -> None:
    """Look one by one at settled payments that the scan could not prove."""
    settled = Payment.objects.filter(
        doubts,
        state=State.SETTLED,
        state_changed_at__lt=looked_at_before(),
    ).exclude(scheme=SCHEME_BATCH)  # those wait for their claim
    settled = settled.order_by("state_changed_at")
    for payment in settled.defer("response_body")[:limit]:
        if reach.is_lost(payment.network):
            report.out_of_reach += 1
            continue
        try:
            if payment.scheme == SCHEME_TRANSFER:
                confirm_transfer(payment, report)
            else:
                confirm_authorization(payment, report)
        except InvalidTransition:
            continue  # another worker confirmed it first
        except ServiceUnavailable:
            reach.failed(payment.network)
            report.out_of_reach += 1
            continue
        except Exception:
            logger.exception("Payment %s could not be confirmed.", payment.public_id)
            report.out_of_reach += 1
        reach.answered(payment.network)


def confirm_authorization(payment: Payment, report: Report) -> None:
    """Look for the transfer of a settled payment. Raises RpcUnavailable, InvalidTransition."""
    from x402_django.chain import evidence  # loads web3, which web processes may never need

    signed = SignedPayment.from_row(payment)
    found = evidence.find_settlement(signed, transaction=payment.transaction)
    if found is None:  # not in that transaction any more: anywhere else?
        found = evidence.find_settlement(signed, since=payment.created_at)
    if found is None:
        state = evidence.authorization_state(signed)
        if state.used or state.block_number < (payment.block_number or 0):
            # Our node knows the spending and not yet where it was; or it has not come as far as
            # the block that the payment was in, and cannot know.
            report.out_of_reach += 1
        else:
            _reverse(payment, report)
        return
    where = place_fields(found.as_settlement())
    if is_deep(payment, block_number=found.block_number, confirmations=found.confirmations):
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
