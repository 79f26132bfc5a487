"""Payments by vouchers of a channel (the scheme ``batch-settlement``).

A voucher says how much of the payer's deposit is spent *in all*, so only the channel's row can
tell what it is worth: exactly the price more than the one before. ``hold`` gives a channel to one
payment at a time, from its verification until its view has answered; ``charge`` counts it as spent
in the transaction that makes the payment ``settled``.

``settled`` means here: in escrow, signed for, and out of the payer's reach until long after it is
claimed. ``final`` means: claimed, and sent to the payee (``claiming``). The official servers say
``success`` at the same moment.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

from django.db import router

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import SCHEME_BATCH, Code
from x402_django.exceptions import ChannelMismatch, PaymentRefused, RpcUnavailable
from x402_django.models import ChannelUse, Payment, PaymentChannel
from x402_django.payments.machine import Step, advance
from x402_django.payments.recording import receipt_of, release
from x402_django.protocol.channels import ChannelConfig, ChannelTerms, terms_of
from x402_django.protocol.signatures import check_eoa_signature

if TYPE_CHECKING:
    from x402_django.chain.channels import ChannelState
    from x402_django.protocol.types import SignedPayment

logger = logging.getLogger("x402_django.payments")

State = Payment.State

#: In which a payment has its channel to itself.
_UNDER_WAY: Final = (State.CLAIMED, State.VERIFIED, State.SETTLING)
#: How often a write is tried against others of the same channel.
_TRIES: Final = 5
#: The part of the withdrawal delay for which the chain's word on a channel is good. A withdrawal
#: that is begun just after, and all that is sold until then, is still noticed and claimed in time.
FRESH: Final = 4


def hold(payment: Payment, signed: SignedPayment) -> None:
    """Take the channel for a claimed payment whose deposit, if it has one, would succeed.

    Raises:
        ChannelMismatch: the voucher is not for the price more than what is spent; it says what is.
        PaymentRefused: it is not the payer's, more than is deposited, of a channel that is not
            known or closing, or the channel is busy. The payment is rejected in all these cases,
            and may be presented again.
        RpcUnavailable: the chain could not be read; the payment is released.
    """
    terms = terms_of(signed)
    if not check_eoa_signature(signed):
        _reject(payment, "The voucher was not signed for this channel.", Code.CHANNEL_SIGNATURE)
    try:
        channel = _channel_of(payment, signed)
        for _ in range(_TRIES):
            if channel is None:
                _reject(
                    payment,
                    "This channel is not known here: open one with a deposit.",
                    Code.CHANNEL_UNKNOWN,
                )
            channel = _fresh(channel, signed, needed=terms.maximum)
            _judge(payment, channel, terms)
            if _write(channel, holder=payment):
                return
            channel = _find(payment.network, terms.channel_id)
    except RpcUnavailable as trouble:
        release(payment, "The escrow could not be read.", code=trouble.code)
        raise
    _reject(payment, "The channel is busy. Retry shortly.", Code.CHANNEL_BUSY)


def settle_voucher(
    payment: Payment, signed: SignedPayment, response_fields: Callable[[], dict[str, Any]]
) -> None:
    """Count a voucher without a deposit as spent, with its receipt and response, in one commit.

    Raises InvalidTransition if the payment, or its channel, is another worker's.
    """
    channel = PaymentChannel.objects.only("transaction").get(
        network=payment.network, channel_id=terms_of(signed).channel_id
    )
    now = clock.now()
    advance(
        payment,
        Step(State.VERIFIED, "The voucher is good."),
        Step(State.SETTLING, "Settlement begins."),
        Step(State.SETTLED, "In escrow, and signed for; it is claimed later."),
        actor="request",
        receipt=receipt_of(payment, channel.transaction),
        beside=charge(payment, signed),
        settled_at=now,
        transaction=channel.transaction,
        **response_fields(),
    )


def charge(payment: Payment, signed: SignedPayment) -> Callable[[], bool]:
    """What is to be written in the transaction that settles ``payment``: its channel's count.

    The chain is asked now, where a deposit has changed what it knows. The function returns False,
    and nothing may be written then, if the channel is not the payment's any more.
    """
    terms = terms_of(signed)
    state = None if terms.deposit is None else _state_if_readable(payment.network, terms)

    def write() -> bool:
        for _ in range(_TRIES):
            channel = _find(payment.network, terms.channel_id)
            if channel is None or channel.holder_id != payment.pk:
                return False
            if _write(channel, **_spent(channel, payment, signed, state)):
                ChannelUse.objects.create(
                    payment=payment, channel=channel, cumulative=terms.maximum
                )
                return True
        return False

    return write


def mismatch_of(payment_network: str, terms: ChannelTerms) -> PaymentRefused:
    """Why a voucher that was presented before buys nothing else: what its channel says now."""
    channel = _find(payment_network, terms.channel_id)
    if channel is not None and _is_busy(channel):
        return PaymentRefused("The channel is busy. Retry shortly.", code=Code.CHANNEL_BUSY)
    return _mismatch(channel, terms)


def told(payment: Payment) -> dict[str, Any] | None:
    """What ``PAYMENT-RESPONSE`` has under ``extra``: what was charged, and the channel with it."""
    if payment.scheme != SCHEME_BATCH or not payment.is_paid:
        return None
    use = ChannelUse.objects.select_related("channel").filter(payment=payment).first()
    if use is None:
        return None
    return {
        "chargedAmount": str(payment.amount),
        "channelState": _as_wire(use.channel, charged=int(use.cumulative)),
    }


def is_deposit(payment: Payment) -> bool:
    """Whether a payment by a channel brought a deposit, and so has a transaction of its own."""
    return bool(payment.payload.get("type") == "deposit")


def synchronise(channel: PaymentChannel, state: ChannelState, **columns: Any) -> bool:
    """Write down what the chain says of a channel, with more ``columns`` that follow from it.

    False if somebody else has written meanwhile.
    """
    return _write(channel, **_as_columns(state), **columns)


def claimed(channel: PaymentChannel, up_to: int) -> None:
    """Write down that the escrow has set aside so much of a channel in all."""
    found: PaymentChannel | None = channel
    for _ in range(_TRIES):
        if found is None or _write(
            found,
            claimed=max(int(found.claimed), up_to),
            unclaimed_since=clock.now() if int(found.charged) > up_to else None,
        ):
            return
        found = _find(channel.network, channel.channel_id)


# ------------------------------------------------------------------------------------ judging


def _judge(payment: Payment, channel: PaymentChannel, terms: ChannelTerms) -> None:
    """Reject what the channel is not good for. Raises PaymentRefused."""
    if channel.withdrawal_at is not None:
        _reject(
            payment,
            "You have asked the escrow for the rest of this channel. Open another one.",
            Code.CHANNEL_CLOSING,
        )
    if channel.holder_id != payment.pk and _is_busy(channel):
        _reject(payment, "The channel is busy. Retry shortly.", Code.CHANNEL_BUSY)
    if terms.maximum != int(channel.charged) + int(payment.amount):
        refusal = _mismatch(channel, terms)
        _reject(payment, str(refusal), refusal.code, refusal)
    deposit = 0 if terms.deposit is None else terms.deposit.amount
    if terms.maximum > int(channel.balance) + deposit:
        _reject(
            payment,
            "The voucher is for more than the channel holds: send a deposit with it.",
            Code.CHANNEL_EXCEEDED,
        )


def _reject(
    payment: Payment, reason: str, code: str, refusal: PaymentRefused | None = None
) -> NoReturn:
    advance(payment, Step(State.REJECTED, reason, code), actor="request", failure_code=code[:100])
    raise refusal or PaymentRefused(reason, code=code)


def _mismatch(channel: PaymentChannel | None, terms: ChannelTerms) -> PaymentRefused:
    if channel is None:
        return PaymentRefused(
            "This channel is not known here: open one with a deposit.", code=Code.CHANNEL_UNKNOWN
        )
    state: dict[str, Any] = {"channelState": _as_wire(channel, charged=int(channel.charged))}
    if channel.signature:
        state["voucherState"] = {
            "signedMaxClaimable": str(channel.signed_maximum),
            "signature": channel.signature,
        }
    return ChannelMismatch(
        f"The voucher is for {terms.maximum} in all, and {channel.charged} are spent.", state
    )


def _is_busy(channel: PaymentChannel) -> bool:
    if channel.holder_id is None:
        return False
    holders = Payment.objects.using(_alias()).filter(pk=channel.holder_id)
    return bool(holders.filter(state__in=_UNDER_WAY).exists())


# ------------------------------------------------------------------------------------ the row


def _find(network: str, channel_id: str) -> PaymentChannel | None:
    rows = PaymentChannel.objects.using(_alias())
    return rows.filter(network=network, channel_id=channel_id).first()


def _channel_of(payment: Payment, signed: SignedPayment) -> PaymentChannel | None:
    """The channel's row; a new one for a deposit. Raises RpcUnavailable."""
    terms = terms_of(signed)
    found = _find(payment.network, terms.channel_id)
    if found is not None or terms.deposit is None:
        return found
    # What was claimed before it was known here is spent: by another ledger of ours, at worst.
    state = _state_if_readable(payment.network, terms, must=True)
    claimed = 0 if state is None else state.claimed
    config, now = terms.config, clock.now()
    row, _ = PaymentChannel.objects.using(_alias()).get_or_create(
        network=payment.network,
        channel_id=terms.channel_id,
        defaults={
            "merchant_id": payment.merchant_id,
            "payer": config.payer,
            "payer_authorizer": config.payer_authorizer,
            "pay_to": config.receiver,
            "receiver_authorizer": config.receiver_authorizer,
            "asset": config.token,
            "asset_symbol": payment.asset_symbol,
            "asset_decimals": payment.asset_decimals,
            "withdraw_delay": config.withdraw_delay,
            "salt": config.salt,
            "facilitator": payment.facilitator,
            "charged": claimed,
            "signed_maximum": claimed,
            "created_at": now,
            "used_at": now,
            **({} if state is None else _as_columns(state)),
        },
    )
    return row


