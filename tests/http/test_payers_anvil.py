"""Payers of every kind buy from a site that settles from its own wallet, on a real node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chain.anvil import NOBODY, Anvil, running_anvil
from tests.chain.support import SETTLER
from tests.http import payers
from tests.http.payer_views import meanwhile
from tests.http.payers import (
    ACCEPTS,
    KINDS,
    NOTHING,
    PRETENDS,
    REFUSES,
    REVERTS,
    CounterfactualPayer,
    buyer,
    configure,
    delegate_code,
    lying_factory,
    wallet_is_in_step,
)
from tests.settings import PAY_TO
from tests.shop.runs import runs
from x402_django.chain.devchain.deployment import FACTORY_ADDRESS
from x402_django.constants import Code
from x402_django.models import ChainTransaction, Payment, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.testing.payer import PayingClient, settlement_of

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


def balances(anvil: Anvil, client: PayingClient) -> tuple[int, int]:
    return anvil.dollars(client.payer.address), anvil.dollars(PAY_TO)


# ------------------------------------------------------------------------- those who pay


@pytest.mark.parametrize("kind", KINDS)
def test_a_payer_buys_and_the_payment_becomes_final(anvil: Anvil, kind: str) -> None:
    client = buyer(anvil, KINDS[kind](anvil))

    response = client.pay("GET", "/now/")

    assert (response.status_code, response.content) == (200, f"for {client.payer.address}".encode())
    assert balances(anvil, client) == (DOLLAR - PRICE, PRICE)
    payment = Payment.objects.get()
    assert (payment.state, payment.payer) == ("settled", client.payer.address)
    assert settlement_of(response)["transaction"] == payment.transaction
    receipt = Receipt.objects.get()
    assert (receipt.payment, receipt.amount, receipt.payer) == (payment, PRICE, payment.payer)
    assert payment.chain_transactions.get().hash == payment.transaction
    wallet_is_in_step(anvil)

    again = client.get("/now/", headers=client.last_headers)
    assert (again.status_code, again.content) == (200, response.content)
    assert runs == {client.payer.address: 1}

    confirm_pending_payments()
    anvil.mine(2)
    confirm_pending_payments()
    payment.refresh_from_db()
    assert (payment.state, Receipt.objects.count()) == ("final", 1)
    assert balances(anvil, client) == (DOLLAR - PRICE, PRICE)


def test_a_wallet_is_deployed_first_and_then_pays_like_any_other(anvil: Anvil) -> None:
    client = buyer(anvil, CounterfactualPayer(anvil))
    assert not anvil.has_code(client.payer.address)

    assert client.pay("GET", "/now/").status_code == 200

    deployment, transfer = ChainTransaction.objects.order_by("nonce")
    assert (deployment.nonce, deployment.to, deployment.status) == (0, FACTORY_ADDRESS, "mined")
    assert (transfer.nonce, transfer.status) == (1, "mined")
    assert deployment.block_number < transfer.block_number
    assert [list(row.payments.all()) for row in (deployment, transfer)] == [
        [],
        [Payment.objects.get()],
    ]
    assert anvil.has_code(client.payer.address)

    assert client.pay("GET", "/now/?again").status_code == 200  # still wrapped, deployed already
    assert ChainTransaction.objects.count() == 3
    assert balances(anvil, client) == (DOLLAR - 2 * PRICE, 2 * PRICE)
    wallet_is_in_step(anvil)


# ------------------------------------------------------------------ those who are refused


def refused(anvil: Anvil, client: PayingClient, code: str) -> None:
    """402 before the view runs; nothing is sent and nothing is charged."""
    before = balances(anvil, client)
    response = client.pay("GET", "/now/")
    assert response.status_code == 402
    payment = Payment.objects.get()
    assert (payment.state, payment.failure_code) == ("rejected", code)
    assert balances(anvil, client) == before
    assert not ChainTransaction.objects.exists()
    assert not Receipt.objects.exists()
    assert anvil.count(SETTLER.address) == 0
    assert runs == {}


def test_a_factory_that_is_not_allowed_is_not_called(anvil: Anvil, settings: Any) -> None:
    configure(settings, anvil.url, [])
    client = buyer(anvil, CounterfactualPayer(anvil))
    refused(anvil, client, "eip6492_factory_not_allowed")
    assert not anvil.has_code(client.payer.address)


@pytest.mark.parametrize("mode", [NOTHING, REVERTS], ids=["does nothing", "reverts"])
def test_a_factory_that_does_not_deploy_is_seen_through(
    anvil: Anvil, settings: Any, mode: int
) -> None:
    factory = lying_factory(anvil, mode)
    configure(settings, anvil.url, [factory])
    refused(anvil, buyer(anvil, CounterfactualPayer(anvil, factory)), Code.INVALID_SIGNATURE)


def test_a_wallet_of_somebody_else_is_not_paid_from(anvil: Anvil) -> None:
    """Deployed by an allowed factory all right, but another owner signed."""
    victim, thief = CounterfactualPayer(anvil), CounterfactualPayer(anvil)
    thief.address, thief.deployment = victim.address, victim.deployment
    refused(anvil, buyer(anvil, thief), Code.INVALID_SIGNATURE)


def test_a_delegate_that_refuses_is_believed(anvil: Anvil) -> None:
    """The key's own signature, which the token would not take."""
    refused(anvil, buyer(anvil, payers.delegated(anvil, REFUSES)), Code.INVALID_SIGNATURE)


