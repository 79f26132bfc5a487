"""The official client buys on Solana, through HTTP; its facilitator is the SDK's own code."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.test import Client
from solders.keypair import Keypair

from tests.shop.runs import runs
from tests.solana.buyer import Buyer
from tests.solana.cluster import MINT, NETWORK
from x402_django import clock
from x402_django.models import Payment, PaymentEvent, PaymentMethod, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.pricing.cache import forget_rules
from x402_django.testing.payer import settlement_of

pytestmark = pytest.mark.django_db(transaction=True)

PRICE = 10_000


def test_the_challenge_names_the_fee_payer(buyer, payee, facilitator):
    [offer] = buyer.challenge()["accepts"]
    assert offer == {
        "scheme": "exact",
        "network": NETWORK,
        "amount": "10000",
        "asset": MINT,
        "payTo": payee,
        "maxTimeoutSeconds": 300,
        # One of several, and the same for every process of the site.
        "extra": {"feePayer": min(facilitator.fee_payers.get_addresses())},
    }


def test_a_facilitator_that_names_one_fee_payer_is_taken_at_its_word(buyer, facilitator):
    facilitator.names_signers = False
    [offer] = buyer.challenge()["accepts"]
    assert offer["extra"]["feePayer"] in facilitator.fee_payers.get_addresses()


def test_buying(buyer, payee, cluster, facilitator):
    response = buyer.buy()
    assert response.status_code == 200
    assert response.json() == {"weather": "sunny", "payer": buyer.address, "run": 1}
    assert (buyer.balance, cluster.balance(payee)) == (990_000, PRICE)
    [transaction] = cluster.landed
    payment = Payment.objects.get()
    assert (payment.state, payment.network, payment.payer) == ("settled", NETWORK, buyer.address)
    assert (payment.asset, payment.pay_to, payment.amount) == (MINT, payee, PRICE)
    assert (payment.transaction, payment.log_index) == (transaction, 0)
    assert payment.delivered_at is not None
    receipt = Receipt.objects.get()
    assert (receipt.payer, receipt.pay_to, receipt.asset) == (buyer.address, payee, MINT)
    assert (receipt.transaction, receipt.amount) == (transaction, PRICE)
    settlement = settlement_of(response)
    assert (settlement["success"], settlement["transaction"]) == (True, transaction)
    assert (settlement["network"], settlement["payer"]) == (NETWORK, buyer.address)
    last = PaymentEvent.objects.last()
    assert last.reason == (
        "The facilitator says that the transfer is on chain; this site cannot look."
    )


def test_what_cannot_be_confirmed_is_never_called_final(buyer):
    buyer.buy()
    with clock.shifted(timedelta(days=3)):
        confirm_pending_payments()
    assert Payment.objects.get().state == "settled"


def test_the_same_payment_again_is_answered_and_not_charged_again(buyer, cluster):
    first = buyer.buy()
    again = buyer.send(buyer.last)
    assert (again.status_code, again.content) == (200, first.content)
    assert runs["weather"] == 1
    assert len(cluster.landed) == 1
    elsewhere = buyer.send(buyer.last, "/weather/?city=2")
    assert (elsewhere.status_code, elsewhere.json()["error"]) == (402, "payment_already_used")


def test_the_fee_payers_slot_does_not_make_it_another_payment(buyer, cluster):
    """That signature is whoever's: the key of the ledger is the message, not the bytes."""
    buyer.buy()
    document = json.loads(base64.b64decode(buyer.last["PAYMENT-SIGNATURE"]))
    raw = bytearray(base64.b64decode(document["payload"]["transaction"]))
    raw[1:65] = bytes(range(64))
    document["payload"]["transaction"] = base64.b64encode(bytes(raw)).decode()
    header = base64.b64encode(json.dumps(document).encode()).decode()
    assert buyer.send({"PAYMENT-SIGNATURE": header}).status_code == 200  # the stored answer
    assert (runs["weather"], len(cluster.landed), Payment.objects.count()) == (1, 1, 1)


def test_a_client_of_version_1(buyer, cluster, payee):
    response = buyer.client.get("/weather/")
    [offer] = response.json()["accepts"]
    assert (offer["network"], offer["maxAmountRequired"]) == ("solana-devnet", "10000")
    document = {
        "x402Version": 1,
        "scheme": "exact",
        "network": "solana-devnet",
        "payload": {
            "transaction": base64.b64encode(
                buyer.transaction({**offer, "amount": offer["maxAmountRequired"]})
            ).decode()
        },
    }
    header = {"X-PAYMENT": base64.b64encode(json.dumps(document).encode()).decode()}
    paid = buyer.send(header)
    assert paid.status_code == 200
    assert cluster.balance(payee) == PRICE
    assert json.loads(base64.b64decode(paid["X-PAYMENT-RESPONSE"]))["network"] == "solana-devnet"


