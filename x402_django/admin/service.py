"""The facilitator service: API keys, what was settled for their holders, what is listed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import Count, Sum
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from x402_django import clock
from x402_django.admin import display
from x402_django.admin.base import ModelAdmin
from x402_django.admin.filters import FacilitatorFilter, NetworkFilter
from x402_django.admin.payments import PaymentAdmin
from x402_django.admin.read_only import LedgerAdmin
from x402_django.admin.scoping import SiteOwned
from x402_django.exceptions import InvalidApiKey
from x402_django.models import (
    FacilitatorKey,
    FacilitatorUsage,
    ListedResource,
    Payment,
    ServicePayment,
)
from x402_django.payments.service import keys

if TYPE_CHECKING:
    from django.db.models import Model, QuerySet
    from django.http import HttpRequest, HttpResponse

SHOWN_ONCE = "admin/x402_django/facilitator_key_secret.html"


@admin.register(FacilitatorKey)
class FacilitatorKeyAdmin(SiteOwned, ModelAdmin):  # type: ignore[type-arg]
    """Keys are added, rotated and revoked here. A secret is shown once, by what made it."""

    list_display = ("name", "prefix", "status", "used_today", "gas_today", "settled_count")
    search_fields = ("name", "prefix")
    actions = ("rotate", "revoke")
    fields = (
        "name",
        "prefix",
        "status",
        "requests_per_minute",
        "gas_per_hour",
        "succeeds_once",
        "origins",
        "created_at",
        "rotated_at",
        "previous_until",
        "revoked_at",
    )
    readonly_fields = (
        "prefix",
        "status",
        "created_at",
        "rotated_at",
        "previous_until",
        "revoked_at",
    )

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Payments name their key. A key that is not wanted any more is revoked."""
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            request.x402_secret = keys.give_secret(obj)  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The page with the secret itself: a redirect would have to keep it somewhere."""
        return self._secret_page(request, obj, request.x402_secret)  # type: ignore[attr-defined]

    @admin.action(
        description=_("Rotate: a new secret, the old one is good for a day"), permissions=["change"]
    )
    def rotate(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        if queryset.count() != 1:
            self.message_user(request, _now("Choose one key to rotate."), messages.ERROR)
            return None
        key = queryset.get()
        try:
            secret = keys.rotate(key)
        except InvalidApiKey as error:
            self.message_user(request, str(error), messages.ERROR)
            return None
        self.log_change(request, key, "Rotated.")
        return self._secret_page(request, key, secret)

    @admin.action(description=_("Revoke at once and for good"), permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for key in queryset:
            keys.revoke(key)
            self.log_change(request, key, "Revoked.")
        self.message_user(
            request, _now("Revoked. Requests with these keys are refused from now on.")
        )

    def _secret_page(self, request: HttpRequest, key: FacilitatorKey, secret: str) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": _now("Copy the key now"),
            "key": key,
            "secret": secret,
        }
        response = TemplateResponse(request, SHOWN_ONCE, context)
        response["Cache-Control"] = "no-store"
        return response

    @admin.display(description=_("status"))
    def status(self, key: FacilitatorKey) -> str:
        if key.revoked_at is not None:
            return _now("revoked")
        if key.previous_until is not None and key.previous_until > clock.now():
            return _now("in force, and the one before it")
        return _now("in force")

    @admin.display(description=_("requests in 24 hours"))
    def used_today(self, key: FacilitatorKey) -> int | str:
        return self._used(key, FacilitatorUsage.Measure.REQUESTS)

    @admin.display(description=_("gas in 24 hours"))
    def gas_today(self, key: FacilitatorKey) -> int | str:
        return self._used(key, FacilitatorUsage.Measure.GAS)

    def _used(self, key: FacilitatorKey, measure: str) -> int:
        since = clock.now() - timedelta(days=1)
        rows = key.usage.filter(measure=measure, begins_at__gt=since)
        return int(rows.aggregate(used=Sum("used"))["used"] or 0)

    @admin.display(description=_("payments in 24 hours"))
    def settled_count(self, key: FacilitatorKey) -> int:
        since = clock.now() - timedelta(days=1)
        rows = key.payments.filter(created_at__gt=since, state__in=("settled", "final"))
        return int(rows.aggregate(rows=Count("pk"))["rows"])


@admin.register(ServicePayment)
class ServicePaymentAdmin(SiteOwned, PaymentAdmin):
    """What was settled for others: not this site's income, not its debt, nor its to give back."""

    actions = None  # type: ignore[assignment]
    list_display = (  # type: ignore[assignment]
        "reference",
        "state_badge",
        "amount_shown",
        "key_shown",
        "payer_short",
        "pay_to_short",
        "created_shown",
        "settled_shown",
        "network_short",
    )
    list_filter = (  # type: ignore[assignment]
        "state",
        NetworkFilter,
        "service_key",
        FacilitatorFilter,
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "public_id",
                    "state_badge",
                    "state_changed_at",
                    "outcome_unknown_at",
                    "failure_code",
                    "key_shown",
                )
            },
        ),
        (
            _("Money"),
            {
                "fields": (
                    "amount_shown",
                    "payer_link",
                    "pay_to_link",
                    "network_shown",
                    "token_link",
                    "transaction_shown",
                    "block_number",
                    "outbox_shown",
                )
            },
        ),
        (
            _("What was paid for"),
            {"fields": ("resource_url", "created_at", "settled_at", "reported_shown")},
        ),
        PaymentAdmin.fieldsets[-1],
    )
    list_select_related = ("service_key",)

    def has_refund_permission(self, request: HttpRequest) -> bool:
        """Nobody: the money was never this site's."""
        return False

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = LedgerAdmin.get_queryset(self, request)
        return rows.filter(kind=Payment.Kind.SERVICE)

    @admin.display(description=_("API key"))
    def key_shown(self, payment: Payment) -> SafeString | str:
        return display.object_link(payment.service_key)

    @admin.display(description=_("paid to"))
    def pay_to_short(self, payment: Payment) -> SafeString | str:
        return display.shorten(payment.pay_to)

    @admin.display(description=_("success reported"))
    def reported_shown(self, payment: Payment) -> str:
        return display.short_moment(payment.delivered_at)


@admin.register(ListedResource)
class ListedResourceAdmin(SiteOwned, ModelAdmin):  # type: ignore[type-arg]
    """The public list: rows come from settlements, and can be hidden or deleted."""

    list_display = ("url", "key", "last_paid_at", "hidden")
    list_filter = ("hidden", "key")
    list_select_related = ("key",)
    search_fields = ("url",)
    fields = ("url", "key", "x402_version", "accepts", "first_paid_at", "last_paid_at", "hidden")
    readonly_fields = ("url", "key", "x402_version", "accepts", "first_paid_at", "last_paid_at")

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
