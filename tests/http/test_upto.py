"""The scheme ``upto``: the view says what was used; HTTP, signatures, our wallet, an EVM."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.http import JsonResponse

from tests.chain.permits import approving_payer, offer_permit2
from tests.chain.support import (
    SETTLER,
    answers_lost,
    node_down,
    use_up_a_nonce,
)
from tests.settings import PAY_TO
from tests.shop import views
from tests.shop.runs import runs
from x402_django import clock
from x402_django.chain.devchain.accounts import dev_accounts
from x402_django.models import ChainTransaction, Payment, PaymentMethod, PriceRule, Receipt
from x402_django.payments.confirmation import confirm_pending_payments
from x402_django.protocol.types import SignedPayment
from x402_django.testing.payer import Payer, PayingClient, decode, encode, settlement_of

pytestmark = pytest.mark.django_db(transaction=True)

MOST = 100_000  # ten cents


@pytest.fixture
def buyer(chain):
    offer_permit2(scheme="upto")
    return PayingClient(
        payer=Payer(approving_payer()), raise_request_exception=False, automatic=False
    )


def spent(chain, buyer) -> int:
    return 1_000_000 - chain.dollars(buyer.payer.address)


@pytest.mark.parametrize(
    ("query", "due"),
    [
        ("charge=0.0042", 4_200),
        ("charge=$0.05", 50_000),
        ("charge=0.0000001", 1),  # rounded up to what the token can express
        ("atomic=7", 7),
        ("units=42", 4_200),
        ("units=1000", MOST),
        ("charge=0.1", MOST),
        ("charge=0.05&units=3", 300),  # the last call counts
        ("", MOST),  # a view that does not say charges the maximum
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_the_view_charges_is_what_moves(chain, buyer, query, due, method):
    response = buyer.pay(method, f"/metered/?{query}")

    assert response.status_code == 200, decode(response["PAYMENT-REQUIRED"])
    assert response.json() == {"due": due, "most": 1000}
    assert (spent(chain, buyer), chain.dollars(PAY_TO)) == (due, due)
    payment, receipt = Payment.objects.get(), Receipt.objects.get()
    assert (payment.state, payment.flow, payment.amount) == ("settled", "authorization", due)
    assert (payment.maximum, payment.requirements["amount"]) == (MOST, str(MOST))
    assert payment.price_usd == receipt.price_usd == Decimal(due) / 10**6
    assert (receipt.amount, receipt.transaction) == (due, payment.transaction)
    told = settlement_of(response)
    assert (told["success"], told["amount"]) == (True, str(due))
    assert told["transaction"] == payment.transaction
    again = getattr(buyer, method.lower())(f"/metered/?{query}", headers=buyer.last_headers)
    assert again.content == response.content
    assert (runs["metered"], spent(chain, buyer)) == (1, due)


def test_the_offer_names_the_settling_wallet(chain, buyer):
    (offer,) = decode(buyer.get("/metered/")["PAYMENT-REQUIRED"])["accepts"]
    assert offer["scheme"] == "upto"
    assert offer["amount"] == str(MOST)
    assert offer["extra"] == {
        "name": "Test Dollar",
        "version": "1",
        "assetTransferMethod": "permit2",
        "facilitatorAddress": SETTLER.address,
    }


@pytest.mark.parametrize("query", ["charge=0", "atomic=0", "units=0"])
def test_nothing_charged_settles_nothing_and_is_recorded(chain, buyer, query):
    response = buyer.pay("GET", f"/metered/?{query}")

    assert (response.status_code, response.json()["due"]) == (200, 0)
    payment = Payment.objects.get()
    assert (payment.state, payment.amount, payment.maximum) == ("waived", 0, MOST)
    assert (payment.price_usd, payment.transaction) == (0, "")
    assert payment.delivered_at is not None
    event = payment.events.last()
    assert (event.to_state, event.code) == ("waived", "nothing_charged")
    assert event.reason == f"Charged 0 of {MOST}."
    told = settlement_of(response)
    assert (told["success"], told["amount"], told["transaction"]) == (True, "0", "")
    assert (spent(chain, buyer), ChainTransaction.objects.count()) == (0, 0)
    assert not Receipt.objects.exists()

    again = buyer.get(f"/metered/?{query}", headers=buyer.last_headers)
    other = buyer.get("/metered/", headers=buyer.last_headers)
    assert (again.content, again["PAYMENT-RESPONSE"]) == (
        response.content,
        response["PAYMENT-RESPONSE"],
    )
    assert decode(other["PAYMENT-REQUIRED"])["error"] == "payment_already_used"
    assert (runs["metered"], spent(chain, buyer)) == (1, 0)


@pytest.mark.parametrize(
    "query", ["charge=0.100001", "atomic=100001", "units=1001", "atomic=-1", "charge=x", "units=-1"]
)
def test_a_view_that_charges_what_cannot_be_charged_fails_and_costs_nothing(chain, buyer, query):
    response = buyer.pay("GET", f"/metered/?{query}")
    assert response.status_code == 500
    assert (Payment.objects.get().state, spent(chain, buyer)) == ("released", 0)
    assert not Receipt.objects.exists()


@pytest.mark.parametrize("amount", [0.5, True, None, Decimal("NaN"), "Infinity", b"1"])
def test_what_is_no_amount_is_refused(amount):
    payment = Payment(
        scheme="upto", amount=MOST, asset_decimals=6, requirements={"amount": str(MOST)}
    )
    with pytest.raises(ValueError, match="no amount"):
        payment.charge(amount)
    with pytest.raises(ValueError, match="no unit price"):
        payment.charge_units(1)
    assert payment.due == MOST


def test_exact_payments_are_of_the_price_whatever_is_charged(chain, buyer):
    PaymentMethod.objects.all().delete()
    offer_permit2()
    response = buyer.pay("GET", "/metered/?charge=0.01")
    assert (response.status_code, response.json()["due"]) == (200, MOST)
    assert (spent(chain, buyer), Receipt.objects.get().amount) == (MOST, MOST)


def test_the_unit_price_of_a_rule_wins_over_the_views(chain, buyer):
    PriceRule.objects.create(
        name="Metered",
        url_names=["shop:metered"],
        price_usd=Decimal("0.02"),
        unit_price_usd=Decimal("0.0000015"),
    )
    response = buyer.pay("GET", "/metered/?units=3")
    assert response.json() == {"due": 5, "most": 13_333}  # 4.5 units of the token, rounded up
    assert spent(chain, buyer) == 5
    assert Payment.objects.get().maximum == 20_000


def test_a_failing_view_costs_nothing(chain, buyer):
    rule = PriceRule.objects.create(
        name="Broken", url_names=["shop:broken"], price_usd=Decimal("0.02")
    )
    rule.payment_methods.set(PaymentMethod.objects.all())
    assert buyer.pay("GET", "/broken/").status_code == 500
    payment = Payment.objects.get()
    assert (payment.scheme, payment.state, spent(chain, buyer)) == ("upto", "released", 0)


def test_only_metered_views_offer_it_and_they_offer_it_first(chain, buyer):
    assert buyer.get("/weather/").status_code == 503  # nothing else is set up
    offer_permit2(name="exact", priority=5)
    schemes = {
        path: [one["scheme"] for one in decode(buyer.get(path)["PAYMENT-REQUIRED"])["accepts"]]
        for path in ("/weather/", "/metered/")
    }
    assert schemes == {"/weather/": ["exact"], "/metered/": ["upto", "exact"]}


def test_it_becomes_final_by_the_scan(chain, buyer):
    buyer.pay("GET", "/metered/?charge=0.01")
    chain.mine(3)
    confirm_pending_payments()
    assert Payment.objects.get().state == "final"


def test_a_reorganisation_settles_the_charge_again_and_not_the_maximum(chain, buyer):
    before = chain.snapshot()
    assert buyer.pay("GET", "/metered/?charge=0.01").status_code == 200
    chain.revert(before)
    use_up_a_nonce()
    chain.mine(2)
    confirm_pending_payments()
    assert Payment.objects.get().state == "reversed"
    confirm_pending_payments()
    assert (Payment.objects.get().state, spent(chain, buyer)) == ("settled", 10_000)
    assert Receipt.objects.get().amount == 10_000


def test_an_unknown_outcome_of_a_charge_is_found_on_chain(chain, buyer, settings):
    settings.X402 = {**settings.X402, "SETTLEMENT_TIMEOUT": 0.3}
    with answers_lost("eth_sendRawTransaction"), node_down("eth_getTransactionReceipt"):
        assert buyer.pay("GET", "/metered/?charge=0.01").status_code == 503
    payment = Payment.objects.get()
    assert (payment.state, payment.amount) == ("settling", 10_000)
    assert SignedPayment.from_row(payment).amount == 10_000
    with clock.shifted(timedelta(seconds=60)):
        confirm_pending_payments()
    again = buyer.get("/metered/?charge=0.01", headers=buyer.last_headers)
    assert (again.status_code, spent(chain, buyer), runs["metered"]) == (200, 10_000, 1)


def test_on_settled_callbacks_run_also_where_nothing_was_charged(chain, buyer, monkeypatch):
    def answer(*args, **kwargs):
        Payment.on_settled(current[0], lambda: runs.update(shipped=1))
        return JsonResponse(*args, **kwargs)

    current: list[Payment] = []
    charge = Payment.charge
    monkeypatch.setattr(
        Payment, "charge", lambda self, amount: (current.append(self), charge(self, amount))[1]
    )
    monkeypatch.setattr(views, "JsonResponse", answer)
    assert buyer.pay("GET", "/metered/?charge=0").status_code == 200
    assert runs["shipped"] == 1


def test_with_several_facilitators_the_one_that_was_signed_for_settles(chain, buyer, settings):
    other = dev_accounts()[3]
    local = "x402_django.facilitators.LocalFacilitator"
    settings.X402 = {
        **settings.X402,
        "FACILITATORS": {
            "default": {
                "BACKEND": "x402_django.facilitators.FailoverFacilitator",
                "OPTIONS": {"FACILITATORS": ["first", "second"]},
            },
            "first": {"BACKEND": local, "OPTIONS": {"KEY": SETTLER.private_key}},
            "second": {"BACKEND": local, "OPTIONS": {"KEY": other.private_key}},
        },
    }
    offers = decode(buyer.get("/metered/?charge=0.01")["PAYMENT-REQUIRED"])["accepts"]
    settlers = [offer["extra"]["facilitatorAddress"] for offer in offers]
    assert settlers == [SETTLER.address, other.address]

    for offer in reversed(offers):
        header = {"PAYMENT-SIGNATURE": encode(buyer.payer.payload(offer))}
        assert buyer.get("/metered/?charge=0.01", headers=header).status_code == 200

    assert [row.wallet for row in ChainTransaction.objects.order_by("pk")] == settlers[::-1]
    aliases = Payment.objects.order_by("pk").values_list("facilitator", flat=True)
    assert (list(aliases), spent(chain, buyer)) == (["second", "first"], 20_000)
