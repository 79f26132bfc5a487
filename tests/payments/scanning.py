"""Payments on the embedded chain, for tests of the scanner."""

from __future__ import annotations

import pytest

from tests.chain import support
from tests.chain.support import (
    NETWORK,
    direct,
    facilitator_body,
    sign,
    store,
)
from tests.payments.support import ago
from x402_django.chain.evidence import find_settlement
from x402_django.models import Payment
from x402_django.payments.recording import mark_settled
from x402_django.testing.chain import new_payer, reset_dev_chains
from x402_django.testing.submission import submit_authorization


@pytest.fixture
def chain(settings):
    from x402_django.testing.chain import dev_chain

    reset_dev_chains()
    support.down.clear()
    support.lost.clear()
    settings.X402 = {**support.x402_settings(CONFIRMATIONS=20), "CONFIRMATION_INTERVAL": 0}
    support.requests.clear()
    yield dev_chain(NETWORK)
    reset_dev_chains()


def pay(chain, count: int = 1):
    """Authorizations that somebody has settled, in one block, and their rows."""
    payer = new_payer(chain, 1)
    signed = [sign(payer) for _ in range(count)]
    for one in signed:
        submit_authorization(direct(), facilitator_body(one))
    if count > 1:
        chain.reorg(count, keep_transactions=True)
    return signed, [store(one) for one in signed]


def settle(signed, payment) -> Payment:
    """Write down what the chain has, as a request does."""
    found = find_settlement(signed)
    mark_settled(payment, found.as_settlement(), {}, actor="test")
    return payment


def unknown(payment) -> Payment:
    Payment.objects.filter(pk=payment.pk).update(
        outcome_unknown_at=ago(100), state_changed_at=ago(100)
    )
    payment.refresh_from_db()
    return payment


def place(payment) -> tuple[str, str, int | None, str, int | None]:
    payment.refresh_from_db()
    return (
        payment.state,
        payment.transaction,
        payment.block_number,
        payment.block_hash,
        payment.log_index,
    )


def on_chain(signed, state: str):
    found = find_settlement(signed)
    where = (found.transaction, found.block_number, found.block_hash, found.log_index)
    return (state, *where)