def test_without_money_nothing_is_sent(cluster, payee):
    poor = Buyer(cluster, 9_999)
    response = poor.buy()
    assert (response.status_code, response.json()["error"]) == (
        402,
        "transaction_simulation_failed",
    )
    assert (Payment.objects.get().state, cluster.landed) == ("rejected", [])
    assert not runs


def test_a_lost_answer_is_asked_for_again_and_honoured_once(buyer, cluster, facilitator, payee):
    facilitator.answers = [None]
    response = buyer.buy()
    assert response.status_code == 503
    assert Payment.objects.get().state == "settling"
    assert len(cluster.landed) == 1  # it was settled, but nobody knows
    landed = {
        "success": True, "transaction": cluster.landed[0], "network": NETWORK,
        "payer": buyer.address,
    }  # fmt: skip
    facilitator.answers = [landed]
    again = buyer.send(buyer.last)
    assert again.status_code == 200
    payment = Payment.objects.get()
    assert (payment.state, payment.transaction) == ("settled", cluster.landed[0])
    assert (cluster.balance(payee), Receipt.objects.count()) == (PRICE, 1)


def test_no_is_not_believed_after_an_answer_was_lost(buyer, cluster, facilitator):
    """The facilitator cannot find its way back: simulating it again fails *because* it landed."""
    facilitator.answers = [None]
    buyer.buy()
    for _ in range(2):
        assert buyer.send(buyer.last).status_code == 503  # never "pay again"
    assert Payment.objects.get().state == "settling"
    assert len(cluster.landed) == 1


@pytest.mark.parametrize(
    "code",
    ["invalid_exact_svm_payload_transaction_simulation_failed", "insufficient_funds"],
)
def test_nor_one_that_would_be_definite_at_first(buyer, cluster, facilitator, payee, code):
    """The money has moved, so whoever looks again finds that it cannot move."""
    facilitator.answers = [None]
    assert buyer.buy().status_code == 503
    no = {"success": False, "errorReason": code, "transaction": "", "network": NETWORK}
    facilitator.answers = [{**no, "payer": buyer.address}]
    assert buyer.send(buyer.last).status_code == 503
    assert Payment.objects.get().state == "settling"
    assert (len(cluster.landed), cluster.balance(payee)) == (1, 10_000)


def test_one_transaction_pays_once_whatever_a_facilitator_says(buyer, cluster, facilitator):
    buyer.buy()
    lie = {"success": True, "transaction": cluster.landed[0], "network": NETWORK}
    facilitator.answers, facilitator.is_idle = [lie], True
    other = Buyer(cluster)
    response = other.buy()
    assert response.status_code == 503
    assert b"sunny" not in response.content
    assert Receipt.objects.count() == 1
    assert other.balance == 1_000_000


@pytest.mark.parametrize("named", ["", "0x" + "ab" * 32, "not base58 0OIl", "1" * 64 + "2" * 64])
def test_success_without_a_transaction_is_no_success(buyer, facilitator, named):
    facilitator.is_idle = True
    facilitator.answers = [{"success": True, "transaction": named, "network": NETWORK}]
    assert buyer.buy().status_code == 503
    assert not Receipt.objects.exists()


def test_a_person_decides_what_nobody_tells(buyer, cluster, facilitator, payee):
    facilitator.answers = [None]
    buyer.buy()
    payment = Payment.objects.get()
    transaction = cluster.landed[0]
    with pytest.raises(CommandError, match="may still be sent"):
        call_command("x402_decide", payment.public_id, unpaid=True)
    assert Payment.objects.get().state == "settling"
    with clock.shifted(timedelta(hours=2)):
        cluster.expire()
        asked = len(facilitator.asked)
        confirm_pending_payments()
        assert len(facilitator.asked) == asked  # it has had its time
        with pytest.raises(CommandError, match="not a transaction of Solana"):
            call_command("x402_decide", payment.public_id, paid="0x12")
        call_command("x402_decide", payment.public_id, paid=transaction)
        with pytest.raises(CommandError, match="its outcome is known"):
            call_command("x402_decide", payment.public_id, unpaid=True)
        payment.refresh_from_db()
        assert (payment.state, payment.transaction) == ("settled", transaction)
        assert PaymentEvent.objects.last().actor.startswith("operator: ")
        assert buyer.send(buyer.last).status_code == 200


def test_a_payment_that_never_came_fails_by_a_persons_word(buyer, facilitator):
    facilitator.answers, facilitator.is_idle = [None], True
    buyer.buy()
    payment = Payment.objects.get()
    with clock.shifted(timedelta(hours=2)):
        call_command("x402_decide", payment.public_id, unpaid=True)
    assert Payment.objects.get().state == "failed"
    assert not Receipt.objects.exists()


