"""Outgoing webhooks: endpoints to edit, deliveries to look at and to send again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from x402_django.admin import display
from x402_django.admin.base import ModelAdmin, TabularInline
from x402_django.admin.read_only import LedgerAdmin, NoWrites
from x402_django.admin.scoping import (
    MerchantFormMixin,
    MerchantOwned,
    MerchantScoped,
    are_several,
    merchants_of,
)
from x402_django.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from x402_django.webhooks import delivery, secrets
from x402_django.webhooks.addresses import validate_url

if TYPE_CHECKING:
    from django.db.models import Model, QuerySet
    from django.http import HttpRequest, HttpResponse

SHOWN_ONCE = "admin/x402_django/webhook_secret.html"


class WebhookEndpointForm(MerchantFormMixin, forms.ModelForm):  # type: ignore[type-arg]
    """The form of an endpoint; its address must be one that messages can be sent to."""

    def clean_url(self) -> str:
        url = str(self.cleaned_data["url"]).strip()
        validate_url(url)
        return url


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(MerchantOwned, ModelAdmin):  # type: ignore[type-arg]
    """Endpoints are added, turned off and rotated here. A secret is shown once."""

    form = WebhookEndpointForm
    list_display = ("name", "url", "is_active", "failing_since", "off_reason")
    search_fields = ("name", "url")
    actions = ("rotate",)
    fields = (
        "merchant",
        "name",
        "url",
        "events",
        "is_active",
        "off_reason",
        "failing_since",
        "previous_until",
        "created_at",
        "updated_at",
    )
    readonly_fields = ("off_reason", "failing_since", "previous_until", "created_at", "updated_at")

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Whose it is, is said where there are several merchants."""
        hidden = obj is not None and not are_several(request)
        return [name for name in self.fields if name != "merchant" or not hidden]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Once made it stays its merchant's: what waits to be sent is for no other."""
        return (*self.readonly_fields, "merchant") if obj is not None else self.readonly_fields

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Deliveries name their endpoint. One that is not wanted any more is turned off."""
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            request.x402_secret = secrets.give_secret(obj)  # type: ignore[attr-defined]
            obj.save(force_insert=True)
            return
        if obj.is_active and "is_active" in form.changed_data:
            obj.off_reason, obj.failing_since = "", None
        # Named fields: a rotation at the same time is not undone.
        obj.save(
            update_fields=[
                "name",
                "url",
                "events",
                "is_active",
                "off_reason",
                "failing_since",
                "updated_at",
            ]
        )

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The page with the secret itself: a redirect would have to keep it somewhere."""
        return self._secret_page(request, obj, request.x402_secret)  # type: ignore[attr-defined]

    @admin.action(
        description=_("Rotate: a new secret, the old one signs too for a day"),
        permissions=["change"],
    )
    def rotate(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        if queryset.count() != 1:
            self.message_user(request, _now("Choose one endpoint to rotate."), messages.ERROR)
            return None
        endpoint = queryset.get()
        secret = secrets.rotate(endpoint)
        self.log_change(request, endpoint, "Rotated.")
        return self._secret_page(request, endpoint, secret)

    def _secret_page(
        self, request: HttpRequest, endpoint: WebhookEndpoint, secret: str
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": _now("Copy the secret now"),
            "endpoint": endpoint,
            "secret": secret,
        }
        response = TemplateResponse(request, SHOWN_ONCE, context)
        response["Cache-Control"] = "no-store"
        return response


class WebhookAttemptInline(NoWrites, TabularInline):  # type: ignore[type-arg]
    model = WebhookAttempt
    fields = ("at", "status", "error_code", "milliseconds", "answer")
    extra = 0


class EndpointFilter(admin.SimpleListFilter):
    """By endpoint, of those that somebody sees."""

    title = _("endpoint")
    parameter_name = "endpoint"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows, seen = WebhookEndpoint.objects.all(), merchants_of(request)
        rows = rows if seen is None else rows.filter(merchant__in=seen)
        return [(str(pk), name) for pk, name in rows.values_list("pk", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        known = {choice for choice, _name in self.lookup_choices}
        return queryset.filter(endpoint=self.value()) if self.value() in known else queryset


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(MerchantScoped, LedgerAdmin):
    """The log of what was sent, and how each attempt went."""

    merchant_path = "endpoint__merchant"
    list_display = (
        "message",
        "endpoint",
        "state",
        "attempts",
        "next_attempt_at",
        "last_status",
        "last_error",
    )
    list_filter = ("state", EndpointFilter)
    list_select_related = ("message", "endpoint")
    fields = (*list_display, "body")
    inlines = (WebhookAttemptInline,)
    actions = ("send_again",)  # type: ignore[assignment]

    def has_resend_permission(self, request: HttpRequest) -> bool:
        """Who may change deliveries may have them sent again, and nothing else."""
        return request.user.has_perm("x402_django.change_webhookdelivery")

    @admin.action(description=_("Send again"), permissions=["resend"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        rows = delivery.send_again(queryset)
        text = ngettext(
            "%(rows)d delivery is sent again.", "%(rows)d deliveries are sent again.", rows
        )
        self.message_user(request, text % {"rows": rows})

    @admin.display(description=_("body"))
    def body(self, row: WebhookDelivery) -> str:
        return row.message.body or display.EMPTY
