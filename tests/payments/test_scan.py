"""The scanner on a real EVM: what it settles, confirms, notes and leaves alone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.chain import support
from tests.chain.support import (
    direct,
    facilitator_body,
    sign,
    store,
)
from tests.payments.scanning import chain, on_chain, pay, place, settle, unknown
from tests.payments.support import history
from tests.settings import PAY_TO
from x402_django import clock
from x402_django.chain.devchain.artifacts import load_artifact
from x402_django.chain.devchain.deployment import MULTICALL3_ADDRESS
from x402_django.models import Payment, Receipt, ScannedBlock
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.testing.chain import new_payer, send_transaction
from x402_django.testing.submission import transfer_call

__all__ = ["chain"]

pytestmark = pytest.mark.django_db(transaction=True)


def test_unknown_outcomes_are_settled_and_then_final(chain) -> None:
    signed, rows = pay(chain, 3)
    for row in rows:
        unknown(row)
    support.requests.clear()

    assert confirm_pending_payments().settled == 3

    assert support.requests["eth_getTransactionReceipt"] == support.requests["eth_call"] == 0
    assert [place(row) for row in rows] == [on_chain(one, "settled") for one in signed]
    assert Receipt.objects.count() == 3
    chain.mine(20)
    support.requests.clear()
    assert confirm_pending_payments().final == 3
    assert support.requests["eth_getTransactionReceipt"] == support.requests["eth_call"] == 0
    assert history(rows[0]) == [("settling", "settled"), ("settled", "final")]


def test_payments_of_one_transaction_are_told_apart(chain) -> None:
    payer = new_payer(chain, 1)
    signed = [sign(payer) for _ in range(3)]
    rows = [unknown(store(one)) for one in signed]
    calls = [transfer_call(direct(), facilitator_body(one)) for one in signed]
    multicall = direct().eth.contract(
        address=MULTICALL3_ADDRESS, abi=load_artifact("Multicall3").abi
    )
    data = multicall.functions.aggregate3(
        [(call["to"], False, call["data"]) for call in calls]
    )._encode_transaction_data()
    from eth_account import Account

    settler = Account.from_key(support.SETTLER.private_key)
    send_transaction(direct(), settler, {"to": MULTICALL3_ADDRESS, "data": data, "value": 0})
    assert confirm_pending_payments().settled == 3
    assert [place(row)[4] for row in rows] == [1, 3, 5]
    assert chain.dollars(PAY_TO) == 3 * support.PRICE


def test_what_a_live_request_settles_is_noted_and_left_to_it(chain) -> None:
    signed, [row] = pay(chain)
    confirm_pending_payments()
    assert place(row) == on_chain(signed[0], "settling")
    # Its worker dies; the cursor is past the block, and the note says where to look.
    chain.mine(20)
    confirm_pending_payments()
    support.requests.clear()
    with clock.shifted(timedelta(seconds=60)):
        report = confirm_pending_payments()
    assert (report.settled, report.final) == (1, 1)
    assert support.requests["eth_getTransactionReceipt"] == support.requests["eth_call"] == 0


def test_the_worker_of_a_noted_payment_settles_it_as_ever(chain) -> None:
    signed, [row] = pay(chain)
    confirm_pending_payments()
    settle(signed[0], row)
    assert place(row) == on_chain(signed[0], "settled")
    assert Receipt.objects.count() == 1


def test_others_are_left_alone(chain) -> None:
    _, rows = pay(chain, 6)
    states = ("claimed", "verified", "failed", "released", "rejected", "expired")
    for row, state in zip(rows, states, strict=True):
        Payment.objects.filter(pk=row.pk).update(state=state)
    signed, [live] = pay(chain)
    settle(signed[0], live)
    before = list(Payment.objects.exclude(pk=live.pk).order_by("pk").values())
    confirm_pending_payments()
    assert list(Payment.objects.exclude(pk=live.pk).order_by("pk").values()) == before


def test_the_cursor_moves_with_the_chain(chain) -> None:
    signed, [row] = pay(chain)
    settle(signed[0], row)
    confirm_pending_payments()
    heights = [chain.height]
    for _ in range(2):
        chain.mine()
        heights.append(chain.height)
        confirm_pending_payments()
    blocks = ScannedBlock.objects.order_by("number").values_list("number", "hash")
    hashes = [direct().eth.get_block(number)["hash"].to_0x_hex() for number in heights]
    assert list(blocks) == list(zip(heights, hashes, strict=True))
