"""Settlement wallets and what they sent: to look at, never to edit."""

from __future__ import annotations

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from x402_django.admin import display
from x402_django.admin.filters import NetworkFilter
from x402_django.admin.read_only import LedgerAdmin
from x402_django.admin.scoping import SiteOwned
from x402_django.admin.search import search_chain_transactions
from x402_django.admin.wallet_warning import WarnsOfLowWallets
from x402_django.models import ChainTransaction, SettlementWallet
from x402_django.pricing.money import format_amount
from x402_django.protocol import networks

_WEI_DECIMALS = 18
_GWEI_DECIMALS = 9


@admin.register(ChainTransaction)
class ChainTransactionAdmin(SiteOwned, WarnsOfLowWallets, LedgerAdmin):
    """The outbox. ``raw``, the signed bytes, is not shown: whoever holds it can send it."""

    list_display = (
        "hash_short",
        "status",
        "wallet_short",
        "nonce",
        "payments_count",
        "fee_shown",
        "created_at",
        "mined_at",
        "sends",
        "last_error",
        "network_short",
    )
    list_filter = ("status", NetworkFilter)
    date_hierarchy = "created_at"
    sortable_by = ("created_at",)
    search_fields = ("hash",)
    search_help_text = _("A transaction hash.")
    search = staticmethod(search_chain_transactions)
    deferred = ("raw",)
    fields = (
        "hash_link",
        "status",
        "network_shown",
        "wallet_link",
        "nonce",
        "to_link",
        "value_shown",
        "payment_links",
        "prepares_link",
        "replaced_shown",
        "created_at",
        "sent_at",
        "sends",
        "last_error",
        "mined_at",
        "block_number",
        "gas_limit",
        "gas_used",
        "maximum_fee_shown",
        "fee_shown",
    )

    @admin.display(description=_("hash"))
    def hash_short(self, row: ChainTransaction) -> SafeString | str:
        return display.shorten(row.hash)

    @admin.display(description=_("hash"))
    def hash_link(self, row: ChainTransaction) -> SafeString | str:
        return display.transaction_link(row.network, row.hash)

    @admin.display(description=_("network"))
    def network_short(self, row: ChainTransaction) -> str:
        return networks.display_name(row.network)

    @admin.display(description=_("network"))
    def network_shown(self, row: ChainTransaction) -> str:
        return display.network_label(row.network)

    @admin.display(description=_("wallet"))
    def wallet_short(self, row: ChainTransaction) -> SafeString | str:
        return display.shorten(row.wallet)

    @admin.display(description=_("wallet"))
    def wallet_link(self, row: ChainTransaction) -> SafeString | str:
        return display.address_link(row.network, row.wallet)

    @admin.display(description=_("to"))
    def to_link(self, row: ChainTransaction) -> SafeString | str:
        return display.address_link(row.network, row.to)

    @admin.display(description=_("payments"))
    def payment_links(self, row: ChainTransaction) -> SafeString | str:
        """Each with its place, and what became of it there."""
        items = row.items.select_related("payment").order_by("position")
        items = items.only(
            "position", "status", "payment__public_id", "payment__state", "payment__kind"
        )
        lines = (
            (item.position + 1, display.object_link(item.payment), item.get_status_display())
            for item in items
        )
        return format_html_join("", "<div>{}. {} – {}</div>", lines) or display.EMPTY

    @admin.display(description=_("prepares the settlement of"))
    def prepares_link(self, row: ChainTransaction) -> SafeString | str:
        return display.payment_link(row.prepares_id)

    @admin.display(description=_("replaced for a higher fee"))
    def replaced_shown(self, row: ChainTransaction) -> SafeString | str:
        """The earlier forms, with the fee that was too low."""
        lines = (
            (one.hash, format_amount(one.max_fee_per_gas, _GWEI_DECIMALS, "gwei"))
            for one in row.replaced.only("hash", "max_fee_per_gas")
        )
        return format_html_join("", "<div>{} ({})</div>", lines) or display.EMPTY

    @admin.display(description=_("maximum fee per gas"))
    def maximum_fee_shown(self, row: ChainTransaction) -> str:
        return format_amount(row.max_fee_per_gas, _GWEI_DECIMALS, "gwei")

    @admin.display(description=_("sent along"))
    def value_shown(self, row: ChainTransaction) -> str:
        """Ether for a payer's own transaction, in the network's own coin."""
        return format_amount(row.value, _WEI_DECIMALS) if row.value else display.EMPTY

    @admin.display(description=_("fee paid"))
    def fee_shown(self, row: ChainTransaction) -> str:
        """Gas used times its price, in the network's own coin (every EVM coin has 18 decimals)."""
        if row.gas_used is None or row.effective_gas_price is None:
            return display.EMPTY
        return format_amount(row.gas_used * row.effective_gas_price, _WEI_DECIMALS)


@admin.register(SettlementWallet)
class SettlementWalletAdmin(SiteOwned, WarnsOfLowWallets, LedgerAdmin):
    """The site's own wallets, their next nonces, and their money for gas."""

    list_display = ("address", "network_shown", "next_nonce", "balance_shown", "balance_at")
    fields = (
        "address_link",
        "network_shown",
        "next_nonce",
        "balance_shown",
        "balance_at",
        "low_balance_shown",
    )

    @admin.display(description=_("address"))
    def address_link(self, wallet: SettlementWallet) -> SafeString | str:
        return display.address_link(wallet.network, wallet.address)

    @admin.display(description=_("balance"))
    def balance_shown(self, wallet: SettlementWallet) -> SafeString | str:
        """In the network's own coin, as the periodic task last saw it."""
        if wallet.balance is None:
            return display.EMPTY
        shown = format_amount(wallet.balance, _WEI_DECIMALS)
        if not wallet.is_low:
            return shown
        badge = '{} <span class="x402-badge x402-badge-attention">{}</span>'
        return format_html(badge, shown, _("low"))

    @admin.display(description=_("warned below"))
    def low_balance_shown(self, wallet: SettlementWallet) -> str:
        if wallet.low_balance is None:
            return display.EMPTY
        return format_amount(wallet.low_balance, _WEI_DECIMALS)

    @admin.display(description=_("network"))
    def network_shown(self, wallet: SettlementWallet) -> str:
        return display.network_label(wallet.network)