def test_a_stranger_cannot_sign_for_a_delegated_account(anvil: Anvil) -> None:
    victim = payers.delegated(anvil)
    thief = payers.Payer(address=victim.address)
    refused(anvil, buyer(anvil, thief), Code.INVALID_SIGNATURE)


def test_a_wallet_that_burns_gas_is_refused(anvil: Anvil) -> None:
    refused(anvil, buyer(anvil, payers.delegated(anvil, payers.BURNS)), Code.INVALID_SIGNATURE)


# -------------------------------------------------- what changes between verify and settle


def failed(
    anvil: Anvil, client: PayingClient, code: str, *, sent: int = 0, left: int = DOLLAR
) -> None:
    """402 after the view ran; its answer is withheld and nothing is charged."""
    response = client.pay("GET", "/now/")
    assert response.status_code == 402
    assert client.payer.address.encode() not in response.content
    answer = settlement_of(response)
    assert (answer["success"], answer["transaction"]) == (False, "")
    payment = Payment.objects.get()
    assert (payment.state, payment.failure_code) == ("failed", code)
    assert balances(anvil, client) == (left, 0)
    assert anvil.count(SETTLER.address) == ChainTransaction.objects.count() == sent
    assert not Receipt.objects.exists()
    assert runs == {client.payer.address: 1}


def settled(anvil: Anvil, client: PayingClient) -> None:
    assert client.pay("GET", "/now/").status_code == 200
    assert balances(anvil, client) == (DOLLAR - PRICE, PRICE)
    assert (Payment.objects.get().state, Receipt.objects.count()) == ("settled", 1)
    assert runs == {client.payer.address: 1}
    wallet_is_in_step(anvil)


def test_delegation_set_meanwhile_to_code_that_accepts(anvil: Anvil) -> None:
    client, code = buyer(anvil, payers.plain(anvil)), delegate_code(anvil, ACCEPTS)
    meanwhile.append(lambda: anvil.delegate(client.payer.account, code))
    settled(anvil, client)
    assert anvil.has_code(client.payer.address)


def test_delegation_set_meanwhile_to_code_that_refuses(anvil: Anvil) -> None:
    client, code = buyer(anvil, payers.plain(anvil)), delegate_code(anvil, REFUSES)
    meanwhile.append(lambda: anvil.delegate(client.payer.account, code))
    failed(anvil, client, Code.INVALID_SIGNATURE)


def test_delegation_removed_meanwhile(anvil: Anvil) -> None:
    client = buyer(anvil, payers.delegated(anvil))
    meanwhile.append(lambda: anvil.delegate(client.payer.account, NOBODY))
    settled(anvil, client)
    assert not anvil.has_code(client.payer.address)


