"""What was sold to be used later: passes and credits, and each use of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from x402_django.admin import display
from x402_django.admin.base import TabularInline
from x402_django.admin.read_only import LedgerAdmin, NoWrites
from x402_django.admin.scoping import MerchantScoped
from x402_django.models import CreditAccount, CreditEntry, HoldingUse, Pass
from x402_django.payments.holdings import is_good, revoke
from x402_django.pricing.grants import credit_dollars
from x402_django.pricing.money import format_usd

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.utils.safestring import SafeString

#: Of an account, on its page. All of them are in the list of uses.
_ENTRIES_SHOWN = 50


@admin.register(Pass)
class PassAdmin(MerchantScoped, LedgerAdmin):
    """Passes; who may change them may revoke them, and nothing else."""

    list_display = (
        "payment_short",
        "payer_short",
        "created_at",
        "expires_at",
        "uses_shown",
        "good",
    )
    list_select_related = ("payment",)
    search_fields = ("payer",)
    search_help_text = _("The whole address of the payer.")
    fields = (
        "payment_link",
        "payer",
        "what_it_opens",
        "created_at",
        "expires_at",
        "uses_shown",
        "revoked_at",
        "good",
    )
    actions = ("revoke",)  # type: ignore[assignment]

    @staticmethod
    def search(queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return queryset.filter(payer=term)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Who may change passes."""
        return request.user.has_perm("x402_django.change_pass")

    @admin.action(
        description=_("Revoke: it opens nothing any more, and is not paid back"),
        permissions=["revoke"],
    )
    def revoke(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        revoked = revoke(queryset)
        for held in revoked:
            self.log_change(request, held, "Revoked.")
        text = ngettext("%(rows)d pass was revoked.", "%(rows)d passes were revoked.", len(revoked))
        self.message_user(request, text % {"rows": len(revoked)})

    @admin.display(description=_("payment"))
    def payment_link(self, held: Pass) -> SafeString | str:
        return display.payment_link(held.payment_id)

    @admin.display(description=_("payment"))
    def payment_short(self, held: Pass) -> str:
        return str(held.payment)

    @admin.display(description=_("payer"))
    def payer_short(self, held: Pass) -> SafeString | str:
        return display.shorten(held.payer)

    @admin.display(description=_("uses taken"))
    def uses_shown(self, held: Pass) -> str:
        if held.uses is None:
            return _now("any number")
        return _now("%(taken)d of %(uses)d") % {"taken": held.uses_taken, "uses": held.uses}

    @admin.display(description=_("good"), boolean=True)
    def good(self, held: Pass) -> bool:
        return held.payment.is_paid and is_good(held)

    @admin.display(description=_("opens"))
    def what_it_opens(self, held: Pass) -> SafeString | str:
        grant = held.payment.grant or {}
        if grant.get("for_object"):
            return held.payment.resource_url
        return display.lines([*grant.get("keys", ()), *grant.get("pages", ())])


class CreditEntryInline(NoWrites, TabularInline):  # type: ignore[type-arg]
    model = CreditEntry
    fields = ("at", "kind", "amount_usd", "balance_usd", "payment", "use")
    readonly_fields = fields
    extra = 0
    ordering = ("-pk",)

    def get_queryset(self, request: HttpRequest) -> Any:
        """The newest of the account whose page it is."""
        rows = super().get_queryset(request)
        match = request.resolver_match
        account = match.kwargs.get("object_id") if match is not None else None
        newest = CreditEntry.objects.filter(account=account).order_by("-pk")
        return rows.filter(pk__in=list(newest.values_list("pk", flat=True)[:_ENTRIES_SHOWN]))

    @admin.display(description=_("US dollars"))
    def amount_usd(self, entry: CreditEntry) -> str:
        sign = "−" if entry.amount < 0 else "+"
        return sign + format_usd(credit_dollars(abs(entry.amount)))

    @admin.display(description=_("balance after it"))
    def balance_usd(self, entry: CreditEntry) -> str:
        return format_usd(credit_dollars(entry.balance))


@admin.register(CreditAccount)
class CreditAccountAdmin(MerchantScoped, LedgerAdmin):
    """What payers have bought and not yet spent."""

    list_display = ("payer_short", "network_short", "balance_shown", "created_at")
    search_fields = ("payer",)
    search_help_text = _("The whole address of the payer.")
    fields = ("payer", "network_short", "balance_shown", "created_at")
    inlines = (CreditEntryInline,)

    @staticmethod
    def search(queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return queryset.filter(payer=term)

    @admin.display(description=_("payer"))
    def payer_short(self, account: CreditAccount) -> SafeString | str:
        return display.shorten(account.payer)

    @admin.display(description=_("network"))
    def network_short(self, account: CreditAccount) -> str:
        return display.network_label(account.network)

    @admin.display(description=_("balance"))
    def balance_shown(self, account: CreditAccount) -> str:
        return format_usd(account.balance_usd)


@admin.register(HoldingUse)
class HoldingUseAdmin(MerchantScoped, LedgerAdmin):
    """Requests that were let in by passes of so many uses, or paid out of credits."""

    merchant_path = "merchant"
    list_display = ("started_at", "what", "rule_name", "resource_short", "charged_shown", "state")
    list_filter = ("state",)
    list_select_related = ("account",)
    deferred = ("response_headers", "response_body")
    fields = (
        "public_id",
        "what",
        "state",
        "started_at",
        "ended_at",
        "charged_shown",
        "rule_name",
        "request_method",
        "resource_url",
        "response_status",
    )

    @admin.display(description=_("out of"))
    def what(self, use: HoldingUse) -> str:
        return _now("credits") if use.account_id is not None else _now("pass")

    @admin.display(description=_("resource"))
    def resource_short(self, use: HoldingUse) -> str:
        return display.path_of(use.resource_url)

    @admin.display(description=_("charged"))
    def charged_shown(self, use: HoldingUse) -> str:
        if use.account_id is None:
            return display.EMPTY
        return format_usd(credit_dollars(use.held if use.charged is None else use.charged))
