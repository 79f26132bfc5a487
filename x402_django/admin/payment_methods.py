"""Ways of being paid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from x402_django.admin import display
from x402_django.admin.base import name_in_table
from x402_django.admin.history import RecordsValues
from x402_django.admin.payment_method_form import AMOUNT_FIELDS, PaymentMethodForm
from x402_django.admin.scoping import MerchantOwned
from x402_django.conf import x402
from x402_django.models import PaymentMethod
from x402_django.pricing.rules import unsellable_rules

if TYPE_CHECKING:
    from django.http import HttpRequest


@admin.register(PaymentMethod)
class PaymentMethodAdmin(MerchantOwned, RecordsValues):
    """Edited by the merchant; payments keep what they were made with."""

    form = PaymentMethodForm
    list_display = (
        "name",
        "asset_symbol",
        "network_shown",
        "pay_to_short",
        "facilitator",
        "fee_shown",
        "bounds_shown",
        "priority",
        "active",
        "configured",
    )
    list_editable = ("priority",)
    list_filter = ("active",)
    search_fields = ("name", "network", "asset_symbol", "pay_to")
    fieldsets = (
        (None, {"fields": ("merchant", "name", "active", "priority")}),
        (
            _("Token"),
            {
                "fields": (
                    "known_token",
                    "network",
                    "asset",
                    "asset_symbol",
                    "asset_name",
                    "asset_version",
                    "asset_decimals",
                ),
            },
        ),
        (_("Payee"), {"fields": ("pay_to", "facilitator")}),
        (
            _("How it is paid"),
            {"fields": ("scheme", "transfer_method", "sponsoring", "transfer_proofs")},
        ),
        (_("Amounts"), {"fields": AMOUNT_FIELDS}),
    )

    class Media:
        css = {"all": ["x402_django/admin/admin.css"]}
        js = ["x402_django/admin/payment_method.js"]

    def get_changelist_formset(self, request: HttpRequest, **kwargs: Any) -> Any:
        def field_of(db_field: Any, **options: Any) -> Any:
            return name_in_table(self.formfield_for_dbfield(db_field, request, **options))

        return super().get_changelist_formset(request, formfield_callback=field_of, **kwargs)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial: dict[str, Any] = super().get_changeform_initial_data(request)
        initial.setdefault("pay_to", x402.pay_to or "")
        return initial

    def get_fieldsets(self, request: HttpRequest, obj: PaymentMethod | None = None) -> Any:
        """Without the chooser of tokens where somebody may only look."""
        may_edit = self.has_change_permission(request, obj) if obj else True
        return [
            (title, {"fields": [f for f in options["fields"] if may_edit or f != "known_token"]})
            for title, options in self.fieldsets
        ]

    def save_model(self, request: HttpRequest, obj: PaymentMethod, form: Any, change: bool) -> None:
        """Saved as it is; but whoever takes a price's last way of being paid is told."""
        before = {rule.pk for rule in unsellable_rules()}
        super().save_model(request, obj, form, change)
        for rule in unsellable_rules():
            if rule.pk not in before:
                text = _now("Nobody can pay “%(rule)s” any more: %(why)s")
                self.message_user(
                    request, text % {"rule": rule.name, "why": rule.error}, messages.WARNING
                )

    @admin.display(description=_("network"), ordering="network")
    def network_shown(self, method: PaymentMethod) -> str:
        return display.network_label(method.network)

    @admin.display(description=_("pay to"))
    def pay_to_short(self, method: PaymentMethod) -> SafeString | str:
        return display.shorten(method.pay_to)

    @admin.display(description=_("fee"))
    def fee_shown(self, method: PaymentMethod) -> str:
        parts = []
        if method.fee_percent:
            parts.append(f"{display.plain(method.fee_percent)} %")
        if method.fee_amount:
            parts.append(f"{display.plain(method.fee_amount)} {method.asset_symbol}")
        return " + ".join(parts) or display.EMPTY

    @admin.display(description=_("amounts"))
    def bounds_shown(self, method: PaymentMethod) -> str:
        least, most = method.minimum_amount, method.maximum_amount
        parts = [f"≥ {display.plain(least)}"] if least is not None else []
        parts += [f"≤ {display.plain(most)}"] if most is not None else []
        return ", ".join(parts) or display.EMPTY

    @admin.display(description=_("in the settings"), boolean=True)
    def configured(self, method: PaymentMethod) -> bool:
        """Whether the settings still have the network and the facilitator."""
        return method.network in x402.networks and method.facilitator in x402.facilitators
