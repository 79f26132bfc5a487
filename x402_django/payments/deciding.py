"""A person's word on a payment whose outcome nothing else will tell.

On a network that the site cannot read, the facilitator's word is all there is. If that never came,
the merchant looks at the network with their own eyes, and says here what they saw.
"""

from __future__ import annotations

import re
from typing import Final

from x402_django import clock
from x402_django.conf import x402
from x402_django.constants import Code
from x402_django.exceptions import InvalidTransition
from x402_django.models import Payment
from x402_django.payments.machine import Step, advance
from x402_django.payments.recording import mark_settled
from x402_django.protocol.base58 import is_solana_transaction
from x402_django.protocol.networks import is_solana
from x402_django.protocol.types import Settlement

State = Payment.State

_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}")


def decide(payment: Payment, *, transaction: str | None, who: str) -> None:
    """Settle ``payment`` by the ``transaction`` that was seen, or fail it where there is none.

    Raises InvalidTransition, whose text says why: it is not for a person to decide (yet).
    """
    network = x402.networks.get(payment.network)
    if payment.state != State.SETTLING or payment.outcome_unknown_at is None:
        raise InvalidTransition(f"It is {payment.get_state_display()}: its outcome is known.")
    if network is not None and network.has_rpc:
        raise InvalidTransition("The chain decides: run x402_confirm.")
    actor = f"operator: {who}"[:100]
    if transaction is None:
        if clock.timestamp() <= payment.valid_before:
            raise InvalidTransition("It may still be sent; look again when its time is over.")
        advance(
            payment,
            Step(State.FAILED, "A person looked at the network: nothing came.", _CODE),
            actor=actor,
            failure_code=_CODE,
            outcome_unknown_at=None,
        )
        return
    if is_solana(payment.network):
        if not is_solana_transaction(transaction):
            raise InvalidTransition("That is not a transaction of Solana: write its signature.")
        settlement = Settlement(transaction, log_index=0)
    elif _HASH.fullmatch(transaction):
        settlement = Settlement(transaction.lower())
    else:
        raise InvalidTransition("That is not a transaction: write 0x and 64 hexadecimal digits.")
    mark_settled(payment, settlement, {}, actor=actor)


_CODE = Code.INVALID_TRANSACTION_STATE
