"""Finding out what became of a payment whose outcome is unknown."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NoReturn

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import SCHEME_BATCH, SCHEME_TRANSFER, Code
from x402_django.exceptions import SettlementFailed, SettlementUnknown
from x402_django.models import Payment
from x402_django.observing import observed
from x402_django.payments.machine import Step, advance, annotate
from x402_django.payments.settlement import arrived, nothing_to_store, settle_now
from x402_django.payments.transfers import resolve_transfer
from x402_django.protocol.types import SignedPayment

State = Payment.State

#: Seconds of chain time after ``validBefore`` until "never used" is believed: room for a short
#: reorganisation that rewinds the chain's clock.
_EXPIRY_MARGIN: Final = 60


#: How deep the use of an authorization must be, and for how long a transfer must have been looked
#: for, until it is believed that it pays us nothing. Nodes keep the state of so many blocks.
_SPENT_DEPTH: Final = 120
_SPENT_FOR: Final = timedelta(minutes=10)

#: Seconds after a payment can be sent no more, for which its facilitator is asked where the site
#: cannot read the network.
ASKED_FOR: Final = 3600


def resolve(payment: Payment, *, actor: str) -> None:
    """Find out what became of a payment whose outcome is unknown, and act on it.

    On return the payment is settled. Safe to call from several places at once: the attempt
    number is a lease that one caller wins.

    Raises:
        SettlementUnknown: still not known (or another worker is at it).
        SettlementFailed: it failed, or can no longer settle; nothing was charged.
        ServiceUnavailable: the chain cannot be read now.
    """
    with observed("resolve", payment):
        signed = look_up(payment, actor=actor)
        if signed is not None:
            settle_now(payment, signed, nothing_to_store, actor=actor)


def look_up(payment: Payment, *, actor: str) -> SignedPayment | None:
    """The first half of ``resolve``: what the chain says. None: the payment is settled.

    Otherwise it is ours to settle (again), now. Raises as ``resolve``.
    """
    from x402_django.chain import evidence  # loads web3: not before it is needed

    if payment.scheme == SCHEME_TRANSFER:
        resolve_transfer(payment, actor=actor)
        return None
    if payment.scheme == SCHEME_BATCH and payment.state == State.REVERSED:
        raise SettlementUnknown()  # its voucher may be good again one day; nothing can be sent
    if payment.state == State.REVERSED:
        advance(payment, Step(State.SETTLING, "Settle again after a reorganisation."), actor=actor)
    # Also a process that died left an unknown outcome: written down before anything is tried, so
    # that a facilitator's "no" or silence cannot be taken for the whole truth.
    now = clock.now()
    lease = {"state_changed_at": now, "attempt": payment.attempt + 1}
    if not annotate(payment, outcome_unknown_at=payment.outcome_unknown_at or now, **lease):
        raise SettlementUnknown()
    signed = SignedPayment.from_row(payment)
    if not x402.network(payment.network).has_rpc:
        if clock.timestamp() > payment.valid_before + ASKED_FOR:
            # It cannot be sent any more, and who settled it has had time to say: `x402_decide`.
            raise SettlementUnknown()
        return signed
    found = evidence.find_settlement(
        signed, transaction=payment.transaction or None, since=payment.created_at
    )
    if found is not None:
        arrived(payment, signed, found.as_settlement(), {}, actor=actor)
        return None
    state = evidence.authorization_state(signed)
    if state.timestamp > payment.valid_before + _EXPIRY_MARGIN:
        _give_up(payment, actor, used=state.used)
    if state.used and _is_spent_deep(payment, signed):
        _give_up(payment, actor, used=True)
    if state.used or clock.timestamp() >= payment.valid_before:
        # Spent, but not where our node's logs can see it yet; or too late to send and too early
        # to be sure that it was not. Time decides.
        raise SettlementUnknown()
    return signed


def _is_spent_deep(payment: Payment, signed: SignedPayment) -> bool:
    """Whether the authorization, of which no log pays us, was used so long ago that none will.

    Its payer may have cancelled it, and it may have been valid for ever. Used in a block older than
    endpoints may be apart (``RPC_MAX_LAG``): the one that was asked for logs had it, too. On a
    chain whose blocks are too quick for that, ``validBefore`` decides.
    """
    from x402_django.chain import evidence

    if payment.outcome_unknown_at is None or clock.now() - payment.outcome_unknown_at < _SPENT_FOR:
        return False
    state = evidence.authorization_state(signed, depth=_SPENT_DEPTH)
    lag = x402.network(payment.network).rpc_max_lag
    return state.used and state.timestamp < clock.timestamp() - 2 * lag


def _give_up(payment: Payment, actor: str, *, used: bool) -> NoReturn:
    """The authorization's time is over and no transfer to us came of it: that is final."""
    if used:
        state, code = State.FAILED, Code.NONCE_USED
        reason = "The authorization was cancelled or spent without paying us."
    else:
        state, code = State.EXPIRED, Code.INVALID_VALID_BEFORE
        reason = "The authorization expired without being used; you were not charged."
    advance(
        payment,
        Step(state, reason, code),
        actor=actor,
        failure_code=code,
        outcome_unknown_at=None,
    )
    raise SettlementFailed(reason, code=code)
