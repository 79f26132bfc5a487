"""What the facilitator service answers, and what it moves."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import Client

from tests.service import support
from tests.service.support import NETWORK, PRICE, SELLER, Caller, ask, balance, requirements
from x402_django.chain.devchain.accounts import dev_accounts
from x402_django.models import ChainTransaction, Payment, PaymentEvent, Receipt
from x402_django.signals import payment_settled
from x402_django.testing.chain import new_payer
from x402_django.testing.payer import Payer


@pytest.mark.parametrize("version", [1, 2])
def test_verify_says_yes_and_moves_nothing(caller: Caller, version: int) -> None:
    body = ask(version=version)
    payer = body["paymentPayload"]["payload"]["authorization"]["from"]

    answer = caller.verify(body)

    assert answer.status_code == 200
    assert answer.json() == {"isValid": True, "payer": payer}
    assert answer["Cache-Control"] == "no-store"
    assert balance(SELLER) == 0
    assert not Payment.objects.exists()
    assert not ChainTransaction.objects.exists()


@pytest.mark.parametrize(("version", "network"), [(1, "dev"), (2, NETWORK)])
def test_settle_moves_the_money_once(caller: Caller, version: int, network: str) -> None:
    body = ask(version=version)
    payer = body["paymentPayload"]["payload"]["authorization"]["from"]

    answer = caller.settle(body)

    sent = ChainTransaction.objects.get()
    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "transaction": sent.hash,
        "network": network,
        "payer": payer,
        "amount": str(PRICE),
    }
    assert balance(SELLER) == PRICE
    payment = Payment.objects.get()
    assert (payment.kind, payment.state, payment.service_key.name) == (
        "service",
        "settled",
        "Weather Ltd",
    )
    assert payment.resource_url == "https://api.example/weather"
    assert payment.x402_version == version
    assert list(PaymentEvent.objects.values_list("to_state", flat=True)) == [
        "verified",
        "settling",
        "settled",
    ]


def test_settled_twice_answers_the_same_and_pays_once(caller: Caller) -> None:
    body = ask()

    first, second = caller.settle(body), caller.settle(body)

    assert first.json()["success"] is True
    assert second.json() == first.json()
    assert balance(SELLER) == PRICE
    assert ChainTransaction.objects.count() == 1


def test_what_was_settled_is_not_valid_again(caller: Caller) -> None:
    body = ask()
    caller.settle(body)

    answer = caller.verify(body).json()

    assert (answer["isValid"], answer["invalidReason"]) == (
        False,
        "invalid_exact_evm_nonce_already_used",
    )


def test_a_key_that_hears_of_success_once(make_caller: Any) -> None:
    caller, _key = make_caller(succeeds_once=True)
    body = ask()

    first, second = caller.settle(body).json(), caller.settle(body).json()

    assert first["success"] is True
    assert (second["success"], second["errorReason"]) == (False, "duplicate_settlement")
    assert second["transaction"] == first["transaction"]
    assert balance(SELLER) == PRICE


def test_an_unknown_outcome_is_pending_with_its_transaction_and_settles_later(
    service: Any, caller: Caller, settings: Any
) -> None:
    settings.X402 = support.x402_settings(SETTLEMENT_TIMEOUT=0.3)
    body = ask()
    service.set_automine(False)

    pending = caller.settle(body).json()

    sent = ChainTransaction.objects.get()
    assert (pending["success"], pending["errorReason"]) == (False, "settlement_pending")
    assert pending["transaction"] == sent.hash
    assert caller.settle(body).json()["transaction"] == sent.hash  # asked again: still the same
    # The payer has perhaps paid, and nobody has been told: a seller may sell for it.
    assert caller.verify(body).json()["isValid"] is True
    service.set_automine(True)
    settled = caller.settle(body).json()

    assert settled["success"] is True
    assert settled["transaction"] == sent.hash
    assert balance(SELLER) == PRICE
    assert ChainTransaction.objects.count() == 1
    assert caller.verify(body).json()["isValid"] is False


def test_who_has_no_money_is_refused_and_may_come_again(service: Any, caller: Caller) -> None:
    account = new_payer(service, dollars=0)
    body = ask(Payer(account))

    answer = caller.settle(body).json()

    assert (answer["success"], answer["errorReason"]) == (False, "insufficient_funds")
    assert answer["transaction"] == ""
    assert Payment.objects.get().state == "rejected"
    service.mint(account.address, 1_000_000)
    assert caller.settle(body).json()["success"] is True
    assert balance(SELLER) == PRICE
    assert Payment.objects.get().attempt == 2


def test_a_node_that_is_down_is_503_and_nothing_was_sent(service: Any, caller: Caller) -> None:
    from tests.chain import support as chain_support

    body = ask()
    chain_support.down.add("*")

    verified, settled = caller.verify(body), caller.settle(body)

    assert (verified.status_code, settled.status_code) == (503, 503)
    assert settled["Retry-After"] == "2"
    assert settled.json()["error"] == "payment_service_unavailable"
    assert "very-secret-key" not in (verified.content + settled.content).decode()
    assert Payment.objects.get().state == "released"
    chain_support.down.clear()
    assert caller.settle(body).json()["success"] is True
    assert balance(SELLER) == PRICE


def test_supported_is_public_and_names_the_wallet(service: Any) -> None:
    answer = Client().get("/facilitator/supported")

    assert answer.status_code == 200
    assert answer.json() == {
        "kinds": [
            {"x402Version": 2, "scheme": "exact", "network": NETWORK},
            {"x402Version": 1, "scheme": "exact", "network": "dev"},
            {
                "x402Version": 2,
                "scheme": "upto",
                "network": NETWORK,
                "extra": {"facilitatorAddress": dev_accounts()[2].address},
            },
        ],
        "extensions": ["eip2612GasSponsoring", "erc20ApprovalGasSponsoring"],
        "signers": {"eip155:*": [dev_accounts()[2].address]},
    }
    assert answer["Cache-Control"] == "public, max-age=60"


def test_without_a_facilitator_everything_is_503(service: Any, settings: Any, caller: Any) -> None:
    settings.X402 = support.x402_settings(SERVICE_FACILITATOR=None)

    assert Client().get("/facilitator/supported").status_code == 503
    assert caller.settle(ask()).status_code == 503
    assert not Payment.objects.exists()


def test_others_payments_are_in_no_book_of_this_site(caller: Caller, settings: Any) -> None:
    heard: list[Any] = []

    def listen(sender: Any, payment: Any, **kwargs: Any) -> None:
        heard.append(payment)

    payment_settled.connect(listen)
    try:
        caller.settle(ask())
    finally:
        payment_settled.disconnect(listen)

    assert heard == []
    assert not Receipt.objects.exists()
    assert not Payment.objects.sales().exists()
    assert not Payment.objects.debts().exists()
    assert Payment.objects.for_others().count() == 1


def test_an_authorization_may_stand_in_both_books(caller: Caller, settings: Any) -> None:
    """As when the site sells through its own service: each book has it once."""
    from tests.settings import PAY_TO

    body = ask(asked=requirements(payTo=PAY_TO))
    caller.settle(body)
    mine = Payment.objects.get()
    mine.pk, mine.public_id, mine.kind, mine.service_key = None, "a" * 40, "sale", None
    mine.save(force_insert=True)

    assert Payment.objects.count() == 2


def test_a_failed_payment_elsewhere_puts_nobody_in_default_here(caller: Caller) -> None:
    body = ask()
    caller.settle(body)
    payer = body["paymentPayload"]["payload"]["authorization"]["from"]
    Payment.objects.update(state="failed")

    from datetime import timedelta

    from x402_django import clock

    since = clock.now() - timedelta(days=1)
    assert not Payment.objects.failed_by(payer, since=since).exists()


def test_one_nonce_signed_twice_is_settled_on_the_first_terms_alone(
    service: Any, caller: Caller
) -> None:
    payer = Payer(new_payer(service, dollars=1))
    cheap = ask(payer, asked=requirements(amount="1"))
    nonce = cheap["paymentPayload"]["payload"]["authorization"]["nonce"]
    dear = ask(payer, nonce=nonce)
    assert caller.settle(cheap).json()["success"] is True

    answer = caller.settle(dear).json()

    assert (answer["success"], answer["errorReason"]) == (
        False,
        "invalid_exact_evm_nonce_already_used",
    )
    assert balance(SELLER) == 1


def test_a_dead_request_is_taken_over(caller: Caller) -> None:
    """Killed between the claim and everything else: nothing was sent, the next one settles."""
    from datetime import timedelta

    from x402_django import clock
    from x402_django.payments.service import settling

    body = ask(validBefore=str(int(time.time()) + 10_000))
    original = settling._settle_claimed
    settling._settle_claimed = _killed  # type: ignore[assignment]
    try:
        with pytest.raises(SystemExit):
            caller.settle(body)
    finally:
        settling._settle_claimed = original
    assert Payment.objects.get().state == "claimed"

    with clock.shifted(timedelta(seconds=120)):
        answer = caller.settle(body).json()

    assert answer["success"] is True
    assert balance(SELLER) == PRICE
    assert Payment.objects.get().attempt == 2


def _killed(*args: Any) -> None:
    raise SystemExit