def test_a_wallet_deployed_meanwhile_by_somebody_else(anvil: Anvil) -> None:
    payer = CounterfactualPayer(anvil)
    client = buyer(anvil, payer)
    meanwhile.append(lambda: anvil.send(payer.factory, "0x" + payer.deployment.hex()))
    settled(anvil, client)
    assert ChainTransaction.objects.count() == 1


def test_a_wallet_emptied_meanwhile_is_not_deployed(anvil: Anvil) -> None:
    client = buyer(anvil, CounterfactualPayer(anvil))
    meanwhile.append(lambda: anvil.take_money(client.payer.address))
    failed(anvil, client, Code.INSUFFICIENT_FUNDS, left=0)
    assert not anvil.has_code(client.payer.address)


def test_a_factory_that_reverts_from_now_on(anvil: Anvil, settings: Any) -> None:
    factory = lying_factory(anvil)
    configure(settings, anvil.url, [factory])
    client = buyer(anvil, CounterfactualPayer(anvil, factory))
    meanwhile.append(lambda: payers.set_mode(anvil, factory, REVERTS))
    failed(anvil, client, Code.INVALID_SIGNATURE)


def test_a_factory_that_only_pretends_costs_its_gas_and_no_more(
    anvil: Anvil, settings: Any
) -> None:
    factory = lying_factory(anvil, PRETENDS)
    configure(settings, anvil.url, [factory])
    client = buyer(anvil, CounterfactualPayer(anvil, factory))

    failed(anvil, client, Code.INVALID_SIGNATURE, sent=1)

    (deployment,) = ChainTransaction.objects.all()
    assert (deployment.to, deployment.status) == (factory, "mined")
    wallet_is_in_step(anvil)
    other = buyer(anvil, payers.plain(anvil))
    assert other.pay("GET", "/now/").status_code == 200


# ------------------------------------------------------------------ deployments that take long


def test_a_deployment_that_no_block_takes_in_time_blames_nobody(
    anvil: Anvil, settings: Any
) -> None:
    settings.X402 = {**settings.X402, "SETTLEMENT_TIMEOUT": 1}
    client = buyer(anvil, CounterfactualPayer(anvil))
    meanwhile.append(lambda: anvil.set_automine(False))

    response = client.pay("GET", "/now/")

    assert (response.status_code, "Retry-After" in response) == (503, True)
    payment = Payment.objects.get()
    assert (payment.state, balances(anvil, client)) == ("released", (DOLLAR, 0))
    (deployment,) = ChainTransaction.objects.all()
    assert (deployment.status, deployment.prepares, deployment.payments_count) == (
        "sent",
        payment,
        0,
    )
    # The next try waits for the same deployment and sends no other.
    assert client.get("/now/", headers=client.last_headers).status_code == 503
    assert ChainTransaction.objects.count() == 1

    anvil.mine()
    anvil.set_automine(True)
    response = client.get("/now/", headers=client.last_headers)
    assert response.status_code == 200
    assert balances(anvil, client) == (DOLLAR - PRICE, PRICE)
    assert (ChainTransaction.objects.count(), Receipt.objects.count()) == (2, 1)
    confirm_pending_payments()  # the deployment is over as well
    wallet_is_in_step(anvil)
    assert set(ChainTransaction.objects.values_list("status", flat=True)) == {"mined"}


def test_deployments_are_part_of_the_gas_budget(anvil: Anvil, settings: Any) -> None:
    client = buyer(anvil, CounterfactualPayer(anvil))
    assert client.pay("GET", "/now/").status_code == 200
    deployment, transfer = ChainTransaction.objects.order_by("nonce")
    assert deployment.gas_used > transfer.gas_used

    configure(settings, anvil.url, [], GAS_PER_PAYER=deployment.gas_used + transfer.gas_used)
    assert client.pay("GET", "/now/?more").status_code == 503
    assert ChainTransaction.objects.count() == 2
    assert balances(anvil, client) == (DOLLAR - PRICE, PRICE)
