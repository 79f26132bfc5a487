"""Payments and their history: to look at, never to edit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Count, Q, Sum
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from x402_django.admin import display
from x402_django.admin.base import TabularInline
from x402_django.admin.columns import MoneyColumns
from x402_django.admin.filters import AttentionFilter, FacilitatorFilter, NetworkFilter
from x402_django.admin.read_only import LedgerAdmin, NoWrites
from x402_django.admin.refunds import Refunds
from x402_django.admin.scoping import MerchantScoped
from x402_django.admin.search import search_events, search_payments
from x402_django.admin.wallet_warning import WarnsOfLowWallets
from x402_django.constants import FLOW_DEFERRED, SCHEME_BATCH
from x402_django.models import ChainTransaction, ChannelUse, Payment, PaymentEvent, Receipt
from x402_django.payments.holdings import grant_of

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest


class PaymentEventInline(NoWrites, TabularInline):  # type: ignore[type-arg]
    """The timeline on a payment's page."""

    model = PaymentEvent
    verbose_name_plural = _("history")
    fields = ("at", "from_state", "to_state", "code", "reason", "actor")
    ordering = ("pk",)
    extra = 0
    show_change_link = False
    empty_value_display = display.EMPTY


@admin.register(Payment)
class PaymentAdmin(Refunds, MerchantScoped, WarnsOfLowWallets, MoneyColumns, LedgerAdmin):
    """The ledger."""

    change_form_template = "admin/x402_django/payment_form.html"
    actions = ("refund_whole", "deliver_once_more")  # type: ignore[assignment]
    list_display = (
        "reference",
        "state_badge",
        "amount_shown",
        "usd_shown",
        "payer_short",
        "resource_short",
        "created_shown",
        "settled_shown",
        "delivered_shown",
        "network_short",
    )
    list_filter = (
        AttentionFilter,
        "state",
        NetworkFilter,
        "flow",
        FacilitatorFilter,
    )
    date_hierarchy = "created_at"
    sortable_by = ("created_shown",)
    search_fields = ("public_id",)
    search_help_text = _(
        "The payment's id, the payer's address (whole, or its beginning as shown), "
        "a transaction hash or an authorization nonce."
    )
    search = staticmethod(search_payments)
    deferred = ("requirements", "payload", "response_headers", "response_body")
    inlines = (PaymentEventInline,)
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
                )
            },
        ),
        (
            _("Money"),
            {
                "fields": (
                    "amount_shown",
                    "usd_shown",
                    "payer_link",
                    "payer_owes",
                    "pay_to_link",
                    "network_shown",
                    "token_link",
                    "transaction_shown",
                    "block_number",
                    "channel_shown",
                    "receipt_link",
                    "refunds_shown",
                    "outbox_shown",
                )
            },
        ),
        (
            _("What was bought"),
            {
                "fields": (
                    "request_method",
                    "resource_url",
                    "description",
                    "rule_shown",
                    "flow",
                    "created_at",
                    "settled_at",
                    "delivered_at",
                    "session_access",
                    "grant_shown",
                    "response_status",
                    "superseded_shown",
                )
            },
        ),
        (
            _("Protocol"),
            {
                "classes": ("collapse",),
                "fields": (
                    "x402_version",
                    "scheme",
                    "facilitator",
                    "method",
                    "nonce",
                    "payment_identifier",
                    "valid_before_shown",
                    "attempt",
                    "requirements_shown",
                    "payload_shown",
                ),
            },
        ),
    )

    @staticmethod
    def totalled(queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of a list that are summed above it."""
        return queryset.filter(state__in=(Payment.State.SETTLED, Payment.State.FINAL))

    def get_queryset(self, request: HttpRequest) -> Any:
        """What this site sold. What it settled for others is in a list of its own."""
        return super().get_queryset(request).filter(kind=Payment.Kind.SALE)

    @admin.display(description=_("payment"))
    def reference(self, payment: Payment) -> str:
        return payment.public_id[:12]

    @admin.display(description=_("payment channel"))
    def channel_shown(self, payment: Payment) -> SafeString | str:
        if payment.scheme != SCHEME_BATCH:
            return display.EMPTY
        use = ChannelUse.objects.select_related("channel").filter(payment=payment).first()
        return display.EMPTY if use is None else display.object_link(use.channel)

    @admin.display(description=_("buys"))
    def grant_shown(self, payment: Payment) -> str:
        grant = grant_of(payment)
        return display.EMPTY if grant is None else grant.in_words()

    @admin.display(description=_("state"))
    def state_badge(self, payment: Payment) -> SafeString:
        badge = display.badge(payment.state, payment.get_state_display())
        notes = []
        if payment.state == Payment.State.SETTLING and payment.outcome_unknown_at is not None:
            notes.append(_("outcome unknown"))
        is_sale = payment.kind == Payment.Kind.SALE
        if is_sale and payment.is_paid and payment.refunding_at is not None:
            notes.append(_("goes back"))
        elif is_sale and payment.is_paid and payment.delivered_at is None:
            notes.append(_("owed to the payer"))
        if payment.scheme == SCHEME_BATCH and payment.state == Payment.State.SETTLED:
            notes.append(_("in escrow"))
        if payment.flow == FLOW_DEFERRED and payment.delivered_at is not None:
            if payment.state in (Payment.State.VERIFIED, Payment.State.SETTLING):
                notes.append(_("owed by the payer"))
            elif payment.state in (Payment.State.FAILED, Payment.State.EXPIRED):
                notes.append(_("in default"))
        return badge + format_html_join(
            "", ' <span class="x402-badge x402-badge-attention">{}</span>', ((n,) for n in notes)
        )

    @admin.display(description=_("presented"), ordering="created_at")
    def created_shown(self, payment: Payment) -> str:
        return display.short_moment(payment.created_at)

    @admin.display(description=_("settled"))
    def settled_shown(self, payment: Payment) -> str:
        return display.short_moment(payment.settled_at)

    @admin.display(description=_("delivered"))
    def delivered_shown(self, payment: Payment) -> str:
        return display.short_moment(payment.delivered_at)

    @admin.display(description=_("the payer owes"))
    def payer_owes(self, payment: Payment) -> str:
        """What was delivered to this payer under the flow ``deferred`` and is not settled."""
        owed = Payment.objects.unsettled(payment.payer).filter(merchant=payment.merchant_id)
        total = owed.aggregate(usd=Sum("price_usd"), rows=Count("pk"))
        if not total["rows"]:
            return display.EMPTY
        words = ngettext(
            "%(usd)s in %(rows)d payment", "%(usd)s in %(rows)d payments", total["rows"]
        )
        return words % {"usd": display.usd(total["usd"]), "rows": total["rows"]}

    @admin.display(description=_("receipt"))
    def receipt_link(self, payment: Payment) -> SafeString | str:
        return display.object_link(Receipt.objects.filter(payment=payment).first())

    @admin.display(description=_("refunds"))
    def refunds_shown(self, payment: Payment) -> SafeString | str:
        links = [
            (display.object_link(one, display.amount(one)), one.get_state_display())
            for one in payment.refunds.all()
        ]
        return format_html_join("", "<div>{} ({})</div>", links) or display.EMPTY

    @admin.display(description=_("chain transactions"))
    def outbox_shown(self, payment: Payment) -> SafeString | str:
        own = ChainTransaction.objects.filter(Q(items__payment=payment) | Q(prepares=payment))
        rows = own.only("pk", "hash", "status").distinct()
        links = [(display.object_link(row), row.get_status_display()) for row in rows]
        return format_html_join("", "<div>{} ({})</div>", links) or display.EMPTY

    @admin.display(description=_("price rule"))
    def rule_shown(self, payment: Payment) -> SafeString | str:
        if payment.rule is not None:
            return display.object_link(payment.rule, payment.rule_name)
        return payment.rule_name or display.EMPTY

    @admin.display(description=_("served from"))
    def superseded_shown(self, payment: Payment) -> SafeString | str:
        return display.payment_link(payment.superseded_by_id)

    @admin.display(description=_("authorization valid before"))
    def valid_before_shown(self, payment: Payment) -> str:
        return display.moment(payment.valid_before)

    @admin.display(description=_("requirements"))
    def requirements_shown(self, payment: Payment) -> SafeString:
        return _json(payment.requirements)

    @admin.display(description=_("payload"))
    def payload_shown(self, payment: Payment) -> SafeString:
        return _json(display.redacted_payload(payment.payload))


@admin.register(PaymentEvent)
class PaymentEventAdmin(MerchantScoped, LedgerAdmin):
    """Every transition of every payment."""

    merchant_path = "payment__merchant"
    list_display = ("at", "payment_id_shown", "from_state", "to_state", "code", "reason", "actor")
    list_filter = ()
    list_select_related = ("payment",)
    date_hierarchy = "at"
    sortable_by = ("at",)
    search_fields = ("payment__public_id",)
    search_help_text = _("The payment's id, the payer's address, a transaction hash or a nonce.")
    search = staticmethod(search_events)
    ordering = ("-pk",)
    fields = (
        "at",
        "payment_link",
        "from_state",
        "to_state",
        "code",
        "reason",
        "actor",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        columns = ("at", "from_state", "to_state", "code", "reason", "actor")
        events: QuerySet[Any] = super().get_queryset(request)
        return events.only(*columns, "payment__public_id", "payment__state")

    @admin.display(description=_("payment"))
    def payment_id_shown(self, event: PaymentEvent) -> str:
        return event.payment.public_id[:12]

    @admin.display(description=_("payment"))
    def payment_link(self, event: PaymentEvent) -> SafeString | str:
        return display.payment_link(event.payment_id)


def _json(value: Any) -> SafeString:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return format_html('<pre class="x402-json">{}</pre>', text)
