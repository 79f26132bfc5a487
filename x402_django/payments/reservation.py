"""The scheme ``upto``: reserve the maximum before the view, settle what it has charged.

``reserve`` makes a payment ``verified`` if all that its payer has reserved, this maximum included,
can be paid from the payer's funds. So however many requests a payer makes at once, on any number
of machines, what they may be charged never exceeds what the payer has.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from django.db import connections, router

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import FLOW_UPFRONT, SCHEME_UPTO, Code
from x402_django.exceptions import (
    ConfigurationError,
    InvalidTransition,
    PaymentRefused,
    RpcUnavailable,
)
from x402_django.models import Payment
from x402_django.models.reservations import reservation_guard
from x402_django.payments.machine import Step, advance
from x402_django.payments.recording import release
from x402_django.protocol.types import SignedPayment

State = Payment.State

_CENTS: Final = Decimal(1).scaleb(-8)


def refuse_in_default(payment: Payment) -> None:
    """Raise PaymentRefused, and reject, if the payer must pay before the view (threat 9).

    Nothing can be settled before the view has said what it charges.
    """
    if payment.scheme != SCHEME_UPTO or payment.flow != FLOW_UPFRONT:
        return
    _reject(
        payment,
        "A settlement of yours has failed lately, so only payments of a fixed price are taken.",
        Code.PAYER_IN_DEFAULT,
    )


def reserve(payment: Payment, signed: SignedPayment) -> None:
    """Reserve the maximum of a claimed payment that its facilitator has verified.

    Raises:
        PaymentRefused: the payer's funds do not suffice for all that is reserved; the payment is
            rejected, and may be presented again.
        RpcUnavailable: the funds could not be read; the payment is released.
        ConfigurationError: on a database that cannot reserve.
    """
    connection = connections[router.db_for_write(Payment)]
    now = clock.now()
    try:
        funds, block_number = _funds(payment, signed)
    except RpcUnavailable as trouble:
        release(payment, "The payer's funds could not be read.", code=trouble.code)
        raise
    try:
        guard = reservation_guard(
            payment,
            connection=connection,
            funds=funds,
            block_number=block_number,
            read_at=now,
        )
    except NotImplementedError:
        raise ConfigurationError(
            "The scheme 'upto' needs PostgreSQL or SQLite: no other database reserves."
        ) from None
    if guard is not None:
        step = Step(State.VERIFIED, "Verified; the maximum is reserved.")
        try:
            advance(payment, step, actor="request", guard=guard)
        except InvalidTransition:
            payment.refresh_from_db(fields=["state", "attempt"])
            if payment.state != State.CLAIMED:
                raise  # another worker has it
        else:
            return
    _reject(
        payment,
        "Your funds are reserved by other requests of yours, or do not suffice. Retry when those "
        "are done.",
        Code.INSUFFICIENT_FUNDS,
    )


def _funds(payment: Payment, signed: SignedPayment) -> tuple[int, int]:
    """What the payer could spend, and as of which block."""
    if not x402.network(payment.network).has_rpc:
        return int(payment.amount), 0  # not to be known here: one request at a time
    from x402_django.chain.funds import spendable  # loads web3: not before it is needed

    found = spendable(signed)
    return found.amount, found.block_number


def _reject(payment: Payment, reason: str, code: str) -> None:
    advance(payment, Step(State.REJECTED, reason, code), actor="request", failure_code=code[:100])
    raise PaymentRefused(reason, code=code)


def charged_fields(payment: Payment) -> dict[str, Any]:
    """The columns that say what the view has charged; empty if that is what they say already."""
    due = payment.due
    if due == payment.amount:
        return {}
    fields: dict[str, Any] = {"amount": due}
    if payment.price_usd is not None:
        # What is asked in dollars is paid in a token of dollars.
        fields["price_usd"] = Decimal(due).scaleb(-payment.asset_decimals).quantize(_CENTS)
    return fields


def charge_sentence(payment: Payment) -> str:
    """Why it is settled for less, for the ledger."""
    return f"Charged {payment.due} of {payment.maximum}."


def waive(payment: Payment, fields: dict[str, Any]) -> None:
    """The view has charged nothing: record that, with the response, and settle nothing."""
    advance(
        payment,
        Step(State.WAIVED, charge_sentence(payment), "nothing_charged"),
        actor="request",
        **charged_fields(payment),
        **fields,
    )
