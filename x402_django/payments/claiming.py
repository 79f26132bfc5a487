"""What is spent of payment channels is claimed, and followed until nothing can undo it.

One transaction claims from many channels of a payee and sends it the sum. What was sold for it
becomes ``final`` when that is deep enough. Everything here may be killed anywhere and run by
several workers at once: a claim is stored with its transaction, one at a time for each payee and
token, and is over only when all that follows from it is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db import IntegrityError
from django.db.models import Q

from x402_django import clock
from x402_django.conf import x402
from x402_django.exceptions import (
    ConfigurationError,
    InvalidTransition,
    ServiceUnavailable,
    SettlementFailed,
)
from x402_django.facilitators.base import get_facilitator
from x402_django.models import (
    ChannelClaim,
    ChannelClaimItem,
    ChannelUse,
    Payment,
    PaymentChannel,
)
from x402_django.payments import channels
from x402_django.payments.depth import DEEP, is_deep
from x402_django.payments.machine import Step, advance
from x402_django.payments.periodic import recorded
from x402_django.payments.report import Counts

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from x402_django.chain.channels import ChannelState, VoucherClaim
    from x402_django.chain.claiming import Place

logger = logging.getLogger("x402_django.payments")

State = ChannelClaim.State
ACTOR: Final = "claims"
#: For how long what is spent must be missing from the escrow before it is given up for lost.
_MISSING: Final = timedelta(minutes=10)


@dataclass(slots=True)
class Report(Counts):
    """What one run did: claims sent, arrived, failed; payments final, lost; what was in the way."""

    sent: int = 0
    arrived: int = 0
    failed: int = 0
    final: int = 0
    lost: int = 0
    hindered: int = 0
    out_of_reach: int = 0


@recorded("claim_channels")
def claim_channels(*, everything: bool = False, limit: int = 1000) -> Report:
    """Claim what has been spent for ``CHANNEL_CLAIM_AFTER`` seconds, and follow open claims.

    And at once what a payer wants back. ``everything`` does not wait; ``limit`` bounds the channels
    that are looked at, longest waiting first.
    """
    report = Report()
    for claim in ChannelClaim.objects.filter(state__in=ChannelClaim.OPEN).select_related(
        "chain_transaction"
    ):
        _attempt(report, _follow, claim, report)
    groups: dict[tuple[str, str, str, str], list[PaymentChannel]] = {}
    waiting = PaymentChannel.objects.filter(unclaimed_since__isnull=False)
    for channel in waiting.order_by("unclaimed_since", "pk")[:limit]:
        key = (channel.network, channel.pay_to, channel.asset, channel.receiver_authorizer)
        groups.setdefault(key, []).append(channel)
    for group in groups.values():
        _attempt(report, _claim_due, group, everything, report)
    return report


def _attempt(report: Report, work: Callable[..., None], *arguments: object) -> None:
    try:
        work(*arguments)
    except (ServiceUnavailable, ConfigurationError) as trouble:
        logger.warning("Payment channels cannot be claimed from now: %s", trouble)
        report.out_of_reach += 1
    except Exception:
        logger.exception("Payment channels could not be claimed from.")
        report.out_of_reach += 1


# ------------------------------------------------------------------------------------ claiming


def _claim_due(group: Sequence[PaymentChannel], everything: bool, report: Report) -> None:
    """Claim from channels of one payee, token and authorizer, if it is time.

    Raises RpcUnavailable.
    """
    from x402_django.chain.channels import read_channels  # loads web3
    from x402_django.chain.claiming import MOST

    network = group[0].network
    if network not in x402.networks or not x402.networks[network].has_rpc:
        report.out_of_reach += 1
        return
    stale = [one for one in group if channels.is_stale(one)]
    if stale:
        states = read_channels(network, [one.channel_id for one in stale])
        for channel, state in zip(stale, states, strict=True):
            channels.synchronise(channel, state)
    deadline = clock.now() - timedelta(seconds=x402.channel_claim_after)
    due = [
        one
        for one in group
        if everything
        or one.withdrawal_at is not None
        or (one.unclaimed_since is not None and one.unclaimed_since <= deadline)
    ]
    same = Q(network=network, pay_to=group[0].pay_to, asset=group[0].asset)
    if not due or ChannelClaim.objects.filter(same, state__in=ChannelClaim.OPEN).exists():
        return
    # Who has waited longest, and, in the same transaction, who would have soon.
    chosen = [*due, *(one for one in group if one not in due)][:MOST]
    states = read_channels(network, [one.channel_id for one in chosen])
    if ChannelClaim.objects.filter(same, state__in=ChannelClaim.OPEN).exists():
        return  # another worker's, and what was read may be the work of it: not deep enough yet
    _send(list(zip(chosen, states, strict=True)), report)


def _send(chosen: Sequence[tuple[PaymentChannel, ChannelState]], report: Report) -> None:
    from x402_django.chain.channels import VoucherClaim

    wanted: list[tuple[ChannelClaimItem, VoucherClaim]] = []
    for channel, state in chosen:
        charged = int(channel.charged)
        _look_after(channel, state, report)
        up_to = min(charged, state.balance)
        if up_to <= state.claimed:
            _close(channel, min(charged, state.claimed), report)
            continue
        item = ChannelClaimItem(channel=channel, before=state.claimed, up_to=up_to)
        voucher = VoucherClaim(
            config=channels.config_of(channel),
            maximum=int(channel.signed_maximum),
            signature=bytes.fromhex(channel.signature[2:]),
            up_to=up_to,
        )
        wanted.append((item, voucher))
    if not wanted:
        return
    first = chosen[0][0]
    account = get_facilitator(first.facilitator).claimant(first.receiver_authorizer)
    if account is None:
        logger.error(
            "The key of %s, which alone can claim from %s payment channels on %s, is not at hand.",
            first.receiver_authorizer,
            len(wanted),
            first.network,
        )
        report.hindered += 1
        return
    _send_what_can_be(wanted, account, report)


def _send_what_can_be(
    wanted: Sequence[tuple[ChannelClaimItem, VoucherClaim]], account: LocalAccount, report: Report
) -> None:
    """Claim from all of these at once, or from all but those that keep the others from it."""
    from web3.exceptions import ContractLogicError

    from x402_django.chain.claiming import claimable, send_claim

    first = wanted[0][0].channel
    claim = ChannelClaim(
        network=first.network,
        pay_to=first.pay_to,
        asset=first.asset,
        asset_symbol=first.asset_symbol,
        asset_decimals=first.asset_decimals,
        amount=sum(int(item.up_to) - int(item.before) for item, _ in wanted),
        created_at=clock.now(),
    )
    vouchers = [voucher for _, voucher in wanted]
    try:
        send_claim(claim, [item for item, _ in wanted], vouchers, account)
    except IntegrityError:
        return  # another worker was first
    except (ContractLogicError, SettlementFailed):
        good = claimable(claim, vouchers, account)
        for item, voucher in wanted:
            if voucher not in good:
                logger.exception(
                    "A claim from payment channel %s on %s would fail.",
                    item.channel.channel_id,
                    first.network,
                )
                report.hindered += 1
        if good and len(good) < len(wanted):
            rest = [pair for pair in wanted if pair[1] in good]
            _send_what_can_be(rest, account, report)
        return
    report.sent += 1


def _look_after(channel: PaymentChannel, state: ChannelState, report: Report) -> None:
    """See whether what is spent is there; lose it when it was missing for ``_MISSING``.

    A node that is behind may not have seen a deposit yet.
    """
    is_short = int(channel.charged) > state.balance
    if is_short and channel.short_since is None:
        channels.synchronise(channel, state, short_since=clock.now())
    elif not is_short and channel.short_since is not None:
        channels.synchronise(channel, state, short_since=None)
    elif channel.short_since is not None and channel.short_since <= clock.now() - _MISSING:
        _lose(channel, state, report)


def _lose(channel: PaymentChannel, state: ChannelState, report: Report) -> None:
    """What was spent is not there any more: withdrawn, or its deposit was reorganised away."""
    lost = ChannelUse.objects.filter(
        channel=channel, cumulative__gt=state.balance, payment__state=Payment.State.SETTLED
    ).select_related("payment")
    for use in lost:
        step = Step(Payment.State.REVERSED, "Its deposit is no longer in escrow.", "withdrawn")
        try:
            advance(use.payment, step, actor=ACTOR)
        except InvalidTransition:
            continue
        report.lost += 1
        logger.error(
            "Payment %s is lost: the deposit of channel %s on %s is no longer in escrow.",
            use.payment.public_id,
            channel.channel_id,
            channel.network,
        )


# ------------------------------------------------------------------------------------ following


def _follow(claim: ChannelClaim, report: Report) -> None:
    """Raises RpcUnavailable."""
    from x402_django.chain import claiming, refunding  # loads web3

    place = claiming.place_of(claim)
    if place is None:
        if claim.state == State.SENT:
            nowhere = {"block_number": None, "block_hash": "", "log_index": None}
            _move(claim, State.SENDING, **nowhere)
        if refunding.is_lost(claim.chain_transaction, depth=DEEP):
            _fail(claim, report)
        return
    deep = is_deep(claim, block_number=place.block_number, confirmations=place.confirmations)
    if place.moved is None:
        if deep:
            _fail(claim, report)
    elif deep:
        _arrive(claim, place, report)
    elif claim.state == State.SENDING or claim.block_hash != place.block_hash:
        _move(claim, State.SENT, **place.as_fields())


def _fail(claim: ChannelClaim, report: Report) -> None:
    """Nothing moved: the channels are claimed from anew."""
    if _move(claim, State.FAILED):
        logger.error("Claim %s from payment channels came to nothing.", claim.public_id)
        report.failed += 1


def _arrive(claim: ChannelClaim, place: Place, report: Report) -> None:
    """All that follows from it, and then that it is over: killed in between, it is done again."""
    for item in claim.items.select_related("channel"):
        _close(item.channel, int(item.up_to), report, place)
    if _move(claim, State.FINAL, **place.as_fields()):
        report.arrived += 1
        logger.info(
            "Claim %s: %s of %s on %s.",
            claim.public_id,
            claim.amount,
            claim.asset_symbol,
            claim.network,
        )


def _close(channel: PaymentChannel, up_to: int, report: Report, place: Place | None = None) -> None:
    """What was sold up to there is final, and the channel's row says that it was claimed."""
    where: dict[str, Any] = {} if place is None else _where(place)
    reason = "Claimed, and sent to the payee."
    claimed = ChannelUse.objects.filter(
        channel=channel,
        cumulative__lte=up_to,
        payment__state__in=(Payment.State.SETTLED, Payment.State.REVERSED),
    )
    for use in claimed.select_related("payment").order_by("cumulative"):
        steps = [Step(Payment.State.FINAL, reason)]
        if use.payment.state == Payment.State.REVERSED:
            steps = [
                Step(Payment.State.SETTLING, "Its deposit is there again."),
                Step(Payment.State.SETTLED, "In escrow, and signed for."),
                *steps,
            ]
        try:
            advance(use.payment, *steps, actor=ACTOR, **where)
        except InvalidTransition:
            continue  # another worker was first
        report.final += 1
    channels.claimed(channel, up_to)


def _where(place: Place) -> dict[str, Any]:
    """On the payments: their log is the claim's, and many of them share it."""
    return {
        "transaction": place.transaction,
        "block_number": place.block_number,
        "block_hash": place.block_hash,
    }


def _move(claim: ChannelClaim, state: str, **fields: object) -> bool:
    rows = ChannelClaim.objects.filter(pk=claim.pk, state=claim.state)
    moved = bool(rows.update(state=state, **fields))
    if moved:
        claim.state = state
    return moved
