"""The views of the API; see the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.cache import patch_cache_control
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import DjangoModelPermissions
from rest_framework.renderers import JSONRenderer
from rest_framework.viewsets import ReadOnlyModelViewSet

from x402_django.models import Payment, PriceRule, Receipt, Refund
from x402_django.models.merchant import merchants_seen_by
from x402_django.rest_framework.api import filters, serializers
from x402_django.rest_framework.api.filters import Filter, StrictFilters

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request
    from rest_framework.response import Response


class MayView(DjangoModelPermissions):
    """Django's permission to view; theirs lets every authenticated user read."""

    perms_map = {
        # The others are refused afterwards, as methods that there are not.
        method: ["%(app_label)s.view_%(model_name)s"]
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
    }

    def _queryset(self, view: Any) -> QuerySet[Any]:
        """For its model alone: whose rows they are need not be asked for that."""
        rows: QuerySet[Any] = view.queryset
        return rows


class NewestFirst(CursorPagination):
    """By cursor: a page costs the same wherever it is, and none is skipped or shown twice."""

    page_size = 50
    max_page_size = 200
    page_size_query_param = "limit"
    parameters = ("cursor", "limit")
    ordering = ("-id",)

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str, ...]:
        """By the time that is filtered by, if one is: its index then finds the page."""
        for name, one in view.filters.items():
            if name in request.query_params and one.read is filters.moment:
                return (f"-{one.lookup.partition('__')[0]}", "-id")
        return self.ordering


class MerchantRows(ReadOnlyModelViewSet[Any]):
    """Rows of the merchants whom the user sees, newest first; nothing can be written."""

    permission_classes = (MayView,)
    renderer_classes = (JSONRenderer,)
    filter_backends = (StrictFilters,)
    pagination_class = NewestFirst
    filters: dict[str, Filter] = {}

    def get_queryset(self) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset()
        seen = merchants_seen_by(self.request.user)
        return rows if seen is None else rows.filter(merchant__in=seen)

    def finalize_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(*args, **kwargs)
        patch_cache_control(response, private=True, no_store=True)
        return response


class PriceRuleViewSet(MerchantRows):
    """What is charged, and for what."""

    queryset = PriceRule.objects.prefetch_related("payment_methods")
    serializer_class = serializers.RuleSerializer
    filters = {
        "active": Filter(
            "active",
            lambda text: filters.choice("true", "false")(text) == "true",
            "Whether the rule is in force.",
            {"type": "boolean"},
        ),
        "key": Filter("key", str, "The rule's key.", {"type": "string"}),
        "merchant": filters.MERCHANT,
    }


class PaymentViewSet(MerchantRows):
    """The ledger's payments: what this site sold."""

    queryset = Payment.objects.sales().defer(
        "requirements", "payload", "extensions", "response_headers", "response_body"
    )
    serializer_class = serializers.MerchantPaymentSerializer
    lookup_field = "public_id"
    lookup_value_regex = "[0-9a-f]{40}"
    filters = {
        "state": Filter(
            "state",
            filters.choice(*Payment.State.values),
            "Where in its life the payment is.",
            {"type": "string", "enum": list(Payment.State.values)},
        ),
        "network": filters.NETWORK,
        "payer": filters.PAYER,
        "rule": Filter("rule", filters.number, "Number of the price rule.", {"type": "integer"}),
        "transaction": filters.TRANSACTION,
        "merchant": filters.MERCHANT,
        "created_since": filters.since("created_at"),
        "created_before": filters.before("created_at"),
    }

    def get_queryset(self) -> QuerySet[Any]:
        rows = super().get_queryset()
        return rows.prefetch_related("events") if self.action == "retrieve" else rows

    def get_serializer_class(self) -> Any:
        if self.action == "retrieve":
            return serializers.MerchantPaymentDetailSerializer
        return super().get_serializer_class()


class ReceiptViewSet(MerchantRows):
    """The receipts: money that came."""

    queryset = Receipt.objects.select_related("payment").only(
        "payment__public_id", *(f.attname for f in Receipt._meta.concrete_fields)
    )
    serializer_class = serializers.MerchantReceiptSerializer
    lookup_field = "reference"
    lookup_value_regex = "[0-9a-f]{40}"
    filters = {
        "network": filters.NETWORK,
        "payer": filters.PAYER,
        "transaction": filters.TRANSACTION,
        "merchant": filters.MERCHANT,
        "issued_since": filters.since("issued_at"),
        "issued_before": filters.before("issued_at"),
    }


class RefundViewSet(MerchantRows):
    """The refunds: money that goes back."""

    queryset = Refund.objects.select_related("payment").only(
        "payment__public_id", *(f.attname for f in Refund._meta.concrete_fields)
    )
    serializer_class = serializers.MerchantRefundSerializer
    lookup_field = "public_id"
    lookup_value_regex = "[0-9a-f]{40}"
    filters = {
        "state": Filter(
            "state",
            filters.choice(*Refund.State.values),
            "How far the refund is.",
            {"type": "string", "enum": list(Refund.State.values)},
        ),
        "network": filters.NETWORK,
        "payer": filters.PAYER,
        "merchant": filters.MERCHANT,
        "created_since": filters.since("created_at"),
        "created_before": filters.before("created_at"),
    }
