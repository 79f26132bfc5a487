"""The facilitator service for Permit2 and ``upto``: what it says it supports, and what it moves."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chain.approvals import penniless, sign_approval
from tests.chain.permits import approving_payer
from tests.chain.support import NETWORK, SETTLER, direct
from tests.service import support
from tests.service.support import PRICE, SELLER, Caller, ask, balance, requirements
from x402_django.chain.devchain.deployment import PLAIN_TOKEN_ADDRESS
from x402_django.models import ChainTransaction, Payment
from x402_django.testing.chain import token_contract
from x402_django.testing.payer import Payer

PERMIT2 = {"name": "Test Dollar", "version": "1", "assetTransferMethod": "permit2"}
MOST = 100_000


def asked_upto(amount: int = MOST, settler: str = SETTLER.address) -> dict[str, Any]:
    extra = {**PERMIT2, "facilitatorAddress": settler}
    return requirements(scheme="upto", amount=str(amount), extra=extra)


def charged(body: dict[str, Any], amount: int) -> dict[str, Any]:
    """``body`` with what the server has charged of the maximum."""
    return {**body, "paymentRequirements": {**body["paymentRequirements"], "amount": str(amount)}}


@pytest.fixture
def body(service: Any) -> dict[str, Any]:
    return ask(Payer(approving_payer()), asked=asked_upto())


def test_what_was_charged_is_what_moves_and_once(caller: Caller, body: dict[str, Any]) -> None:
    assert caller.verify(body).json()["isValid"] is True
    assert not Payment.objects.exists()

    answer = caller.settle(charged(body, 4_200)).json()

    assert (answer["success"], answer["amount"]) == (True, "4200")
    assert balance(SELLER) == 4_200
    payment = Payment.objects.get()
    assert (payment.kind, payment.amount, payment.maximum) == ("service", 4_200, MOST)
    assert caller.settle(charged(body, 4_200)).json() == answer
    again = caller.settle(charged(body, 5_000)).json()
    assert (again["success"], again["errorReason"]) == (
        False,
        "invalid_exact_evm_nonce_already_used",
    )
    assert caller.verify(body).json()["isValid"] is False
    assert (balance(SELLER), ChainTransaction.objects.count()) == (4_200, 1)


def test_nothing_charged_is_a_success_without_a_transaction(
    caller: Caller, body: dict[str, Any]
) -> None:
    for _ in range(2):
        answer = caller.settle(charged(body, 0)).json()
        assert (answer["success"], answer["transaction"], answer["amount"]) == (True, "", "0")
    assert caller.settle(charged(body, 1)).json()["success"] is False
    assert caller.verify(body).json()["isValid"] is False
    assert (Payment.objects.get().state, ChainTransaction.objects.count()) == ("waived", 0)


@pytest.mark.parametrize(
    ("amount", "settler", "reason"),
    [
        (MOST + 1, SETTLER.address, "invalid_upto_evm_payload_settlement_exceeds_amount"),
        (MOST, SELLER, "upto_facilitator_mismatch"),
    ],
)
def test_more_than_authorized_and_for_another_settler(
    caller: Caller, service: Any, amount: int, settler: str, reason: str
) -> None:
    body = charged(ask(Payer(approving_payer()), asked=asked_upto(settler=settler)), amount)
    answer = caller.settle(body).json()
    assert (answer["success"], answer["errorReason"]) == (False, reason)
    assert (balance(SELLER), ChainTransaction.objects.count()) == (0, 0)


def test_a_signature_for_us_in_requirements_of_another(caller: Caller, body: Any) -> None:
    other = {**body, "paymentRequirements": asked_upto(settler=SELLER)}
    assert caller.settle(other).json()["success"] is False
    assert balance(SELLER) == 0


@pytest.mark.parametrize("version", [1, 2])
def test_exact_by_permit2_is_of_version_2(caller: Caller, version: int) -> None:
    payer = Payer(approving_payer())
    asked = requirements(version, extra=PERMIT2, amount=str(PRICE))
    answer = caller.settle(ask(payer, version=version, asked=asked)).json()
    assert answer["success"] is (version == 2)
    assert balance(SELLER) == (PRICE if version == 2 else 0)


@pytest.mark.parametrize("scheme", ["exact", "upto"])
def test_the_approval_of_a_payer_without_gas_is_paid_for(
    caller: Caller, settings: Any, scheme: str
) -> None:
    token = {"ADDRESS": PLAIN_TOKEN_ADDRESS, "NAME": "Plain Dollar", "SYMBOL": "PUSD"}
    configured = support.x402_settings({"MAX_APPROVAL_COST": 10**16})
    configured["NETWORKS"][NETWORK]["ASSETS"].append(token)
    settings.X402 = configured
    account = penniless()
    extra = {**PERMIT2, "name": "Plain Dollar"}
    asked = requirements(asset=PLAIN_TOKEN_ADDRESS, extra=extra)
    if scheme == "upto":
        asked = {**asked_upto(PRICE), "asset": PLAIN_TOKEN_ADDRESS}
        asked["extra"] = {**asked["extra"], "name": "Plain Dollar"}
    body = ask(Payer(account), asked=asked)
    approval = {"info": sign_approval(account)}
    body["paymentPayload"]["extensions"] = {"erc20ApprovalGasSponsoring": approval}

    assert caller.verify(body).json()["isValid"] is True
    due = PRICE if scheme == "exact" else 4_200
    answer = caller.settle(charged(body, due)).json()

    assert answer["success"] is True, answer
    plain = token_contract(direct(), PLAIN_TOKEN_ADDRESS).functions
    assert plain.balanceOf(SELLER).call() == due
    assert ChainTransaction.objects.count() == 3
    assert caller.settle(charged(body, due)).json() == answer