def test_reconciliation_says_that_it_does_not_read_solana(buyer, capsys):
    buyer.buy()
    call_command("x402_reconcile")
    said = f"{NETWORK} is not read by this site: its 1 receipts rest on the facilitator's word"
    assert said in capsys.readouterr().err
    with pytest.raises(CommandError, match="not read by this site"):
        call_command("x402_reconcile", network=NETWORK)


def test_people_are_told_that_a_program_must_pay(buyer):
    headers = {"Accept": "text/html", "User-Agent": "Mozilla/5.0"}
    page = Client().get("/weather/", headers=headers).content.decode()
    assert "on Solana Devnet" in page
    assert "a browser’s wallet cannot make this kind of payment" in page
    assert "?cluster=devnet" in page


def test_the_desk_finds_and_shows_it(buyer, admin_client, cluster):
    buyer.buy()
    payment = Payment.objects.get()
    for term in (buyer.address, cluster.landed[0], payment.nonce):
        page = admin_client.get("/admin/x402_django/payment/", {"q": term}).content.decode()
        assert payment.public_id[:8] in page
    page = admin_client.get(f"/admin/x402_django/payment/{payment.pk}/change/").content.decode()
    explorer = "https://explorer.solana.com"
    assert f"{explorer}/tx/{cluster.landed[0]}?cluster=devnet" in page
    assert f"{explorer}/address/{buyer.address}?cluster=devnet" in page
    document = json.loads(base64.b64decode(buyer.last["PAYMENT-SIGNATURE"]))
    assert document["payload"]["transaction"] not in page  # as signatures are, it is cut


def form(**changes):
    return {
        "name": "Solana", "active": "on", "priority": "0",
        "known_token": f"{NETWORK}/{MINT}", "scheme": "exact", "transfer_method": "eip3009",
        "facilitator": "default", "asset_decimals": "6", **changes,
    }  # fmt: skip


def test_a_merchant_makes_a_payment_method(admin_client, buyer, cluster):
    wallet = str(Keypair().pubkey())
    url = "/admin/x402_django/paymentmethod/add/"
    wrong = admin_client.post(url, form(pay_to="0x70997970C51812dc3A010C7d01b50e0d17dc79C8"))
    assert "This is not an address on that network." in wrong.content.decode()
    assert admin_client.post(url, form(pay_to=wallet)).status_code == 302
    method = PaymentMethod.objects.get()
    assert (method.network, method.asset, method.pay_to) == (NETWORK, MINT, wallet)
    assert (method.transfer_method, method.asset_symbol) == ("solana", "USDC")
    forget_rules()
    assert buyer.buy().status_code == 200
    assert cluster.balance(wallet) == PRICE
    assert Payment.objects.get().method == method


def ids(settings, **changes):
    network = {**settings.X402["NETWORKS"][NETWORK], **changes}
    settings.X402 = {**settings.X402, "NETWORKS": {NETWORK: network}}
    return {
        message.id.removeprefix("x402_django.")
        for message in run_checks(tags=["x402"])
        if message.id.startswith("x402_django.") and message.id not in _EXPECTED
    }


#: The facilitator is at an http address, trusted by choice, and these tests have no broker.
_EXPECTED = {"x402_django.W002", "x402_django.W005"}


def test_taking_a_facilitators_word_is_a_choice_that_checks_name(settings, payee, monkeypatch):
    assert ids(settings) == {"W004"}  # TRUST is on
    facilitators = settings.X402["FACILITATORS"]
    options = {**facilitators["default"]["OPTIONS"], "TRUST": False}
    settings.X402 = {
        **settings.X402,
        "FACILITATORS": {"default": {**facilitators["default"], "OPTIONS": options}},
    }
    assert ids(settings) == {"E005"}
    settings.X402 = {**settings.X402, "FACILITATORS": facilitators}
    assert ids(settings, RPC_URLS=["https://api.devnet.solana.com"]) == {"W004", "E018"}
    assert ids(settings, RPC_URLS=(), PAY_TO="0x" + "1" * 40) == {"W004", "E003"}
    monkeypatch.setattr("x402_django.checks.networks.is_solana_available", lambda: False)
    assert ids(settings, PAY_TO=payee) == {"W004", "E017"}


def test_without_the_extra_solana_is_not_offered(settings, buyer, monkeypatch):
    headers = buyer.sign()
    monkeypatch.setattr("x402_django.protocol.base58.is_solana_available", lambda: False)
    monkeypatch.setattr("x402_django.protocol.solana.is_solana_available", lambda: False)
    from x402_django.protocol import assets, solana

    assets._sdk_assets.cache_clear()
    solana.read_transaction.cache_clear()
    forget_rules()
    try:
        assert buyer.client.get("/weather/").status_code == 503
        assert buyer.send(headers).status_code in (402, 503)
    finally:
        assets._sdk_assets.cache_clear()
    assert not Payment.objects.exists()
