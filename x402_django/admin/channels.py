"""Payment channels and the claims from them: to look at, never to edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext_lazy as _

from x402_django.admin import display
from x402_django.admin.columns import ChainColumns
from x402_django.admin.filters import NetworkFilter
from x402_django.admin.read_only import LedgerAdmin
from x402_django.admin.scoping import MerchantScoped, SiteOwned
from x402_django.models import ChannelClaim, PaymentChannel
from x402_django.pricing.money import format_amount

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.utils.safestring import SafeString

#: Of a channel, on its page. All of them are in the list of payments.
_USES_SHOWN = 50


class _Units(ChainColumns):
    """And amounts of a row's token, as people read them."""

    def units(self, row: PaymentChannel | ChannelClaim, units: int | None) -> str:
        if units is None:
            return display.EMPTY
        return format_amount(int(units), row.asset_decimals, row.asset_symbol)


@admin.register(PaymentChannel)
class PaymentChannelAdmin(MerchantScoped, _Units, LedgerAdmin):
    """What payers have deposited, and what of it is spent and claimed."""

    list_display = (
        "channel_short",
        "payer_short",
        "balance_shown",
        "charged_shown",
        "unclaimed_shown",
        "used_at",
        "network_short",
    )
    list_filter = (NetworkFilter,)
    search_fields = ("payer",)
    search_help_text = _("The whole address of the payer, or the name of the channel.")
    deferred = ("signature",)
    fields = (
        "channel_id",
        "network_shown",
        "token_link",
        "payer_link",
        "payer_authorizer",
        "pay_to_link",
        "receiver_authorizer",
        "balance_shown",
        "charged_shown",
        "claimed_shown",
        "unclaimed_shown",
        "remaining_shown",
        "unclaimed_since",
        "withdraw_delay",
        "withdrawal_at",
        "transaction_shown",
        "created_at",
        "used_at",
        "read_at",
        "payments_shown",
    )

    @staticmethod
    def search(queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        name = "channel_id" if len(term) > 42 else "payer"
        return queryset.filter(**{name: term.lower() if name == "channel_id" else term})

    @admin.display(description=_("channel"))
    def channel_short(self, row: PaymentChannel) -> SafeString | str:
        return display.shorten(row.channel_id)

    @admin.display(description=_("payer"))
    def payer_short(self, row: PaymentChannel) -> SafeString | str:
        return display.shorten(row.payer)

    @admin.display(description=_("payer"))
    def payer_link(self, row: PaymentChannel) -> SafeString | str:
        return display.address_link(row.network, row.payer)

    @admin.display(description=_("deposited"))
    def balance_shown(self, row: PaymentChannel) -> str:
        return self.units(row, row.balance)

    @admin.display(description=_("spent"))
    def charged_shown(self, row: PaymentChannel) -> str:
        return self.units(row, row.charged)

    @admin.display(description=_("claimed"))
    def claimed_shown(self, row: PaymentChannel) -> str:
        return self.units(row, row.claimed)

    @admin.display(description=_("to be claimed"))
    def unclaimed_shown(self, row: PaymentChannel) -> SafeString | str:
        shown = self.units(row, row.unclaimed)
        if row.withdrawal_at is None or not row.unclaimed:
            return shown
        return format_html(
            "{} {}", shown, display.badge("attention", str(_("withdrawal asked for")))
        )

    @admin.display(description=_("left"))
    def remaining_shown(self, row: PaymentChannel) -> str:
        return self.units(row, row.remaining)

    @admin.display(description=_("payments"))
    def payments_shown(self, row: PaymentChannel) -> SafeString | str:
        """The newest, each with what was spent in all with it."""
        uses = row.uses.select_related("payment").order_by("-cumulative")
        columns = ("cumulative", "payment__public_id", "payment__state", "payment__kind")
        lines = (
            (
                display.object_link(use.payment),
                use.payment.get_state_display(),
                self.units(row, use.cumulative),
            )
            for use in uses.only(*columns)[:_USES_SHOWN]
        )
        return format_html_join("", "<div>{} – {}, {}</div>", lines) or display.EMPTY


@admin.register(ChannelClaim)
class ChannelClaimAdmin(SiteOwned, _Units, LedgerAdmin):
    """What was claimed from channels, and sent to payees: one transaction each."""

    list_display = (
        "public_id",
        "state",
        "amount_shown",
        "pay_to_short",
        "created_at",
        "network_short",
    )
    list_filter = ("state", NetworkFilter)
    list_select_related = ("chain_transaction",)
    fields = (
        "public_id",
        "state",
        "network_shown",
        "token_link",
        "pay_to_link",
        "amount_shown",
        "moved_shown",
        "chain_transaction_link",
        "transaction_shown",
        "block_number",
        "created_at",
        "items_shown",
    )

    @admin.display(description=_("amount"))
    def amount_shown(self, row: ChannelClaim) -> str:
        return self.units(row, row.amount)

    @admin.display(description=_("moved"))
    def moved_shown(self, row: ChannelClaim) -> str:
        return self.units(row, row.moved)

    @admin.display(description=_("paid to"))
    def pay_to_short(self, row: ChannelClaim) -> SafeString | str:
        return display.shorten(row.pay_to)

    @admin.display(description=_("chain transaction"))
    def chain_transaction_link(self, row: ChannelClaim) -> SafeString | str:
        return display.object_link(row.chain_transaction)

    @admin.display(description=_("channels"))
    def items_shown(self, row: ChannelClaim) -> SafeString | str:
        """Each with what of it was claimed."""
        items = row.items.select_related("channel").order_by("pk")
        lines = (
            (
                display.object_link(item.channel),
                self.units(row, int(item.up_to) - int(item.before)),
            )
            for item in items
        )
        return format_html_join("", "<div>{}: {}</div>", lines) or display.EMPTY
