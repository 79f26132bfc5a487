"""What a merchant's own programs see of it: more than a payer does, and never a signature."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from x402_django.models import Flow, Payment, PaymentEvent, PriceRule, Receipt, Refund
from x402_django.rest_framework.serializers import PaymentSerializer, ReadOnly, ReceiptSerializer


class RuleSerializer(serializers.ModelSerializer[PriceRule]):
    """A price rule. Prices are strings; ``payment_methods`` are names, none for all that are on."""

    token_amount = serializers.CharField(read_only=True, allow_null=True)
    flow = serializers.ChoiceField(choices=Flow.choices, allow_blank=True, read_only=True)
    payment_methods = serializers.SlugRelatedField[Any](
        many=True, read_only=True, slug_field="name"
    )

    class Meta:
        model = PriceRule
        fields = (
            "id",
            "merchant",
            "name",
            "key",
            "url_names",
            "methods",
            "price_usd",
            "token_amount",
            "unit_price_usd",
            "description",
            "mime_type",
            "payment_methods",
            "flow",
            "session_access",
            "identifier_required",
            "priority",
            "active",
            "valid_from",
            "valid_until",
            "created_at",
            "updated_at",
        )
        read_only_fields = fields
        extra_kwargs = {
            name: {"coerce_to_string": True} for name in ("price_usd", "unit_price_usd")
        }


class EventSerializer(serializers.ModelSerializer[PaymentEvent]):
    """A transition of a payment."""

    class Meta:
        model = PaymentEvent
        fields = ("at", "from_state", "to_state", "code", "reason", "actor")
        read_only_fields = fields


class MerchantPaymentSerializer(PaymentSerializer):
    """A payment in a list. ``rule`` is the price rule's number, ``rule_name`` as it was then."""

    class Meta:
        model = Payment
        fields = (
            *PaymentSerializer.Meta.fields,
            "merchant",
            "rule",
            "rule_name",
            "facilitator",
            "payment_identifier",
        )
        read_only_fields = fields


class MerchantPaymentDetailSerializer(MerchantPaymentSerializer):
    """A payment with its history, the earliest first."""

    events = EventSerializer(many=True, read_only=True)

    class Meta:
        model = Payment
        fields = (*MerchantPaymentSerializer.Meta.fields, "events")
        read_only_fields = fields


class MerchantReceiptSerializer(ReceiptSerializer):
    """A receipt, with its merchant."""

    class Meta:
        model = Receipt
        fields = (*ReceiptSerializer.Meta.fields, "merchant")
        read_only_fields = fields


class MerchantRefundSerializer(ReadOnly):
    """A refund: money that goes back, or went."""

    payment = serializers.CharField(source="payment.public_id", read_only=True)

    class Meta:
        model = Refund
        fields = (
            "public_id",
            "payment",
            "state",
            "created_at",
            "state_changed_at",
            "network",
            "asset",
            "asset_symbol",
            "asset_decimals",
            "amount",
            "price_usd",
            "payer",
            "sender",
            "transaction",
            "is_by_hand",
            "reason",
            "hindrance",
            "requested_name",
            "approved_name",
            "merchant",
        )
        read_only_fields = fields
