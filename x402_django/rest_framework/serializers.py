"""Receipts and payments for a site's own API. Read only: the ledger is written by payments alone.

Which rows a user may see is for the site to say::

    class MyReceipts(ListAPIView):
        serializer_class = ReceiptSerializer

        def get_queryset(self):
            return Receipt.objects.filter(payer=self.request.user.wallet).select_related("payment")

Amounts are strings of atomic units, because a uint256 does not fit into a JSON number. Signatures,
payloads, queries and what is the merchant's alone (facilitator, rule) are left out.
"""

from __future__ import annotations

from typing import Any, NoReturn

from rest_framework import serializers

from x402_django.models import Payment, Receipt


class ReadOnly(serializers.ModelSerializer[Any]):
    """A row of money: its amount is a string, and nothing can be written."""

    amount = serializers.CharField(read_only=True)
    price_usd = serializers.DecimalField(
        max_digits=18, decimal_places=8, read_only=True, coerce_to_string=True
    )

    def create(self, validated_data: Any) -> NoReturn:
        raise TypeError("The ledger is not written through serializers.")

    def update(self, instance: Any, validated_data: Any) -> NoReturn:
        raise TypeError("The ledger is not written through serializers.")


class ReceiptSerializer(ReadOnly):
    """A receipt. ``payment`` is the payment's public id: select_related("payment")."""

    payment = serializers.CharField(source="payment.public_id", read_only=True)

    class Meta:
        model = Receipt
        fields = (
            "reference",
            "payment",
            "issued_at",
            "network",
            "asset",
            "asset_symbol",
            "asset_decimals",
            "amount",
            "price_usd",
            "payer",
            "pay_to",
            "transaction",
            "resource_url",
            "description",
        )
        read_only_fields = fields


class PaymentSerializer(ReadOnly):
    """A payment as its payer may see it. ``paid``: the money has arrived, as far as is known."""

    paid = serializers.BooleanField(source="is_paid", read_only=True)

    class Meta:
        model = Payment
        fields = (
            "public_id",
            "state",
            "paid",
            "x402_version",
            "scheme",
            "network",
            "asset",
            "asset_symbol",
            "asset_decimals",
            "amount",
            "price_usd",
            "payer",
            "pay_to",
            "flow",
            "request_method",
            "resource_url",
            "description",
            "transaction",
            "block_number",
            "failure_code",
            "created_at",
            "settled_at",
            "delivered_at",
        )
        read_only_fields = fields
