"""The ledger as a site's API may show it."""

from __future__ import annotations

import json

import pytest
from rest_framework.renderers import JSONRenderer

from x402_django.models import Payment, Receipt
from x402_django.rest_framework.serializers import PaymentSerializer, ReceiptSerializer

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.rest_framework.urls")]


@pytest.fixture
def payment(buyer) -> Payment:
    assert buyer.pay("GET", "/expression/paid/?secret=query").status_code == 200
    return Payment.objects.get()


def rendered(serializer) -> dict:
    return json.loads(JSONRenderer().render(serializer.data))


def test_receipt(payment, settings):
    settings.REST_FRAMEWORK = {"COERCE_DECIMAL_TO_STRING": False}
    receipt = Receipt.objects.get()

    assert rendered(ReceiptSerializer(receipt)) == {
        "reference": receipt.reference,
        "payment": payment.public_id,
        "issued_at": receipt.issued_at.isoformat().replace("+00:00", "Z"),
        "network": "eip155:84532",
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "asset_symbol": "USDC",
        "asset_decimals": 6,
        "amount": "20000",
        "price_usd": "0.02000000",
        "payer": payment.payer,
        "pay_to": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "transaction": payment.transaction,
        "resource_url": "https://shop.example/expression/paid/",
        "description": "",
    }


def test_payment(payment):
    data = rendered(PaymentSerializer(payment))

    assert data["paid"] is True
    assert (data["state"], data["amount"], data["flow"]) == ("settled", "20000", "authorization")
    assert data["public_id"] == payment.public_id
    text = json.dumps(data)
    assert payment.payload["signature"] not in text
    assert payment.nonce not in text
    assert "secret" not in text
    assert not {"payload", "requirements", "facilitator", "rule", "response_body"} & set(data)


def test_amounts_are_exact_at_any_size(payment):
    payment.amount = 2**256 - 1

    assert PaymentSerializer(payment).data["amount"] == str(2**256 - 1)


@pytest.mark.parametrize("model", [Payment, Receipt])
def test_nothing_is_written(payment, model):
    serializer_class = {Payment: PaymentSerializer, Receipt: ReceiptSerializer}[model]
    row = model.objects.get()
    serializer = serializer_class(row, data={"amount": "1", "state": "refunded"})
    serializer.is_valid(raise_exception=True)
    assert serializer.validated_data == {}
    with pytest.raises(TypeError, match="ledger"):
        serializer.save()
    new = serializer_class(data={"amount": "1"})
    new.is_valid(raise_exception=True)
    with pytest.raises(TypeError, match="ledger"):
        new.save()
    assert model.objects.count() == 1


def test_a_page_of_receipts_costs_one_query(payment, django_assert_num_queries):
    with django_assert_num_queries(1):
        ReceiptSerializer(Receipt.objects.select_related("payment"), many=True).data  # noqa: B018
