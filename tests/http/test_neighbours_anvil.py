"""Payers of every kind beside plain ones, settled together: nobody is hurt by a neighbour."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from tests.chain.anvil import NOBODY, Anvil, running_anvil
from tests.chain.support import NETWORK, facilitator_body
from tests.http.payer_views import meanwhile
from tests.http.payers import (
    BURNS,
    KINDS,
    PRETENDS,
    REFUSES,
    CounterfactualPayer,
    buyer,
    configure,
    contract_wallet,
    delegate_code,
    delegated,
    lying_factory,
    plain,
    wallet_is_in_step,
)
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django import clock
from x402_django.chain import outbox
from x402_django.chain.devchain.deployment import FACTORY_ADDRESS
from x402_django.chain.multicall import MULTICALL3
from x402_django.constants import Code
from x402_django.models import ChainTransaction, Payment, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.payments.deferred import settle_deferred
from x402_django.protocol.types import SignedPayment
from x402_django.testing.payer import Payer, PayingClient
from x402_django.testing.submission import submit_authorization

pytestmark = [
    pytest.mark.anvil,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.http.payer_views"),
]

PRICE = 10_000
DOLLAR = 1_000_000


@pytest.fixture
def anvil(settings: Any) -> Iterator[Anvil]:
    meanwhile.clear()
    with running_anvil() as url:
        configure(settings, url, [FACTORY_ADDRESS])
        yield Anvil(url)


def order(anvil: Anvil, odd: Payer) -> tuple[list[PayingClient], PayingClient]:
    """Three plain payers with ``odd`` in their midst; all have got what they bought."""
    clients = [buyer(anvil, payer) for payer in (Payer(), odd, Payer(), Payer())]
    for client in clients:
        assert client.pay("GET", "/later/").status_code == 200
    assert anvil.dollars(PAY_TO) == 0
    return [clients[0], *clients[2:]], clients[1]


def payment_of(client: PayingClient) -> Payment:
    return Payment.objects.get(payer=client.payer.address)


def paid(anvil: Anvil, *clients: PayingClient) -> None:
    """Each once, to the unit, with one receipt, for one run of the view."""
    for client in clients:
        payment = payment_of(client)
        assert anvil.dollars(client.payer.address) == DOLLAR - PRICE
        assert (payment.state, payment.receipt.amount) == ("settled", PRICE)
        assert runs[client.payer.address] == 1


def group_of(clients: list[PayingClient]) -> ChainTransaction:
    """The one transaction in which they all ride, and nobody else."""
    group = ChainTransaction.objects.get(to=MULTICALL3)
    assert {payment_of(one).transaction for one in clients} == {group.hash}
    assert group.payments_count == len(clients)
    return group


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_who_pay(anvil: Anvil, kind: str) -> None:
    others, odd = order(anvil, KINDS[kind](anvil))

    assert settle_deferred().settled == 4

    paid(anvil, odd, *others)
    assert (anvil.dollars(PAY_TO), Receipt.objects.count()) == (4 * PRICE, 4)
    together = [odd, *others] if kind == "eoa" else others
    group_of(together)
    wallet_is_in_step(anvil)
    anvil.mine(3)
    assert confirm_pending_payments().final == 4


def emptied(anvil: Anvil, client: PayingClient) -> None:
    anvil.take_money(client.payer.address)


def set_to_refuse(anvil: Anvil, client: PayingClient) -> None:
    anvil.delegate(client.payer.account, delegate_code(anvil, REFUSES))


def set_to_burn(anvil: Anvil, client: PayingClient) -> None:
    anvil.delegate(client.payer.account, delegate_code(anvil, BURNS))


def unchanged(anvil: Anvil, client: PayingClient) -> None:
    """Bad from the beginning."""


def pretending(anvil: Anvil) -> Payer:
    return CounterfactualPayer(anvil, lying_factory(anvil, PRETENDS))


#: Who fails, by what becomes of them after delivery: kind, change, money left, code, transactions.
FAILURES: dict[str, tuple[Any, Any, int, str, int]] = {
    "an emptied account": (plain, emptied, 0, Code.INSUFFICIENT_FUNDS, 0),
    "an emptied wallet": (contract_wallet, emptied, 0, Code.INSUFFICIENT_FUNDS, 0),
    "an emptied wallet to be": (CounterfactualPayer, emptied, 0, Code.INSUFFICIENT_FUNDS, 0),
    "a new delegate refuses": (plain, set_to_refuse, DOLLAR, Code.INVALID_SIGNATURE, 0),
    "a new delegate burns gas": (plain, set_to_burn, DOLLAR, Code.INVALID_SIGNATURE, 0),
    "another delegate refuses": (delegated, set_to_refuse, DOLLAR, Code.INVALID_SIGNATURE, 0),
    "a factory pretends": (pretending, unchanged, DOLLAR, Code.INVALID_SIGNATURE, 1),
}


@pytest.mark.parametrize("case", FAILURES)
def test_neighbours_who_do_not_pay(anvil: Anvil, settings: Any, case: str) -> None:
    kind, change, left, code, sent = FAILURES[case]
    payer = kind(anvil)
    configure(settings, anvil.url, [FACTORY_ADDRESS, getattr(payer, "factory", FACTORY_ADDRESS)])
    others, odd = order(anvil, payer)
    change(anvil, odd)

    report = settle_deferred()

    assert (report.settled, report.failed) == (3, 1)
    paid(anvil, *others)
    payment = payment_of(odd)
    assert (payment.state, payment.failure_code) == ("failed", code)
    assert anvil.dollars(odd.payer.address) == left
    assert (anvil.dollars(PAY_TO), Receipt.objects.count()) == (3 * PRICE, 3)
    group = group_of(others)
    assert ChainTransaction.objects.exclude(pk=group.pk).count() == sent
    wallet_is_in_step(anvil)


def test_a_neighbour_whose_payment_somebody_else_has_submitted(anvil: Anvil) -> None:
    others, odd = order(anvil, Payer())
    body = facilitator_body(SignedPayment.from_row(payment_of(odd)))
    transaction = submit_authorization(anvil.w3, body)

    settle_deferred()

    paid(anvil, odd, *others)
    assert payment_of(odd).transaction == transaction
    assert (anvil.dollars(PAY_TO), Receipt.objects.count()) == (4 * PRICE, 4)
    group_of(others)


# -------------------------------------------------- what changes after the group was simulated


def before_departure(monkeypatch: Any, change: Callable[[], object]) -> None:
    """Run ``change`` when the group is simulated and about to be stored."""
    attempt = outbox.attempt

    def changed_first(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.undo()
        change()
        return attempt(*args, **kwargs)

    monkeypatch.setattr(outbox, "attempt", changed_first)


def test_one_who_refuses_at_the_last_moment_misses_the_group_alone(
    anvil: Anvil, monkeypatch: Any
) -> None:
    others, odd = order(anvil, Payer())
    code = delegate_code(anvil, REFUSES)
    before_departure(monkeypatch, lambda: anvil.delegate(odd.payer.account, code))

    report = settle_deferred()

    assert (report.settled, report.unknown) == (3, 1)
    paid(anvil, *others)
    (group,) = ChainTransaction.objects.all()
    assert {payment_of(one).transaction for one in others} == {group.hash}
    anvil.mine(2)  # until then a reorganisation could let the group settle it after all
    with clock.shifted(timedelta(seconds=60)):
        assert confirm_pending_payments().failed == 1
    assert [item.status for item in group.items.order_by("position")] == [
        "riding", "missed", "riding", "riding",
    ]  # fmt: skip
    assert anvil.dollars(odd.payer.address) == DOLLAR
    wallet_is_in_step(anvil)


def test_one_who_burns_the_groups_gas_costs_it_once(anvil: Anvil, monkeypatch: Any) -> None:
    """The group is lost; the others are settled each by itself, and the culprit is not."""
    others, odd = order(anvil, Payer())
    code = delegate_code(anvil, BURNS)
    before_departure(monkeypatch, lambda: anvil.delegate(odd.payer.account, code))

    report = settle_deferred()

    assert (report.settled, report.failed) == (3, 1)
    paid(anvil, *others)
    assert (anvil.dollars(PAY_TO), Receipt.objects.count()) == (3 * PRICE, 3)
    assert anvil.dollars(odd.payer.address) == DOLLAR
    group = ChainTransaction.objects.get(to=MULTICALL3)
    assert (group.status, group.items.filter(status="missed").count()) == ("reverted", 4)
    alone = ChainTransaction.objects.exclude(pk=group.pk)
    assert sorted(one.payments.get().payer for one in alone) == sorted(
        one.payer.address for one in others
    )
    wallet_is_in_step(anvil)


def test_delegation_removed_at_the_last_moment_changes_nothing(
    anvil: Anvil, monkeypatch: Any
) -> None:
    others, odd = order(anvil, delegated(anvil))
    before_departure(monkeypatch, lambda: anvil.delegate(odd.payer.account, NOBODY))
    assert settle_deferred().settled == 4
    paid(anvil, odd, *others)
    group_of(others)


# --------------------------------------------------------------------- all of them at once


def test_everybody_at_once(anvil: Anvil, settings: Any) -> None:
    """Twelve requests at the same moment: plain, contract, delegated, undeployed, and bad ones."""
    good = [buyer(anvil, KINDS[kind](anvil)) for kind in [*KINDS, *["eoa"] * 5]]
    bad = [
        PayingClient(payer=Payer(), automatic=False),  # without a cent
        buyer(anvil, delegated(anvil, REFUSES)),
        buyer(anvil, delegated(anvil, BURNS)),
    ]
    clients = [*good[:4], *bad, *good[4:]]
    anvil.set_automine(False)
    barrier, stop = threading.Barrier(len(clients)), threading.Event()

    def shop(client: PayingClient) -> int:
        try:
            barrier.wait(20)
            return client.pay("GET", "/now/").status_code
        finally:
            connection.close()

    def mine() -> None:
        while not stop.wait(0.4):
            anvil.mine()

    miner = threading.Thread(target=mine)
    miner.start()
    try:
        with ThreadPoolExecutor(len(clients)) as pool:
            statuses = list(pool.map(shop, clients))
    finally:
        stop.set()
        miner.join()

    assert statuses == [200] * 4 + [402] * 3 + [200] * 5
    paid(anvil, *good)
    assert (anvil.dollars(PAY_TO), Receipt.objects.count()) == (9 * PRICE, 9)
    assert sum(runs.values()) == 9
    for client in bad:
        assert payment_of(client).state == "rejected"
    assert outbox.open_transactions(NETWORK) == {}
    wallet_is_in_step(anvil)
