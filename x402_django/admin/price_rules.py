"""Prices, with a preview of the 402 that a buyer would get."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from x402_django import clock
from x402_django.admin import display
from x402_django.admin.history import RecordsValues
from x402_django.admin.preview import Preview, preview_rule
from x402_django.admin.price_rule_form import PRICE_FIELDS, PriceRuleForm
from x402_django.admin.scoping import MerchantOwned, merchants_of
from x402_django.admin.try_out import TryOutForm, try_out
from x402_django.constants import EFFECT_FREE
from x402_django.models import PreviousPrice, PriceRule
from x402_django.pricing.money import format_amount

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.urls import URLPattern

#: Sent by the script, which wants the panel alone and not a page.
_FRAGMENT_HEADER = "X-Preview-Fragment"
#: Of a rule's earlier prices.
_PREVIOUS_SHOWN = 5


@admin.register(PriceRule)
class PriceRuleAdmin(MerchantOwned, RecordsValues):
    """Edited by the merchant; in force within ``X402["RULES_MAX_AGE"]`` seconds everywhere."""

    form = PriceRuleForm
    list_display = (
        "name",
        "price_shown",
        "applies_to",
        "flow_shown",
        "priority",
        "active",
        "in_force",
    )
    list_filter = ("active", "flow")
    search_fields = ("name", "key", "description")
    change_form_template = "admin/x402_django/price_rule_form.html"
    change_list_template = "admin/x402_django/price_rule_list.html"
    readonly_fields = ("previous_prices_shown",)
    fieldsets = (
        (None, {"fields": ("merchant", "name", "active", "priority")}),
        (_("Applies to"), {"fields": ("url_names", "key", "methods", "valid_from", "valid_until")}),
        (
            _("For whom and when"),
            {
                "description": _(
                    "All that is given here must hold; of the rules on a page, the one of the "
                    "highest priority that applies is used. Try it with “Try a price”."
                ),
                "fields": (
                    "effect",
                    "audience",
                    "groups",
                    "permission",
                    "header_name",
                    "header_values",
                    "countries",
                    ("hours_from", "hours_until"),
                    "weekdays",
                ),
            },
        ),
        (
            _("Price"),
            {"fields": ("price_usd", "token_amount", "unit_price_usd", "payment_methods", "flow")},
        ),
        (_("Good customers"), {"fields": ("holder_discount", "volume_tiers")}),
        (
            _("Free requests"),
            {"fields": (("free_requests", "free_period"), "free_per")},
        ),
        (
            _("What the price buys"),
            {
                "fields": (
                    "grants",
                    "pass_hours",
                    "pass_uses",
                    "pass_pages",
                    "pass_for_object",
                    "credits_usd",
                    "takes_credits",
                )
            },
        ),
        (_("Earlier prices"), {"fields": ("previous_prices_shown",)}),
        (_("Coming back"), {"fields": ("session_access", "identifier_required")}),
        (_("What the buyer is told"), {"fields": ("description", "mime_type")}),
    )

    class Media:
        css = {"all": ["x402_django/admin/admin.css"]}
        js = ["x402_django/admin/price_rule.js"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[PriceRule]:
        rows: QuerySet[PriceRule] = super().get_queryset(request)
        return rows.prefetch_related("payment_methods")

    def has_delete_permission(self, request: HttpRequest, obj: PriceRule | None = None) -> bool:
        """Not once it was paid by: deleting it would write to every one of those payments."""
        if obj is not None and obj.payments.exists():
            return False
        return super().has_delete_permission(request, obj)

    def get_actions(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Without "delete selected", which does not ask about each row."""
        # Django 6.1 passes where the actions are shown; 5.2 does not.
        actions = super().get_actions(request, *args, **kwargs)
        actions.pop("delete_selected", None)
        return actions

    def get_urls(self) -> list[URLPattern]:
        preview = path(
            "preview/",
            self.admin_site.admin_view(self.preview_view),
            name="x402_django_pricerule_preview",
        )
        try_out = path(
            "try/", self.admin_site.admin_view(self.try_view), name="x402_django_pricerule_try"
        )
        return [preview, try_out, *super().get_urls()]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        rule = self.get_object(request, object_id) if object_id else None
        url = reverse(f"{self.admin_site.name}:x402_django_pricerule_preview")
        context = {
            "preview": rule and preview_rule(rule, list(rule.payment_methods.all()), request),
            "preview_url": f"{url}?rule={rule.pk}" if rule else url,
            "can_preview": self._may_preview(request, rule),
            **(extra_context or {}),
        }
        return super().changeform_view(request, object_id, form_url, context)

    def try_view(self, request: HttpRequest) -> HttpResponse:
        """What a request would cost, and why. Nothing is made, nobody is asked."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        asked = request.GET if "url" in request.GET else None
        form = TryOutForm(asked, asker=request.user)
        answer = try_out(form.cleaned_data, merchants_of(request)) if form.is_valid() else None
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _now("Try a price"),
            "form": form,
            "answer": answer,
            "media": self.media + form.media,
        }
        template = "admin/x402_django/try_out.html"
        return TemplateResponse(request, template, context, status=400 if form.errors else 200)

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """The preview of the posted form. Nothing is saved."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        rule_id = request.GET.get("rule")
        rule = self.get_object(request, rule_id) if rule_id else None
        if not self._may_preview(request, rule):
            raise PermissionDenied
        context: dict[str, Any] = {"preview": self._preview_of_form(request, rule)}
        if _FRAGMENT_HEADER in request.headers:
            return render(request, "admin/x402_django/preview.html", context)
        context |= self.admin_site.each_context(request)
        context |= {"opts": self.opts, "title": _now("Preview"), "media": self.media}
        return render(request, "admin/x402_django/preview_page.html", context)

    def _may_preview(self, request: HttpRequest, rule: PriceRule | None) -> bool:
        if rule is None:
            return self.has_add_permission(request)
        return self.has_change_permission(request, rule)

    def _preview_of_form(self, request: HttpRequest, rule: PriceRule | None) -> Preview:
        form_class = self.get_form(request, rule, change=rule is not None)
        form = form_class(request.POST, instance=rule)
        problems = [str(message) for name in PRICE_FIELDS for message in form.errors.get(name, [])]
        if problems:
            return Preview(problems=tuple(problems))
        methods = list(form.cleaned_data.get("payment_methods") or ())
        return preview_rule(form.instance, methods, request)

    @admin.display(description=_("price"))
    def price_shown(self, rule: PriceRule) -> str:
        return _price_in_words(rule, rule)

    @admin.display(description=_("earlier prices"))
    def previous_prices_shown(self, rule: PriceRule) -> SafeString | str:
        """The last few; an edited price still pays for a moment (``X402["PRICE_GRACE"]``)."""
        rows = rule.previous_prices.all()[:_PREVIOUS_SHOWN] if rule.pk else ()
        return display.lines(
            _now("%(price)s until %(when)s")
            % {"price": _price_in_words(rule, row), "when": display.short_moment(row.ended_at)}
            for row in rows
        )

    @admin.display(description=_("applies to"))
    def applies_to(self, rule: PriceRule) -> str:
        key = [_now("key “%(key)s”") % {"key": rule.key}] if rule.key else []
        names = ", ".join([*key, *(rule.url_names or ())]) or display.EMPTY
        return f"{'/'.join(rule.methods)} {names}" if rule.methods else names

    @admin.display(description=_("payment flow"), ordering="flow")
    def flow_shown(self, rule: PriceRule) -> str:
        return rule.flow or _now("by method")

    @admin.display(description=_("in force now"), boolean=True)
    def in_force(self, rule: PriceRule) -> bool:
        now = clock.now()
        started = rule.valid_from is None or rule.valid_from <= now
        ended = rule.valid_until is not None and rule.valid_until <= now
        return rule.active and started and not ended


def _price_in_words(rule: PriceRule, price: PriceRule | PreviousPrice) -> str:
    """A price that ``rule`` has or had."""
    if price is rule and rule.effect == EFFECT_FREE:
        return _now("free")
    if price.price_usd is not None:
        return display.usd(price.price_usd)
    amount = price.token_amount or 0
    tokens = {(m.asset_decimals, m.asset_symbol) for m in rule.payment_methods.all()}
    if len(tokens) == 1:
        return format_amount(amount, *tokens.pop())
    return _now("%(amount)s token units") % {"amount": amount}
