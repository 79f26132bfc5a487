"""Refunds at the desk: asked for on a payment's page, approved by another, followed in a list."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from x402_django.admin import display
from x402_django.admin.base import TabularInline
from x402_django.admin.columns import MoneyColumns
from x402_django.admin.filters import NetworkFilter
from x402_django.admin.read_only import LedgerAdmin, NoWrites
from x402_django.admin.scoping import MerchantScoped
from x402_django.exceptions import InvalidTransition, RefundRefused, ServiceUnavailable
from x402_django.models import Payment, Refund, RefundEvent, RefundReceipt
from x402_django.payments.refunds import by_hand, requesting
from x402_django.payments.refunds.delivering import deliver_again
from x402_django.pricing.money import format_amount

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.urls import URLPattern
    from django.utils.safestring import SafeString

MAY_REQUEST = "x402_django.add_refund"
MAY_APPROVE = "x402_django.approve_refund"


class RefundForm(forms.Form):
    """How much goes back, in whole tokens, and why."""

    amount = forms.DecimalField(label=_("Amount"), min_value=Decimal(0))
    reason = forms.CharField(
        label=_("Reason"),
        max_length=500,
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text=_("Printed on the refund's receipt, and shown to the payer."),
    )

    def __init__(self, *args: Any, payment: Payment, **kwargs: Any) -> None:
        self.payment = payment
        self.left = requesting.refundable(payment)
        super().__init__(*args, **kwargs)
        self.fields["amount"].help_text = _(
            "In %(token)s. %(left)s can be given back; that is filled in."
        ) % {
            "token": payment.asset_symbol,
            "left": format_amount(self.left, payment.asset_decimals, payment.asset_symbol),
        }
        self.initial["amount"] = format_amount(self.left, payment.asset_decimals)

    def clean_amount(self) -> int:
        """In atomic units."""
        units = self.cleaned_data["amount"].scaleb(self.payment.asset_decimals)
        if units != units.to_integral_value():
            raise ValidationError(_("The token has no such small parts."), code="too_fine")
        return int(units)


class Refunds:
    """A ModelAdmin of payments, from which refunds are asked for. First among the bases.

    Which has the template ``payment_form.html``, and these actions.
    """

    def get_urls(self) -> list[URLPattern]:
        site: Any = self
        views = [
            path(
                f"<path:object_id>/{name}/",
                site.admin_site.admin_view(view),
                name=f"{site.opts.app_label}_{site.opts.model_name}_{name}",
            )
            for name, view in (("refund", self.refund_view), ("deliver", self.deliver_view))
        ]
        return [*views, *super().get_urls()]  # type: ignore[misc]

    def has_refund_permission(self, request: HttpRequest) -> bool:
        """Who may add refunds."""
        return request.user.has_perm(MAY_REQUEST)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        site: Any = self
        payment: Payment | None = site.get_object(request, object_id) if object_id else None
        context: dict[str, Any] = dict(extra_context or {})
        if payment is not None and payment.is_paid and self.has_refund_permission(request):
            context["can_refund"] = requesting.refundable(payment) > 0
            context["can_deliver"] = payment.refunding_at is None
        return super().changeform_view(request, object_id, form_url, context)  # type: ignore[misc]

    def refund_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The form; posted, the refund."""
        payment = self._payment(request, object_id)
        form = RefundForm(request.POST or None, payment=payment)
        if request.method == "POST" and form.is_valid():
            try:
                refund = requesting.request_refund(
                    payment,
                    form.cleaned_data["amount"],
                    user=request.user,
                    reason=form.cleaned_data["reason"],
                )
            except RefundRefused as refused:
                form.add_error("amount", str(refused))
            else:
                self._log(request, payment, f"Refund {refund.public_id} requested.")
                messages.success(request, _said(refund))
                return HttpResponseRedirect(
                    reverse(f"{self._site()}:x402_django_refund_change", args=[refund.pk])
                )
        return self._page(request, payment, form)

    def deliver_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Owe it to the payer once more. By POST alone."""
        payment = self._payment(request, object_id)
        if request.method == "POST" and deliver_again(payment, user=request.user):
            self._log(request, payment, "To be delivered again.")
            messages.success(
                request,
                _now("The payer's next request with this payment is answered free of charge."),
            )
        return HttpResponseRedirect(
            reverse(f"{self._site()}:x402_django_payment_change", args=[payment.pk])
        )

    @admin.action(description=_("Refund what is left of them"), permissions=["refund"])
    def refund_whole(self, request: HttpRequest, queryset: QuerySet[Payment]) -> None:
        done, refused = [], []
        for payment in queryset:
            try:
                left = requesting.refundable(payment)
                done.append(requesting.request_refund(payment, left, user=request.user))
            except RefundRefused as reason:
                refused.append(f"{payment.public_id[:12]}: {reason}")
            else:
                self._log(request, payment, f"Refund {done[-1].public_id} requested.")
        text = ngettext(
            "%(count)d refund was entered.", "%(count)d refunds were entered.", len(done)
        )
        messages.success(request, text % {"count": len(done)})
        for words in refused:
            messages.warning(request, words)

    @admin.action(description=_("Deliver again, free of charge"), permissions=["refund"])
    def deliver_once_more(self, request: HttpRequest, queryset: QuerySet[Payment]) -> None:
        done = [one for one in queryset if deliver_again(one, user=request.user)]
        for payment in done:
            self._log(request, payment, "To be delivered again.")
        text = ngettext(
            "%(count)d payment is owed to its payer again.",
            "%(count)d payments are owed to their payers again.",
            len(done),
        )
        messages.success(request, text % {"count": len(done)})

    def _payment(self, request: HttpRequest, object_id: str) -> Payment:
        site: Any = self
        payment: Payment | None = site.get_object(request, object_id)
        if payment is None:
            raise Http404
        if not (site.has_view_permission(request, payment) and self.has_refund_permission(request)):
            raise PermissionDenied
        return payment

    def _page(self, request: HttpRequest, payment: Payment, form: RefundForm) -> HttpResponse:
        site: Any = self
        context = {
            **site.admin_site.each_context(request),
            "opts": site.opts,
            "title": _now("Refund"),
            "payment": payment,
            "amount": display.amount(payment),
            "form": form,
            "media": site.media,
        }
        template = "admin/x402_django/refund_form.html"
        return TemplateResponse(request, template, context, status=400 if form.errors else 200)

    def _log(self, request: HttpRequest, payment: Payment, words: str) -> None:
        site: Any = self
        site.log_change(request, payment, words)

    def _site(self) -> str:
        site: Any = self
        return str(site.admin_site.name)


def _said(refund: Refund) -> str:
    if refund.state == Refund.State.REQUESTED:
        return _now("The refund waits for a second person to approve it.")
    return _now("The refund is sent as soon as the payment is final.")


class RefundEventInline(NoWrites, TabularInline):  # type: ignore[type-arg]
    model = RefundEvent
    fields = ("at", "from_state", "to_state", "code", "reason", "actor")
    extra = 0


@admin.register(Refund)
class RefundAdmin(MerchantScoped, MoneyColumns, LedgerAdmin):
    """Refunds. Who may approve them may let go what others have asked for, or reject it."""

    change_form_template = "admin/x402_django/refund_page.html"
    list_display = (
        "reference",
        "state_badge",
        "amount_shown",
        "usd_shown",
        "payer_short",
        "requested_name",
        "approved_name",
        "created_at",
    )
    list_filter = ("state", NetworkFilter)
    list_select_related = ("payment",)
    fields = (
        "public_id",
        "state_badge",
        "hindrance",
        "payment_link",
        "amount_shown",
        "usd_shown",
        "payer_link",
        "network_shown",
        "token_link",
        "reason",
        "requested_name",
        "approved_name",
        "created_at",
        "sender",
        "transaction_shown",
        "is_by_hand",
        "receipt_shown",
    )
    inlines = (RefundEventInline,)
    actions = ("approve", "reject")  # type: ignore[assignment]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """They are asked for on the page of a payment."""
        return False

    def has_approve_permission(self, request: HttpRequest) -> bool:
        """Who may approve refunds."""
        return request.user.has_perm(MAY_APPROVE)

    def get_urls(self) -> list[URLPattern]:
        decide = path(
            "<path:object_id>/decide/",
            self.admin_site.admin_view(self.decide_view),
            name="x402_django_refund_decide",
        )
        return [decide, *super().get_urls()]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        refund = self.get_object(request, object_id) if object_id else None
        waits = refund is not None and refund.state == Refund.State.REQUESTED
        to_send = refund is not None and refund.state == Refund.State.APPROVED
        mine = refund is not None and refund.requested_by_id == request.user.pk
        may_approve = self.has_approve_permission(request)
        context = {
            "can_approve": waits and may_approve and not mine,
            "can_reject": (waits or to_send) and may_approve,
            "can_enter": to_send and request.user.has_perm(MAY_REQUEST),
            "waits_for_other": waits and not (may_approve and not mine),
            **(extra_context or {}),
        }
        return super().changeform_view(request, object_id, form_url, context)

    def decide_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Approve, reject, or name the transaction in which it was sent. By POST alone."""
        refund = self.get_object(request, object_id)
        if refund is None:
            raise Http404
        decision = request.POST.get("decision", "")
        if request.method == "POST":
            permission = MAY_REQUEST if decision == "enter" else MAY_APPROVE
            if not (
                self.has_view_permission(request, refund) and request.user.has_perm(permission)
            ):
                raise PermissionDenied
            self._decide(request, refund, decision)
        page = reverse(f"{self.admin_site.name}:x402_django_refund_change", args=[refund.pk])
        return HttpResponseRedirect(page)

    def _decide(self, request: HttpRequest, refund: Refund, decision: str) -> None:
        try:
            if decision == "approve":
                requesting.approve(refund, user=request.user)
            elif decision == "reject":
                requesting.reject(refund, user=request.user)
            elif decision == "enter":
                sent_in = request.POST.get("transaction", "")
                by_hand.enter_transaction(refund, sent_in, user=request.user)
            else:
                return
        except InvalidTransition:
            messages.error(request, _now("Somebody else has decided about this refund."))
        except RefundRefused as refused:
            messages.error(request, str(refused))
        except ServiceUnavailable:
            messages.error(request, _now("The network could not be asked. Try again."))
        else:
            self.log_change(request, refund, f"{decision}: {refund.state}")
            messages.success(
                request,
                _now("The refund is now: %(state)s.") % {"state": refund.get_state_display()},
            )

    @admin.action(description=_("Approve"), permissions=["approve"])
    def approve(self, request: HttpRequest, queryset: QuerySet[Refund]) -> None:
        for refund in queryset:
            self._decide(request, refund, "approve")

    @admin.action(description=_("Reject"), permissions=["approve"])
    def reject(self, request: HttpRequest, queryset: QuerySet[Refund]) -> None:
        for refund in queryset:
            self._decide(request, refund, "reject")

    @admin.display(description=_("refund"))
    def reference(self, refund: Refund) -> str:
        return refund.public_id[:12]

    @admin.display(description=_("state"))
    def state_badge(self, refund: Refund) -> SafeString:
        return display.badge(refund.state, refund.get_state_display())

    @admin.display(description=_("payment"))
    def payment_link(self, refund: Refund) -> SafeString | str:
        return display.payment_link(refund.payment_id)

    @admin.display(description=_("receipt"))
    def receipt_shown(self, refund: Refund) -> SafeString | str:
        return display.object_link(RefundReceipt.objects.filter(refund=refund).first())


@admin.register(RefundReceipt)
class RefundReceiptAdmin(MerchantScoped, MoneyColumns, LedgerAdmin):
    """What went back, for the books."""

    list_display = (
        "reference_short",
        "issued_at",
        "amount_shown",
        "usd_shown",
        "payer_short",
        "network_short",
    )
    list_filter = (NetworkFilter,)
    fields = (
        "reference",
        "document_links",
        "issued_at",
        "amount_shown",
        "usd_shown",
        "description",
        "resource_url",
        "reason",
        "payer_link",
        "sender",
        "network_shown",
        "token_link",
        "transaction_shown",
        "refund_link",
    )

    @admin.display(description=_("receipt"))
    def reference_short(self, receipt: RefundReceipt) -> str:
        return receipt.reference[:12]

    @admin.display(description=_("document"))
    def document_links(self, receipt: RefundReceipt) -> SafeString | str:
        return display.document_links(receipt)

    @admin.display(description=_("refund"))
    def refund_link(self, receipt: RefundReceipt) -> SafeString | str:
        return display.object_link(receipt.refund)
