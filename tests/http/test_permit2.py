"""Buying by Permit2: HTTP, real signatures, our wallet, an EVM; and what goes wrong there."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.http import JsonResponse
from django.test import Client
from eth_account import Account

from tests.chain.permits import approving_payer, offer_permit2, sign_permit, submit
from tests.chain.support import (
    answers_lost,
    direct,
    node_down,
    use_up_a_nonce,
)
from tests.settings import PAY_TO
from tests.shop import views
from tests.shop.runs import runs
from x402_django import clock
from x402_django.chain.devchain.deployment import PLAIN_TOKEN_ADDRESS, TOKEN_ADDRESS
from x402_django.models import ChainTransaction, Payment, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.protocol.types import SignedPayment
from x402_django.testing.chain import (
    approve_permit2,
    deploy_smart_wallet,
    mint_plain_dollars,
    new_payer,
    token_contract,
)
from x402_django.testing.payer import Payer, PayingClient, decode, encode, settlement_of

pytestmark = pytest.mark.django_db(transaction=True)


def buyer_of(account, **options) -> PayingClient:
    return PayingClient(
        payer=Payer(account, **options), raise_request_exception=False, automatic=False
    )


def states() -> list[str]:
    return list(Payment.objects.order_by("pk").values_list("state", flat=True))


def test_buying_moves_exactly_the_price_and_becomes_final(chain):
    offer_permit2()
    buyer = buyer_of(approving_payer())

    response = buyer.pay("GET", "/weather/")

    assert response.status_code == 200, response.headers
    payment = Payment.objects.get()
    accepted = decode(buyer.last_headers["PAYMENT-SIGNATURE"])["accepted"]
    assert accepted["extra"] == {
        "name": "Test Dollar",
        "version": "1",
        "assetTransferMethod": "permit2",
    }
    assert chain.dollars(PAY_TO) == 10_000 == Receipt.objects.get().amount
    assert chain.dollars(buyer.payer.address) == 990_000
    assert settlement_of(response)["transaction"] == payment.transaction
    sent = ChainTransaction.objects.get()
    assert (sent.status, sent.hash, sent.payments.get()) == ("mined", payment.transaction, payment)
    assert (payment.asset, payment.verifying_contract) == (
        TOKEN_ADDRESS,
        "0x000000000022D473030F116dDEE9F6B43aC78BA3",
    )

    confirm_pending_payments()
    payment.refresh_from_db()
    assert payment.state == "settled"
    chain.mine(2)
    confirm_pending_payments()
    payment.refresh_from_db()
    assert (payment.state, runs["weather"]) == ("final", 1)


def test_a_token_without_signatures_of_its_own_can_be_paid(chain):
    offer_permit2(asset=PLAIN_TOKEN_ADDRESS, asset_symbol="PUSD", asset_name="Plain Dollar")
    account = new_payer(chain, 0, wei=10**17)
    mint_plain_dollars(direct(), account.address, 50_000)
    approve_permit2(direct(), account, PLAIN_TOKEN_ADDRESS)

    response = buyer_of(account).pay("GET", "/weather/")

    assert response.status_code == 200
    token = token_contract(direct(), PLAIN_TOKEN_ADDRESS)
    assert token.functions.balanceOf(PAY_TO).call() == 10_000
    assert Payment.objects.get().state == "settled"


def test_both_methods_of_one_token_are_offered_and_taken(chain):
    offer_permit2(priority=1)
    offer_permit2(name="By the token", transfer_method="eip3009")
    buyer = buyer_of(approving_payer())
    offers = decode(buyer.get("/weather/")["PAYMENT-REQUIRED"])["accepts"]
    assert [one["extra"].get("assetTransferMethod") for one in offers] == ["permit2", None]
    for offer in offers:
        headers = {"PAYMENT-SIGNATURE": encode(buyer.payer.payload(offer))}
        assert buyer.get("/weather/", headers=headers).status_code == 200
    assert chain.dollars(PAY_TO) == 20_000
    assert (states(), runs["weather"]) == (["settled", "settled"], 2)


def test_v1_clients_are_not_offered_it(chain, settings):
    offer_permit2()
    assert buyer_of(approving_payer()).get("/weather/").json()["accepts"] == []


def test_a_contract_wallet_pays_by_its_owners_signature(chain):
    offer_permit2()
    owner = Account.create()
    wallet = deploy_smart_wallet(direct(), owner.address)
    chain.mint(wallet, 1_000_000)
    response = buyer_of(owner, address=wallet).pay("GET", "/weather/")
    # It cannot approve Permit2 (it does nothing but judge signatures), so no money moves.
    assert response.status_code == 402
    assert decode(response["PAYMENT-REQUIRED"])["error"] == "permit2_allowance_required"
    thief = buyer_of(Account.create(), address=wallet).pay("GET", "/weather/")
    assert decode(thief["PAYMENT-REQUIRED"])["error"] == "invalid_permit2_signature"
    assert (runs["weather"], chain.dollars(PAY_TO)) == (0, 0)


@pytest.mark.parametrize(
    ("account", "error"),
    [
        (lambda chain: new_payer(chain, 1), "permit2_allowance_required"),
        (lambda chain: approving_payer(0), "insufficient_funds"),
    ],
)
def test_what_cannot_be_paid_is_not_sold(chain, account, error):
    offer_permit2()
    response = buyer_of(account(chain)).pay("GET", "/weather/")
    assert response.status_code == 402
    assert decode(response["PAYMENT-REQUIRED"])["error"] == error
    assert (states(), runs["weather"], ChainTransaction.objects.count()) == (["rejected"], 0, 0)


def test_a_nonce_that_was_used_elsewhere_buys_nothing(chain):
    offer_permit2()
    account = approving_payer()
    submit(sign_permit(account, nonce=9))
    buyer = buyer_of(account)
    offer = decode(buyer.get("/weather/")["PAYMENT-REQUIRED"])["accepts"][0]
    payload = buyer.payer.payload(offer, nonce="9")
    response = buyer.get("/weather/", headers={"PAYMENT-SIGNATURE": encode(payload)})
    assert response.status_code == 402
    assert decode(response["PAYMENT-REQUIRED"])["error"] == "invalid_exact_evm_nonce_already_used"
    assert (runs["weather"], chain.dollars(PAY_TO)) == (0, 10_000)


def test_front_run_between_verification_and_settlement_is_honoured_once(chain, monkeypatch):
    """Anybody may submit a permit of the exact scheme."""
    offer_permit2()
    buyer = buyer_of(approving_payer())

    def answer(*args, **kwargs):
        submit(SignedPayment.from_row(Payment.objects.get()))
        runs["front_run"] += 1
        return JsonResponse(*args, **kwargs)

    monkeypatch.setattr(views, "JsonResponse", answer)
    response = buyer.pay("GET", "/weather/")
    assert (response.status_code, runs["front_run"]) == (200, 1)
    assert (states(), chain.dollars(PAY_TO)) == (["settled"], 10_000)
    assert Receipt.objects.count() == 1


def test_an_unknown_outcome_is_found_on_chain(chain, settings):
    offer_permit2()
    settings.X402 = {**settings.X402, "SETTLEMENT_TIMEOUT": 0.3}
    buyer = buyer_of(approving_payer())
    with answers_lost("eth_sendRawTransaction"), node_down("eth_getTransactionReceipt"):
        response = buyer.pay("GET", "/weather/")
    assert response.status_code == 503, decode(response["PAYMENT-REQUIRED"])
    assert states() == ["settling"]
    assert chain.dollars(PAY_TO) == 10_000

    with clock.shifted(timedelta(seconds=60)):
        confirm_pending_payments()
    assert states() == ["settled"]
    again = buyer.get("/weather/", headers=buyer.last_headers)
    assert (again.status_code, runs["weather"], chain.dollars(PAY_TO)) == (200, 1, 10_000)


def test_a_reorganisation_reverses_it_and_it_is_settled_again(chain):
    offer_permit2()
    buyer = buyer_of(approving_payer())
    before = chain.snapshot()
    assert buyer.pay("GET", "/weather/").status_code == 200
    chain.revert(before)
    use_up_a_nonce()
    chain.mine(2)
    confirm_pending_payments()
    assert states() == ["reversed"]
    confirm_pending_payments()
    assert states() == ["settled"]
    assert chain.dollars(PAY_TO) == 10_000


def test_the_page_for_people_does_not_sign_for_a_token_that_would_refuse_it(chain):
    """Its script knows the tokens' own authorizations alone, and is there only for them."""
    browser = {"Accept": "text/html,*/*;q=0.8", "User-Agent": "Mozilla/5.0"}
    method = offer_permit2()
    page = Client().get("/weather/", headers=browser)
    assert (page.status_code, page["Content-Type"]) == (402, "text/html; charset=utf-8")
    assert b"x402-data" not in page.content
    method.transfer_method = "eip3009"
    method.save()
    assert b"x402-data" in Client().get("/weather/", headers=browser).content