def _fresh(channel: PaymentChannel, signed: SignedPayment, *, needed: int) -> PaymentChannel:
    """The channel as the chain has it, if it was not asked lately or seems to hold too little.

    Raises RpcUnavailable.
    """
    if not _is_readable(channel.network):
        return channel
    deposit = terms_of(signed).deposit
    enough = deposit is not None or needed <= int(channel.balance)
    if enough and not is_stale(channel):
        return channel
    state = _state_if_readable(channel.network, terms_of(signed), must=True)
    if state is not None:
        synchronise(channel, state)
    return _find(channel.network, channel.channel_id) or channel


def _is_news(state: ChannelState, channel: PaymentChannel) -> bool:
    return channel.read_at is None or state.read_at >= channel.read_at


def is_stale(channel: PaymentChannel) -> bool:
    """Whether the chain was not asked for so long that a withdrawal could be overlooked."""
    good_for = timedelta(seconds=channel.withdraw_delay / FRESH)
    return channel.read_at is None or channel.read_at < clock.now() - good_for


def _spent(
    channel: PaymentChannel, payment: Payment, signed: SignedPayment, state: ChannelState | None
) -> dict[str, Any]:
    """The columns of a channel with one more payment counted."""
    terms = terms_of(signed)
    values: dict[str, Any] = {
        "charged": terms.maximum,
        "signed_maximum": terms.maximum,
        "signature": "0x" + signed.signature.hex(),
        "unclaimed_since": channel.unclaimed_since or clock.now(),
        "used_at": clock.now(),
        "holder": None,
    }
    if terms.deposit is not None:
        values["transaction"] = payment.transaction
        if state is not None and _is_news(state, channel):
            values |= _as_columns(state)
        elif state is not None:
            pass  # the row was read from the chain later than that: with the deposit
        elif _is_readable(channel.network):
            # It could not be read: enough for what is charged, and to be read before the next.
            values |= {"balance": max(int(channel.balance), terms.maximum), "read_at": None}
        else:
            values["balance"] = int(channel.balance) + terms.deposit.amount
    return values


def _write(channel: PaymentChannel, **values: Any) -> bool:
    """Write if nobody else has; ``channel`` is brought up to date then."""
    rows = PaymentChannel.objects.using(_alias()).filter(pk=channel.pk, version=channel.version)
    values["version"] = channel.version + 1
    if not rows.update(**values):
        return False
    for name, value in values.items():
        setattr(channel, name, value)
    return True


def _state_if_readable(
    network: str, terms: ChannelTerms, *, must: bool = False
) -> ChannelState | None:
    """What the escrow knows; None where it cannot be read, which raises if it ``must`` be."""
    if not _is_readable(network):
        return None
    from x402_django.chain.channels import read_channels  # loads web3

    try:
        return read_channels(network, [terms.channel_id])[0]
    except RpcUnavailable:
        if must:
            raise
        return None


def _as_columns(state: ChannelState) -> dict[str, Any]:
    return {
        "balance": state.balance,
        "claimed": state.claimed,
        "withdrawal_at": state.withdrawal_at,
        "refund_nonce": state.refund_nonce,
        "read_at": state.read_at,
    }


def _as_wire(channel: PaymentChannel, *, charged: int) -> dict[str, Any]:
    asked = channel.withdrawal_at
    return {
        "channelId": channel.channel_id,
        "balance": str(channel.balance),
        "totalClaimed": str(channel.claimed),
        "withdrawRequestedAt": 0 if asked is None else int(asked.timestamp()),
        "refundNonce": str(channel.refund_nonce),
        "chargedCumulativeAmount": str(charged),
    }


def config_of(channel: PaymentChannel) -> ChannelConfig:
    """The channel's config, which its name is the hash of."""
    return ChannelConfig(
        payer=channel.payer,
        payer_authorizer=channel.payer_authorizer,
        receiver=channel.pay_to,
        receiver_authorizer=channel.receiver_authorizer,
        token=channel.asset,
        withdraw_delay=channel.withdraw_delay,
        salt=channel.salt,
    )


def _is_readable(network: str) -> bool:
    settings = x402.networks.get(network)
    return settings is not None and settings.has_rpc


def _alias() -> str:
    return router.db_for_write(PaymentChannel)
